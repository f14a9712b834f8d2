"""The report as one page that needs nothing else: no other file, no network."""

import json
from collections.abc import Iterable, Sequence
from html import escape

from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

from dqmq_env.benchmark.report.content import SECTIONS, TITLE, Content, TaskContent
from dqmq_env.benchmark.report.figures import SIGNS, Figure, Looks, Plot
from dqmq_env.benchmark.report.page import SCRIPT, STYLE
from dqmq_env.benchmark.report.panel_plots import accuracy_figure
from dqmq_env.benchmark.report.panels import panels
from dqmq_env.benchmark.report.plots import (
    bits_figure,
    distance_figure,
    profile_figure,
    reward_figure,
    share_figure,
)
from dqmq_env.benchmark.report.summary import (
    bits_maps,
    by_agent,
    cost_names,
    splits,
)
from dqmq_env.benchmark.report.tables import (
    Cell,
    Table,
    comparison_table,
    cost_table,
    cost_title,
    job_table,
    source_table,
    task_tables,
    verdict_table,
)

_SPLITS = {"test": "test accuracy", "tuned": "test accuracy after fine-tuning"}

# the page may not ask any other place for anything
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)


def page(content: Content) -> str:
    """The whole page.

    Args:
        content: what it shows.
    """
    plots: list[Plot] = []
    bodies = {
        "verdicts": _verdicts(content),
        "curves": _place_all(_learning_plots(content), plots),
        "profiles": _place_all(_profile_plots(content), plots),
        "accuracy": _place_all([_accuracy_plot(content)], plots),
        "bits": _place_all([_bits_plot(content)], plots),
        "tasks": _tables(
            (table for own in content.tasks for table in task_tables(own)), content.looks
        ),
        "costs": _tables([cost_table(content.read.runs)], content.looks),
        "made": _made(content),
    }
    sections = "".join(
        f'<section aria-labelledby="{name}">\n<h2 id="{name}">{title}</h2>\n'
        f'<p class="reading">{reading}</p>\n{bodies[name]}</section>\n'
        for name, (title, reading) in SECTIONS.items()
    )
    links = "".join(
        f'<li><a href="#{name}">{title}</a></li>\n' for name, (title, _) in SECTIONS.items()
    )
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{TITLE}: {escape(', '.join(content.read.folders))}</title>\n"
        f"<style>{STYLE}</style>\n</head>\n<body>\n"
        '<a class="skip" href="#main">Skip to the report</a>\n<div class="frame">\n'
        f'<nav aria-label="Contents">\n<ul>\n{links}</ul>\n</nav>\n<main id="main">\n'
        f'<h1>{TITLE}</h1>\n<p class="lead">{escape(content.lead)}</p>\n{_warnings(content)}'
        '<noscript><p class="warning">Plots need JavaScript; the tables, <code>runs.csv</code> '
        f"and <code>report.md</code> do not.</p></noscript>\n{sections}</main>\n</div>\n"
        f'<script type="application/json" id="plots">{_embedded(plots)}</script>\n'
        f"<script>{get_plotlyjs()}</script>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _embedded(plots: Sequence[Plot]) -> str:
    """All figures as JSON that cannot end the element that it stands in."""
    data = {
        plot.name: {
            ",".join(
                str(texts.index(text)) for text, (_, texts) in zip(key, plot.choices, strict=True)
            ): figure
            for key, figure in plot.figures.items()
        }
        for plot in plots
    }
    text = json.dumps(data, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return text.replace("<", "\\u003c")


def _warnings(content: Content) -> str:
    if not content.warnings:
        return ""
    items = "".join(f"<li>{escape(text)}</li>\n" for text in content.warnings)
    return f'<div class="warning" role="note"><strong>Mind</strong>\n<ul>\n{items}</ul>\n</div>\n'


def _verdicts(content: Content) -> str:
    parts = []
    for own in content.groups:
        scale = own.group.scale
        parts.append(f"<h3>{scale.title}</h3>\n<p>Score: {escape(scale.meaning)}.</p>\n")
        found = [verdict_table(own.group, own.verdicts, content.reference)]
        if content.reference in own.group.agents:
            found.append(comparison_table(own.group, own.verdicts, content.reference))
        parts.append(_tables(found, content.looks))
    return "".join(parts)


def _made(content: Content) -> str:
    runs = content.read.runs
    return (
        _tables([source_table(runs), job_table(runs)], content.looks)
        + "<p>This page, the same from the same results:</p>\n"
        + f"<pre><code>{escape(content.command)}</code></pre>\n"
        + "<p><code>runs.csv</code> has a row for each run and condition, <code>curves.csv</code> "
        "every point of every curve, both in full precision.</p>\n"
    )


def _learning_plots(content: Content) -> list[Plot]:
    found = []
    for own in content.tasks:
        figures = _learning_figures(own, content.looks)
        choices = (("shown", tuple(name for (name,) in figures)),)
        label = f"Learning curves on {own.task}"
        found.append(Plot(f"curves-{own.slug}", label, choices, figures))
    return found


def _learning_figures(own: TaskContent, looks: Looks) -> dict[tuple[str, ...], Figure]:
    share = own.uniform.share
    if share is None:
        return {("reward",): reward_figure(own.curves, looks, own.uniform.reward.value)}
    return {
        ("share of the optimum's reward",): share_figure(own.curves, looks, share.value),
        ("distance to the optimum, log scale",): distance_figure(own.curves, looks, share.value),
    }


def _profile_plots(content: Content) -> list[Plot]:
    return [
        Plot(
            f"profiles-{own.group.scale.slug}",
            f"{own.group.scale.title}: share of runs above each score",
            (),
            {(): profile_figure(own.group, own.places, own.profiles, content.looks)},
        )
        for own in content.groups
        if own.profiles
    ]


def _accuracy_plot(content: Content) -> Plot:
    figures: dict[tuple[str, ...], Figure] = {}
    for own in content.tasks:
        cost = cost_names(own.runs)[0]
        for split in splits(own.runs):
            figure = accuracy_figure(
                panels(own.runs, split, cost), content.looks, cost_title(cost), _SPLITS[split]
            )
            figures[own.task, _SPLITS[split]] = figure
    tasks, shown = (_distinct(key[place] for key in figures) for place in range(2))
    choices = (("task", tasks), ("shown", shown))
    return Plot("accuracy", "Accuracy against cost under each condition", choices, figures)


def _bits_plot(content: Content) -> Plot:
    figures: dict[tuple[str, ...], Figure] = {}
    for own in content.tasks:
        runs = by_agent(own.runs)
        for agent in [row.agent for row in own.means]:
            for what, bits in bits_maps(runs[agent]).items():
                figures[own.task, agent, what] = bits_figure(bits, what)
    columns = [_distinct(key[place] for key in figures) for place in range(3)]
    choices = tuple(zip(("task", "agent", "shown"), columns, strict=True))
    return Plot("bits", "Bits of each layer under each condition", choices, figures)


def _distinct(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))


def _place_all(found: Sequence[Plot], plots: list[Plot]) -> str:
    """Where plots are drawn; they join all those of the page."""
    plots += found
    return "".join(_place(plot) for plot in found)


def _place(plot: Plot) -> str:
    height = max(int(figure["layout"]["height"]) for figure in plot.figures.values())
    selects = "".join(
        f"<label{' hidden' * (len(texts) == 1)}>{escape(what)} "
        f"<select>{_options(texts)}</select></label>\n"
        for what, texts in plot.choices
    )
    label = escape(plot.label)
    return (
        f'<figure data-plot="{plot.name}">\n<figcaption>{label}</figcaption>\n'
        f'<div class="choices">{selects}</div>\n<p class="missing" hidden>No runs of this kind.</p>'
        f'\n<div class="scroll"><div class="plot" id="plot-{plot.name}" role="img" '
        f'aria-label="{label}" style="min-height:{height}px"></div></div>\n</figure>\n'
    )


def _options(texts: Sequence[str]) -> str:
    return "".join(
        f'<option value="{place}">{escape(text)}</option>' for place, text in enumerate(texts)
    )


def _tables(tables: Iterable[Table], looks: Looks) -> str:
    return "".join(_table(table, looks) for table in tables)


def _table(table: Table, looks: Looks) -> str:
    numeric = [
        all(row[place].order is not None for row in table.rows) for place in range(len(table.heads))
    ]
    heads = "".join(
        f'<th scope="col"{_kind(own)}><button type="button">{escape(head)}</button></th>'
        for head, own in zip(table.heads, numeric, strict=True)
    )
    rows = "".join(
        "<tr>"
        + "".join(_cell(cell, own, looks) for cell, own in zip(row, numeric, strict=True))
        + "</tr>\n"
        for row in table.rows
    )
    return (
        f'<div class="scroll"><table>\n<caption>{escape(table.caption)}</caption>\n'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n"
    )


def _cell(cell: Cell, numeric: bool, looks: Looks) -> str:
    sign = _sign(looks[cell.text]) if cell.text in looks else ""
    order = ""
    if cell.order is not None:
        order = f' data-order="{str(float(cell.order)).replace("inf", "Infinity")}"'
    return f"<td{_kind(numeric)}{order}>{sign}{escape(cell.text)}</td>"


def _sign(look: tuple[str, str]) -> str:
    """The marker that the agent has in plots."""
    colour, marker = look
    return f'<span class="sign" style="color:{colour}" aria-hidden="true">{SIGNS[marker][1]}</span>'


def _kind(numeric: bool) -> str:
    return ' class="number"' if numeric else ""
