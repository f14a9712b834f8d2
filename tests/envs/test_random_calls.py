"""Any calls in any order, on every id, against a small model of what must come.

``DQMQ_CALLS=10000 pytest tests/envs/test_random_calls.py`` makes as many calls on each id.
"""

import os
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dqmq_env.errors import ActionError, ConditionError, SettingError
from dqmq_env.registration import ENTRIES, LIVE_ENTRIES

CALLS = int(os.environ.get("DQMQ_CALLS", "150"))
STEPS = 50
CONDITIONS = ["clean", "gaussian_noise/3", "contrast/3"]
SETTING: dict[str, Any] = {"conditions": CONDITIONS, "budget": 0.3}
LIVE = [entry.id for entry in LIVE_ENTRIES]
ENVS: dict[str, gym.Env[Any, Any]] = {}


def environment(name: str) -> gym.Env[Any, Any]:
    """Made once for each id; that it was used before must make no difference."""
    if name not in ENVS:
        setting = SETTING | ({"batch_size": 2} if name in LIVE else {})
        ENVS[name] = gym.make(name, render_mode="ansi", **setting).unwrapped
    return ENVS[name]


class Calls(RuleBasedStateMachine):
    name: str

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.env: Any = environment(self.name)
        self.one_shot = isinstance(self.env.action_space, gym.spaces.MultiDiscrete)
        self.length = 1 if self.one_shot else self.env.core.decisions
        self.reset(seed)

    @rule(seed=st.none() | st.integers(0, 2**32))
    def reset(self, seed: int | None) -> None:
        self.observation, info = self.env.reset(seed=seed)
        self.taken = 0
        assert info["condition"] in CONDITIONS
        assert 0 <= info["batch"] < self.env.problem.batches

    @rule(condition=st.sampled_from([*CONDITIONS, "jpeg/3"]), batch=st.integers(0, 99))
    def reset_to(self, condition: str, batch: int) -> None:
        options = {"condition": condition, "batch": batch % self.env.problem.batches}
        self.observation, info = self.env.reset(options=options)
        self.taken = 0
        assert info == options

    @rule(
        options=st.sampled_from(
            [{"condition": "fog/3"}, {"condition": "jpeg/9"}, {"batch": -1}, {"batches": 1}]
        )
    )
    def reset_to_nonsense(self, options: dict[str, Any]) -> None:
        with pytest.raises((ConditionError, SettingError)):
            self.env.reset(options=options)

    @rule(seed=st.integers(0, 2**32), times=st.integers(1, 4))
    def step(self, seed: int, times: int) -> None:
        self.env.action_space.seed(seed)
        for _ in range(times):
            action = self.env.action_space.sample()
            if self.taken == self.length:
                with pytest.raises(RuntimeError, match="call reset"):
                    self.env.step(action)
                return
            self.observation, reward, terminated, truncated, info = self.env.step(action)
            self.taken += 1
            assert type(reward) is float
            assert 0 <= reward <= 1
            assert terminated == (self.taken == self.length)
            assert truncated is False
            if terminated:
                assert info["costs"]["bops"] <= 0.3 + 1e-9

    @rule(action=st.sampled_from([-1, 9, 1.5, "4", None, [[1]], np.nan, [np.nan], [2.0], []]))
    def step_with_nonsense(self, action: Any) -> None:
        with pytest.raises(ActionError):
            self.env.step(action)

    @rule()
    def look(self) -> None:
        mask = self.env.action_masks()
        assert mask.dtype == np.bool_
        assert mask.any()
        assert self.env.render().startswith("condition")

    @rule()
    def close(self) -> None:
        self.env.close()
        self.env.close()

    @rule()
    def pickle(self) -> None:
        self.env = pickle.loads(pickle.dumps(self.env))

    @invariant()
    def the_observation_is_one(self) -> None:
        if hasattr(self, "env"):
            assert self.env.observation_space.contains(self.observation)


@pytest.mark.parametrize("name", [entry.id for entry in ENTRIES])
def test_any_calls_in_any_order(name: str) -> None:
    machine = type("CallsOn" + name.replace("-", ""), (Calls,), {"name": name})
    case = machine.TestCase  # type: ignore[attr-defined]
    case.settings = settings(
        max_examples=max(1, CALLS // STEPS),
        stateful_step_count=STEPS,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    case().runTest()
