"""A vector environment beside single ones that must do the same."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.envs.vector import BitWidthVectorEnv


def assert_lockstep(
    vector: BitWidthVectorEnv, singles: Sequence[BitWidthEnv], seed: int, steps: int
) -> None:
    """Take random actions in both; all that is seen must be equal.

    Args:
        vector: many episodes.
        singles: as many environments of the same problem and task.
        seed: of the first episode and of the actions.
        steps: their number.
    """
    observations, info = vector.reset(seed=seed)
    expected = [env.reset(seed=seed + i) for i, env in enumerate(singles)]
    vector.action_space.seed(seed)
    for _ in range(steps):
        assert vector.observation_space.contains(observations)
        np.testing.assert_array_equal(observations, np.stack([obs for obs, _ in expected]))
        assert info["condition"].tolist() == [own["condition"] for _, own in expected]
        masks = np.stack([env.action_masks() for env in singles])
        np.testing.assert_array_equal(info["action_mask"], masks)
        actions = vector.action_space.sample()
        observations, rewards, terminated, truncated, info = vector.step(actions)
        taken = [env.step(action) for env, action in zip(singles, actions, strict=True)]
        assert rewards.tolist() == [step[1] for step in taken]
        assert terminated.tolist() == [step[2] for step in taken]
        assert not truncated.any()
        expected = [(step[0], step[4]) for step in taken]
        if terminated.all():
            finals = np.stack(list(info["final_obs"]))
            np.testing.assert_array_equal(finals, np.stack([obs for obs, _ in expected]))
            assert _rows(info["final_info"], len(singles)) == [own for _, own in expected]
            expected = [env.reset() for env in singles]


def _rows(info: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Vector infos, of which all episodes have all, as one dict for each episode."""
    columns = {
        key: _rows(values, count) if isinstance(values, dict) else values.tolist()
        for key, values in info.items()
        if not key.startswith("_")
    }
    assert all(info[f"_{key}"].all() for key in columns)
    return [{key: column[i] for key, column in columns.items()} for i in range(count)]
