"""What a reset draws."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.utils import seeding
from numpy.typing import NDArray

from dqmq_env.envs.episodes import Starts
from dqmq_env.errors import SettingError
from dqmq_env.problem.protocol import Problem
from dqmq_env.quality.condition import Condition

_BLOCK = 256

Options = dict[str, Any]


def draw_episode(
    problem: Problem, generator: np.random.Generator, options: Options | None
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
    mixture = problem.mixture
    condition = mixture.conditions[mixture.place(generator.random())]
    # a range of one takes nothing from the generator
    batch = int(generator.integers(problem.batches)) if problem.batches > 1 else 0
    if not options:
        return condition, batch
    fixed_condition, fixed_batch = read_options(problem, options)
    return (
        condition if fixed_condition is None else fixed_condition,
        batch if fixed_batch is None else fixed_batch,
    )


def read_options(problem: Problem, options: Options) -> tuple[Condition | None, int | None]:
    """The condition and the batch that the options of a reset fix.

    Raises:
        ConditionError: there is no such condition.
        SettingError: an unknown option, or a batch that does not exist.
    """
    unknown = sorted(set(options) - {"condition", "batch"})
    if unknown:
        raise SettingError(f"options: got {unknown}, allowed are 'condition' and 'batch'")
    condition = Condition.parse(options["condition"]) if "condition" in options else None
    if "batch" not in options:
        return condition, None
    batch = options["batch"]
    if (
        isinstance(batch, bool)
        or not isinstance(batch, int | np.integer)
        or not 0 <= batch < problem.batches
    ):
        raise SettingError(
            f"options['batch']: got {batch!r}, allowed are 0 to {problem.batches - 1}"
        )
    return condition, int(batch)


class Draws:
    """Draws for N episodes, each from a generator of its own, what :func:`draw_episode` does.

    Args:
        problem: gives the mixture and the number of batches.
        count: N.
    """

    def __init__(self, problem: Problem, count: int) -> None:
        self._problem = problem
        self._generators = [seeding.np_random()[0] for _ in range(count)]
        # where a generator is asked for conditions alone, it can be asked for many at once
        block = _BLOCK if problem.batches == 1 else 1
        self._numbers = np.empty((count, block))
        self._batches = np.zeros((count, block), np.int64)
        self._used = block

    def seed(self, seeds: Sequence[int | None]) -> None:
        """Replace the generators that there is a seed for."""
        for number, seed in enumerate(seeds):
            if seed is not None:
                generator = self._generators[number] = seeding.np_random(seed)[0]
                left = slice(self._used, None)
                self._fill(generator, self._numbers[number, left], self._batches[number, left])

    def draw(self, options: Options | None) -> Starts:
        """The next episodes; options fix what is drawn for all of them.

        Raises:
            ConditionError: there is no such condition.
            SettingError: an unknown option, or a batch that does not exist.
        """
        condition, batch = read_options(self._problem, options or {})
        if self._used == self._numbers.shape[1]:
            self._used = 0
            for generator, numbers, batches in zip(
                self._generators, self._numbers, self._batches, strict=True
            ):
                self._fill(generator, numbers, batches)
        mixture = self._problem.mixture
        conditions = mixture.conditions
        rows = mixture.places(self._numbers[:, self._used])
        batches = self._batches[:, self._used].copy()
        self._used += 1
        if condition is not None:
            conditions = (condition,)
            rows[:] = 0
        if batch is not None:
            batches[:] = batch
        return Starts(conditions, rows, batches)

    def _fill(
        self,
        generator: np.random.Generator,
        numbers: NDArray[np.float64],
        batches: NDArray[np.int64],
    ) -> None:
        """Draw what one generator gives for some consecutive episodes, in place."""
        if self._problem.batches == 1:
            generator.random(out=numbers)
            return
        for place in range(len(numbers)):
            numbers[place] = generator.random()
            batches[place] = generator.integers(self._problem.batches)
