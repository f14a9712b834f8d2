"""What a reset draws and what an end reports; shared by the single and the vector class."""

from typing import Any

import numpy as np

from dqmq_env.envs.core import Finished
from dqmq_env.errors import SettingError
from dqmq_env.problem.protocol import Problem
from dqmq_env.quality.condition import Condition


def draw_episode(
    problem: Problem, generator: np.random.Generator, options: dict[str, Any] | None
) -> tuple[Condition, int]:
    """A condition and the index of a batch of ``search`` images.

    Both are drawn even where an option fixes them, so that options leave later draws alone.

    Args:
        problem: gives the mixture and the number of batches.
        generator: of the environment.
        options: ``{"condition": "gaussian_noise/3"}`` and ``{"batch": 2}`` fix what is drawn.

    Raises:
        ConditionError: there is no such condition.
        SettingError: an unknown option, or a batch that does not exist.
    """
    condition = problem.mixture.sample(1, generator)[0]
    batch: Any = int(generator.integers(problem.batches))
    options = dict(options or {})
    condition = Condition.parse(options.pop("condition", condition))
    batch = options.pop("batch", batch)
    if options:
        raise SettingError(f"options: got {sorted(options)}, allowed are 'condition' and 'batch'")
    if (
        isinstance(batch, bool)
        or not isinstance(batch, int | np.integer)
        or not 0 <= batch < problem.batches
    ):
        raise SettingError(
            f"options['batch']: got {batch!r}, allowed are 0 to {problem.batches - 1}"
        )
    return condition, int(batch)


def finished_info(finished: Finished, episode: int) -> dict[str, Any]:
    """``info`` of an episode's end, in plain Python values."""
    bits = finished.bits[episode].tolist()
    return {
        "assignment": dict(zip(finished.layers, bits, strict=True)),
        "accuracy": float(finished.outcome.accuracy[episode]),
        "loss": float(finished.outcome.loss[episode]),
        "costs": {name: float(values[episode]) for name, values in finished.costs.items()},
        "lowered": int(finished.lowered[episode]),
    }
