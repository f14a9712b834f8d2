"""The report as Markdown with pictures, to be shown where no page can be."""

from collections.abc import Sequence
from pathlib import Path

from dqmq_env.benchmark.plots import plot_bits_heat_map
from dqmq_env.benchmark.report.content import SECTIONS, TITLE, Content, TaskContent
from dqmq_env.benchmark.report.panels import panels
from dqmq_env.benchmark.report.pictures import draw_curves, draw_panels, draw_profiles
from dqmq_env.benchmark.report.summary import (
    bits_maps,
    by_agent,
    cost_names,
    splits,
)
from dqmq_env.benchmark.report.tables import (
    Table,
    comparison_table,
    cost_table,
    cost_title,
    job_table,
    source_table,
    task_tables,
    verdict_table,
)


def markdown(content: Content, pictures: Path) -> str:
    """The report; its pictures are written on the way.

    Args:
        content: what it shows.
        pictures: their folder, beside the file that the text goes to.
    """
    runs = content.read.runs
    bodies = {
        "verdicts": _verdicts(content),
        "curves": [_curves(own, content, pictures) for own in content.tasks],
        "profiles": _profiles(content, pictures),
        "accuracy": [line for own in content.tasks for line in _panels(own, content, pictures)],
        "bits": [line for own in content.tasks for line in _bits(own, pictures)],
        "tasks": [_table(table) for own in content.tasks for table in task_tables(own)],
        "costs": [_table(cost_table(runs))],
        "made": [
            _table(source_table(runs)),
            _table(job_table(runs)),
            f"Made by `{content.command}`.",
        ],
    }
    parts = [f"# {TITLE}", content.lead]
    if content.warnings:
        parts.append("\n".join(f"> * {_plain(text)}" for text in content.warnings))
    for name, (title, reading) in SECTIONS.items():
        parts += [f"## {title}", reading, *bodies[name]]
    return "\n\n".join(parts) + "\n"


def _verdicts(content: Content) -> list[str]:
    parts = []
    for own in content.groups:
        scale = own.group.scale
        parts += [f"### {scale.title}", f"Score: {scale.meaning}."]
        parts.append(_table(verdict_table(own.group, own.verdicts, content.reference)))
        if content.reference in own.group.agents:
            parts.append(_table(comparison_table(own.group, own.verdicts, content.reference)))
    return parts


def _curves(own: TaskContent, content: Content, folder: Path) -> str:
    share = own.uniform.share
    level = own.uniform.reward if share is None else share
    path = folder / f"curves-{own.slug}.png"
    title = f"Best tried so far: {own.task}"
    draw_curves(own.curves, content.looks, level.value, share is not None, path, title)
    return _image(path, f"Learning curves on {own.task}")


def _profiles(content: Content, folder: Path) -> list[str]:
    found = []
    for own in content.groups:
        if own.profiles:
            path = folder / f"profiles-{own.group.scale.slug}.png"
            title = f"Share of runs above each score: {own.group.scale.title.lower()}"
            draw_profiles(own.group, own.places, own.profiles, content.looks, path, title)
            found.append(_image(path, title))
    return found


def _panels(own: TaskContent, content: Content, folder: Path) -> list[str]:
    cost = cost_names(own.runs)[0]
    found = []
    for split in splits(own.runs):
        path = folder / f"accuracy-{split}-{own.slug}.png"
        kind = "Accuracy after fine-tuning" if split == "tuned" else "Accuracy"
        title = f"{kind} against cost: {own.task}"
        shown = panels(own.runs, split, cost)
        draw_panels(shown, content.looks, cost_title(cost), "test accuracy", path, title)
        found.append(_image(path, title))
    return found


def _bits(own: TaskContent, folder: Path) -> list[str]:
    """Of the agent with the highest reward."""
    best = own.means[0].agent
    found = []
    for what, bits in bits_maps(by_agent(own.runs)[best]).items():
        path = folder / f"{what.replace(' ', '-')}-{own.slug}.png"
        title = f"{what.capitalize()}, {best}: {own.task}"
        plot_bits_heat_map(bits.bits, bits.layers, bits.conditions, path, title=title)
        found.append(_image(path, title))
    return found


def _image(path: Path, text: str) -> str:
    return f"![{_plain(text)}]({path.parent.name}/{path.name})"


def _table(table: Table) -> str:
    numeric = [
        all(row[place].order is not None for row in table.rows) for place in range(len(table.heads))
    ]
    rules = ["---:" if own else "---" for own in numeric]
    rows: Sequence[Sequence[str]] = [
        table.heads,
        rules,
        *([cell.text for cell in row] for row in table.rows),
    ]
    lines = [f"| {' | '.join(_plain(text) for text in row)} |" for row in rows]
    return "\n".join([_plain(table.caption), "", *lines])


def _plain(text: str) -> str:
    """Without what Markdown would take for its own."""
    for own in "\\|<[]*_`":
        text = text.replace(own, f"\\{own}")
    return text
