"""What the words of a job stand for: searcher, environment, schedule; all can be checked first."""

import ast
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, load_env_creator

from dqmq_env.benchmark.job import Job
from dqmq_env.benchmark.plain import make
from dqmq_env.envs.settings import Setting, SettingEnv
from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.errors import ResultError
from dqmq_env.program import ShadowedPackageError, own_package
from dqmq_env.search.protocol import Searcher

if TYPE_CHECKING:
    from dqmq_env.training.loop import Schedule

_OURS = ("agents", "baselines")


def check_jobs(jobs: Iterable[Job]) -> None:
    """Make sure that every job can begin; nothing is computed, no network is loaded.

    Raises:
        ResultError: an agent, an id or a setting is unknown, or a value is of the wrong type; the
            message says what is known.
        DQMQError: a setting of an environment is of the right type, but not allowed.
    """
    seen: set[str] = set()
    for job in jobs:
        words = [job.agent, job.settings, job.id, job.env, job.fine_tune, job.evaluations]
        text = json.dumps(words, sort_keys=True)
        if text not in seen:
            seen.add(text)
            _check_job(job)


def searcher_of(job: Job) -> Searcher:
    """Make the searcher of a job.

    Raises:
        ResultError: there is no such searcher, or its settings are unknown or of the wrong type.
        ShadowedPackageError: a package of another distribution stands before ours.
    """
    module, _, name = job.agent.partition(":")
    kind = getattr(_import(job.agent, module), name, None)
    if not (isinstance(kind, type) and callable(getattr(kind, "search", None))):
        raise _unknown_agent(job.agent, f"{module!r} has no class {name!r} with a method 'search'")
    return cast(Searcher, make(kind, job.settings, f"settings of {job.agent}"))


def environment_of(job: Job) -> BitWidthEnv:
    """Make the environment of a job, or take the last one that was made, if it is the same.

    Those over a live network take up to a minute.

    Raises:
        DQMQError: the environment cannot be made.
    """
    return _environment(job.id, json.dumps(job.env, sort_keys=True))


def setting_of(job: Job) -> Setting:
    """The plain values that the environment of a job is made from.

    Raises:
        ResultError: the id is not of an environment made from plain values, or one of them is
            unknown or of the wrong type.
    """
    spec = _spec(job.id)
    entry: Any = spec.entry_point
    kind: Any = load_env_creator(entry) if isinstance(entry, str) else entry
    if not (isinstance(kind, type) and issubclass(kind, SettingEnv)):
        raise _unknown_id(job.id)
    fixed = {name: own for name, own in spec.kwargs.items() if name != "actions"}
    return make(kind.setting_type, {**fixed, **job.env}, f"env of {job.id}")


def schedule_of(job: Job) -> "Schedule":
    """How a job fine-tunes; by the seed of the job, unless the schedule has its own.

    Raises:
        ResultError: it does not, or a field is unknown or of the wrong type.
    """
    from dqmq_env.training.loop import Schedule

    if job.fine_tune is None:
        raise ResultError("fine_tune: the job has none")
    return make(Schedule, {"seed": job.seed, **job.fine_tune}, "fine_tune")


def shipped_searchers() -> list[str]:
    """``module:Class`` of every searcher in ``baselines`` and ``agents``; none is imported."""
    return sorted(name for package in _OURS for name in _searchers_in(package))


def _check_job(job: Job) -> None:
    searcher_of(job)
    setting = setting_of(job)
    setting.task()
    if job.evaluations < 1:
        raise ResultError(f"evaluations: got {job.evaluations}, allowed are 1 and more")
    if job.fine_tune is None:
        return
    schedule_of(job)
    from dqmq_env.envs.network_setting import NetworkSetting

    if not isinstance(setting, NetworkSetting):
        raise ResultError(
            f"fine_tune: {job.id} has no network to train, allowed are ids over a live network"
        )


def _import(agent: str, module: str) -> Any:
    try:
        own = module.partition(".")[0] in _OURS
        return own_package(module) if own else import_module(module)
    except ShadowedPackageError:
        raise
    except (ImportError, ValueError) as error:
        raise _unknown_agent(agent, f"{module!r} cannot be imported: {error}") from error


def _unknown_agent(agent: str, reason: str) -> ResultError:
    return ResultError(
        f"agent: got {agent!r}, allowed is 'module:Class' of a searcher, but {reason}; shipped are "
        + ", ".join(shipped_searchers())
    )


def _searchers_in(package: str) -> Iterator[str]:
    """Public classes with a method ``search`` that takes what a searcher's takes."""
    spec = find_spec(package)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for path in Path(place).rglob("*.py"):
            module = ".".join((package, *path.relative_to(place).with_suffix("").parts))
            for kind in ast.parse(path.read_bytes()).body:
                if not isinstance(kind, ast.ClassDef) or kind.name.startswith("_"):
                    continue
                if any(isinstance(own, ast.FunctionDef) and _searches(own) for own in kind.body):
                    yield f"{module}:{kind.name}"


def _searches(function: ast.FunctionDef) -> bool:
    names = [argument.arg for argument in function.args.args]
    return function.name == "search" and names == ["self", "problem", "task", "evaluations", "seed"]


def _spec(name: str) -> EnvSpec:
    module, _, own = name.rpartition(":")
    if module:
        _import_of_id(name, module)
    if own not in gym.registry:
        raise _unknown_id(name)
    return gym.registry[own]


def _import_of_id(name: str, module: str) -> None:
    try:
        import_module(module)
    except (ImportError, ValueError) as error:
        raise ResultError(f"id: {name!r}: {module!r} cannot be imported: {error}") from error


def _unknown_id(name: str) -> ResultError:
    from dqmq_env.registration import ALL_ENTRIES, OWN_PROBLEM

    known = ", ".join(entry.id for entry in ALL_ENTRIES if entry is not OWN_PROBLEM)
    return ResultError(
        f"id: got {name!r}, allowed are ids of environments made from plain values: {known}"
    )


@lru_cache(maxsize=1)
def _environment(name: str, arguments: str) -> BitWidthEnv:
    made: Mapping[str, Any] = json.loads(arguments)
    return cast(BitWidthEnv, gym.make(name, **made).unwrapped)
