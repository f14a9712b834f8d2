from typing import Any

import numpy as np
import pytest

from dqmq_env.envs.draws import Draws, draw_episode
from dqmq_env.errors import SettingError
from dqmq_env.problem.protocol import Problem
from dqmq_env.quality import Condition, Mixture


class Batches:
    """As much of a problem as draws ask for."""

    mixture = Mixture({"clean": 2, "jpeg/1": 1, "contrast/3": 1})

    def __init__(self, batches: int) -> None:
        self.batches = batches


def problem_of(batches: int) -> Problem:
    return Batches(batches)  # type: ignore[return-value]


def drawn(draws: Draws, options: dict[str, Any] | None = None) -> list[tuple[Condition, int]]:
    starts = draws.draw(options)
    pairs = zip(starts.rows, starts.batches.tolist(), strict=True)
    return [(starts.conditions[row], batch) for row, batch in pairs]


@pytest.mark.parametrize("batches", [1, 5])
def test_many_generators_draw_what_each_alone_would(batches: int) -> None:
    """Also across blocks, and where some are seeded anew in between."""
    problem = problem_of(batches)
    draws = Draws(problem, 3)
    draws.seed([7, 8, 9])
    alone = [np.random.default_rng(seed) for seed in (7, 8, 9)]
    for number in range(150):
        if number == 40:
            draws.seed([None, 3, None])
            alone[1] = np.random.default_rng(3)
        assert drawn(draws) == [draw_episode(problem, own, None) for own in alone]


@pytest.mark.parametrize("batches", [1, 5])
def test_options_leave_later_draws_alone(batches: int) -> None:
    problem = problem_of(batches)
    free, fixed = Draws(problem, 2), Draws(problem, 2)
    free.seed([1, 2])
    fixed.seed([1, 2])
    drawn(free)
    condition = Condition.parse("motion_blur/5")
    assert drawn(fixed, {"condition": "motion_blur/5", "batch": 0}) == [(condition, 0)] * 2
    assert drawn(free) == drawn(fixed)


@pytest.mark.parametrize("options", [{"batch": 5}, {"batch": -1}, {"batch": True}, {"seed": 1}])
def test_wrong_options_are_named(options: dict[str, Any]) -> None:
    draws = Draws(problem_of(5), 2)
    with pytest.raises(SettingError, match="options"):
        draws.draw(options)
