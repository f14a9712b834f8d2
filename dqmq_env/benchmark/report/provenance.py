"""How results came about, and what a reader should be warned of."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from dqmq_env.benchmark.report.groups import Group
from dqmq_env.benchmark.report.runs import Run, Runs
from dqmq_env.benchmark.report.summary import by_agent, by_task

FEW_SEEDS = 10


@dataclass(frozen=True)
class Source:
    """Runs that were made alike.

    Attributes:
        version: of the package.
        source: digest of its source code.
        machine: processor and versions of packages, as one line.
        runs: their number.
    """

    version: str
    source: str
    machine: str
    runs: int


def sources(runs: Sequence[Run]) -> list[Source]:
    """Every way that runs were made."""
    ways = Counter(
        (
            run.result.job.version,
            run.result.source,
            ", ".join(f"{name} {value}" for name, value in sorted(run.result.machine.items())),
        )
        for run in runs
    )
    return [Source(*way, count) for way, count in sorted(ways.items())]


def warnings(read: Runs, groups: Sequence[Group], reference: str | None) -> list[str]:
    """What stands in the way of a firm conclusion, each in a sentence or two."""
    found = [f"Left out, as it is damaged: {line}." for line in read.damaged]
    found += read.missing
    found += _mixed(read.runs)
    found += _seeds(read.runs)
    for group in groups:
        found += _gaps(group, reference)
    for task, runs in by_task(read.runs).items():
        counts = sorted({run.result.job.evaluations for run in runs})
        if len(counts) > 1:
            found.append(
                f"Runs of {task} were given different numbers of evaluations: "
                f"{', '.join(f'{count:,}' for count in counts)}."
            )
    return found


def _mixed(runs: Sequence[Run]) -> list[str]:
    """More than one version, or more than one state of the same source code."""
    versions = {run.result.job.version for run in runs}
    digests: defaultdict[str, set[str]] = defaultdict(set)
    for run in runs:
        # a digest is over dqmq_env and the package that the agent is in
        digests[run.result.job.agent.partition(":")[0].partition(".")[0]].add(run.result.source)
    mixed = [f"{len(versions)} versions of the package"] if len(versions) > 1 else []
    mixed += [
        f"{len(own)} states of the source code of {package}"
        for package, own in sorted(digests.items())
        if len(own) > 1
    ]
    return [
        f"Results of {what} are mixed: differences between agents may be differences between these."
        for what in mixed
    ]


def _seeds(runs: Sequence[Run]) -> list[str]:
    fewest = min(
        (len({run.seed for run in own}), agent)
        for group in by_task(runs).values()
        for agent, own in by_agent(group).items()
    )
    if fewest[0] >= FEW_SEEDS:
        return []
    count = f"{fewest[0]} seed" + "s" * (fewest[0] > 1)
    return [
        f"Few seeds: {fewest[1]} has {count} on a task; with fewer than {FEW_SEEDS}, intervals are "
        "too narrow and few claims hold."
    ]


def _gaps(group: Group, reference: str | None) -> list[str]:
    """Agents that cannot be compared, because tasks are missing."""
    missing = {
        agent: len(group.tasks) - len(group.of(agent))
        for agent in group.agents
        if len(group.of(agent)) < len(group.tasks)
    }
    found = [
        f"{group.scale.title}: {agent} lacks {count} of {len(group.tasks)} tasks, its aggregates "
        "are over the others alone."
        for agent, count in missing.items()
    ]
    if reference not in group.agents:
        who = "there are no runs of random search" if reference is None else f"{reference} has none"
        found.append(f"{group.scale.title}: {who}, so that agents are not compared with it.")
    return found


@dataclass(frozen=True)
class Made:
    """The jobs of an agent on a task.

    Attributes:
        agent: its name.
        task: where it ran, with all arguments.
        kind: ``module:Class``.
        settings: those that are not the defaults, as text.
        evaluations: how many each job may spend.
        seeds: of the jobs, as text.
    """

    agent: str
    task: str
    kind: str
    settings: str
    evaluations: str
    seeds: str


def jobs(runs: Sequence[Run]) -> list[Made]:
    """What was run, by task and agent."""
    found: defaultdict[tuple[str, str, str, str], list[Run]] = defaultdict(list)
    for run in runs:
        job = run.result.job
        parts = [f"{name}={value}" for name, value in sorted(job.settings.items())]
        parts += [f"{name}={value}" for name, value in sorted((job.fine_tune or {}).items())]
        found[job.task, run.agent, job.agent, ", ".join(parts)].append(run)
    return [
        Made(
            agent,
            task,
            kind,
            settings or "defaults",
            ", ".join(f"{n:,}" for n in sorted({run.result.job.evaluations for run in own})),
            _ranges(sorted({run.seed for run in own})),
        )
        for (task, agent, kind, settings), own in sorted(found.items())
    ]


def _ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers in short: ``0-9, 20``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(str(p[0]) if len(p) == 1 else f"{p[0]}-{p[-1]}" for p in parts)
