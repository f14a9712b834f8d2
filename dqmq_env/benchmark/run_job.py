"""Runs a job: makes searcher and environment, searches, and scores what was found."""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from dqmq_env.benchmark.job import Job, Result, Score
from dqmq_env.benchmark.provenance import machine, source_digest
from dqmq_env.benchmark.resolve import environment_of, schedule_of, searcher_of
from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.errors import ResultError
from dqmq_env.problem.protocol import Outcome, Problem
from dqmq_env.problem.table_problem import TableProblem
from dqmq_env.quality.condition import Condition
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.search.meter import MeteredProblem, Trial
from dqmq_env.search.rule import Rule, rule_of
from dqmq_env.search.space import Space
from dqmq_env.search.target import targets_of
from dqmq_env.task.budget import ROUNDING
from dqmq_env.task.task import Task

if TYPE_CHECKING:
    from dqmq_env.problem.network_problem import NetworkProblem

_STEPS = (1, 2, 5)


def run_job(job: Job, folder: Path | None = None) -> Result:
    """Search as the job says, and score the rule that comes of it.

    Args:
        job: which.
        folder: of the states of fine-tuning, from which a run that was killed goes on, and which
            jobs share that found the same; nothing is kept when left out.

    Raises:
        DQMQError: the job cannot be run, or its searcher asks for what it may not have.
    """
    searcher_of(job)  # a wrong one should be refused before any long work
    return run_in(environment_of(job), job, folder)


def run_in(env: BitWidthEnv, job: Job, folder: Path | None = None) -> Result:
    """The same in an environment that is there already; ``test`` is looked at only here.

    Args:
        env: what the job's id and arguments stand for, or one over a problem of one's own.
        job: which.
        folder: see :func:`run_job`.

    Raises:
        DQMQError: as :func:`run_job`.
    """
    searcher = searcher_of(job)
    problem, task = env.problem, env.core.task
    metered = MeteredProblem(problem, job.evaluations)
    start = time.perf_counter()
    agent = searcher.search(metered, task, job.evaluations, job.seed)
    seconds = time.perf_counter() - start
    rule = rule_of(agent, problem, task)
    scores = scores_of(rule, problem, task)
    bits, plain = best_uniform(env)
    uniform = list(plain)
    if job.fine_tune is not None:
        scores = tuned_scores(job, scores, rule, problem, folder)
        uniform = tuned_scores(job, uniform, bits, problem, folder)
    return Result(
        job=job,
        rule=rule.to_dict(),
        scores=scores,
        uniform=uniform,
        curve=curve_of(metered.trials, metered.spent.evaluations, problem, task),
        spent=asdict(metered.spent),
        seconds=seconds,
        images=_images(problem),
        source=source_digest(job.agent.partition(":")[0]),
        machine=machine(),
    )


def scores_of(rule: Rule, problem: Problem, task: Task) -> list[Score]:
    """How a rule does under each condition of the problem's mixture.

    Raises:
        SearchError: an assignment of the rule does not keep to the budget.
    """
    targets = targets_of("condition", MeteredProblem(problem), task)
    scores = []
    for target, share in zip(targets, problem.mixture.probabilities, strict=True):
        (condition,) = target.mixture.conditions
        assignment = rule[condition]
        answer = target.answer(assignment)
        scores.append(
            Score(
                condition=str(condition),
                share=share,
                reward=answer.reward,
                accuracy=answer.accuracy,
                test=float(problem.evaluate(assignment, condition, "test").accuracy[0]),
                costs=problem.cost(assignment),
                optimum=_optimum(problem, condition, task),
            )
        )
    return scores


@lru_cache(maxsize=1)  # all jobs of a task ask for it
def best_uniform(env: BitWidthEnv) -> tuple[Rule, tuple[Score, ...]]:
    """Uniform bits and their scores: of the widths that keep to the budget, the highest reward."""
    problem, task = env.problem, env.core.task
    space = Space(problem, task)
    (target,) = targets_of("all", MeteredProblem(problem), task)
    every = [space.assignment(places) for places in space.uniforms()]
    best = max(every, key=lambda assignment: target.answer(assignment).reward)
    rule = Rule.static(problem, best)
    return rule, tuple(scores_of(rule, problem, task))


def training_folder(job: Job, rule: Rule, folder: Path) -> Path:
    """Where fine-tuning keeps its state: by all that its numbers depend on, and nothing else."""
    schedule = asdict(schedule_of(job))
    parts = {"id": job.id, "env": dict(job.env), "schedule": schedule, "rule": rule.to_dict()}
    text = json.dumps(parts, sort_keys=True)
    return folder / hashlib.sha256(text.encode()).hexdigest()[:24]


def tuned_scores(
    job: Job, scores: Sequence[Score], rule: Rule, problem: Problem, folder: Path | None
) -> list[Score]:
    """The scores with ``tuned``: accuracy on ``test`` after training at the bits of a rule.

    Args:
        job: gives the schedule.
        scores: of the rule without training.
        rule: the bits under each condition.
        problem: has a network.
        folder: of the states of training.

    Raises:
        ResultError: the problem has no network.
    """
    if isinstance(problem, TableProblem):
        raise ResultError(f"fine_tune: {job.id} has no network to train")
    from dqmq_env.evaluation.report import evaluate
    from dqmq_env.training.fine_tune import fine_tune

    live = cast("NetworkProblem", problem)
    own_folder = None if folder is None else training_folder(job, rule, folder)
    trained = fine_tune(live, rule, schedule_of(job), own_folder)
    layers = [spec.name for spec in live.layers]
    found = []
    for score in scores:
        condition = Condition.parse(score.condition)
        own = evaluate(job.label, layers, trained.under(condition), live.test, [condition])
        found.append(replace(score, tuned=own.rows[0].accuracy))
    return found


def curve_of(
    trials: Sequence[Trial], spent: int, problem: Problem, task: Task
) -> list[tuple[int, float]]:
    """Mean reward of the best assignments tried so far, at 1, 2, 5, 10, ... evaluations.

    It begins when an assignment that keeps to the budget was tried under each condition, and ends
    with all that was spent; there is no point where that never came. On a live network the search
    may have tried an assignment on a single batch: the reward is the one that it saw.

    Args:
        trials: what was evaluated, in order.
        spent: number of evaluations in all.
        problem: gives mixture and costs.
        task: gives rewards and the budget.
    """
    costs: dict[BitAssignment, dict[str, float]] = {}
    best: dict[Condition, float] = {}
    whole: list[tuple[int, float]] = []
    shares = dict(zip(problem.mixture.conditions, problem.mixture.probabilities, strict=True))
    for trial in trials:
        own = costs.get(trial.assignment)
        if own is None:
            own = costs[trial.assignment] = problem.cost(trial.assignment)
        if own[task.budget.cost.name] > task.budget.fraction + ROUNDING:
            continue
        outcome = Outcome(np.array([trial.accuracy]), np.array([trial.loss]))
        reward = task.reward(outcome, {name: np.array([cost]) for name, cost in own.items()})
        best[trial.condition] = max(best.get(trial.condition, -np.inf), float(reward[0]))
        if len(best) == len(shares):
            mean = sum(share * best[condition] for condition, share in shares.items())
            whole.append((trial.spent, mean))
    return _thinned(whole, spent)


def _thinned(whole: Sequence[tuple[int, float]], spent: int) -> list[tuple[int, float]]:
    """A curve at its beginning, at the marks after it, and at the end."""
    if not whole:
        return []
    marks, power = {whole[0][0], spent}, 1
    while power <= spent:
        marks |= {step * power for step in _STEPS if whole[0][0] <= step * power <= spent}
        power *= 10
    places = np.searchsorted([count for count, _ in whole], sorted(marks), "right") - 1
    return [
        (mark, whole[place][1]) for mark, place in zip(sorted(marks), places.tolist(), strict=True)
    ]


def _optimum(problem: Problem, condition: Condition, task: Task) -> float | None:
    if isinstance(problem, TableProblem):
        return problem.optimum(condition, task).reward
    return None


def _images(problem: Problem) -> dict[str, int]:
    """Number of ``search`` and ``test`` images."""
    if isinstance(problem, TableProblem):
        return {split: problem.table.card.images[split] for split in ("search", "test")}
    data = cast("NetworkProblem", problem).data
    return {"search": len(data.search), "test": len(data.test)}
