"""The shipped tabular twin: what only it can be asked."""

import json
import subprocess
import sys
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO

from dqmq_env.envs.wrappers import ReportTest
from dqmq_env.envs.zoo import ZooSetting
from dqmq_env.errors import AssignmentError, ConditionError, TableError
from dqmq_env.integrations.sb3 import VecEnvAdapter
from dqmq_env.machine import processor_name
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.problem.table import SHIPPED, load_table
from dqmq_env.problem.table_problem import TableProblem
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.quantization.integer_kernel import integers_are_fast
from dqmq_env.registration import TABULAR_ENTRIES

IDS = [entry.id for entry in TABULAR_ENTRIES]
ID = "DQMQ-ResNet8-Tabular-v0"
WIDTHS = (2, 3, 4, 6, 8)
TOLERANCE = 0.02
"""What an accuracy may differ by where kernels round otherwise than on the table's machine."""


@pytest.fixture(scope="module")
def problem() -> TableProblem:
    return TableProblem(load_table("resnet8-fashion-mnist"))


@pytest.fixture(scope="module")
def live(problem: TableProblem) -> NetworkProblem:
    """What the table was made of."""
    card = problem.table.card
    return ZooSetting(
        checkpoint=card.checkpoint,
        bits=WIDTHS,
        batch_size=card.images["search"],
        conditions=card.conditions,
    ).problem()


def random_assignments(problem: TableProblem, count: int, seed: int) -> list[BitAssignment]:
    places = np.random.default_rng(seed).integers(problem.count, size=count)
    return [problem.assignment(int(place)) for place in places]


def test_it_is_as_large_as_a_benchmark_should_be(problem: TableProblem) -> None:
    card = problem.table.card
    assert problem.count >= 15_000
    assert len(card.conditions) >= 9
    assert "clean" in card.conditions
    assert card.images["search"] >= 512
    assert card.images["test"] >= 1_000
    decided = [widths for widths in problem.candidates.values() if len(widths) > 1]
    assert all(len(widths) >= 5 and set(widths) <= set(range(2, 9)) for widths in decided)
    assert [list(problem.candidates.values())[place] for place in (0, -1)] == [(8,), (8,)]
    size = sum(path.stat().st_size for path in SHIPPED.glob("*"))
    assert size <= 6 * 2**20


@pytest.mark.parametrize("condition", ["clean", "gaussian_noise/3", "jpeg/3"])
def test_a_random_sample_of_it_rebuilt_live(
    problem: TableProblem, live: NetworkProblem, condition: str
) -> None:
    """Equal where the kernels are those of the machine that made it, within tolerance elsewhere."""
    made = problem.table.card.versions
    kernels = "integer" if integers_are_fast() else "float"
    here = made == {
        **made,
        "processor": processor_name(),
        "torch": version("torch"),
        "kernels": kernels,
    }
    for assignment in random_assignments(problem, 6, seed=len(condition)):
        assert problem.cost(assignment) == live.cost(assignment)
        kept = problem.evaluate(assignment, condition)
        found = live.evaluate(assignment, condition)
        assert found.accuracy == pytest.approx(kept.accuracy, abs=0 if here else TOLERANCE)
        assert found.loss == pytest.approx(kept.loss, rel=1e-6 if here else 0.05)


@pytest.mark.parametrize("form", ["", "-Continuous", "-OneShot"])
def test_an_agent_trained_on_it_runs_on_the_live_network(form: str, problem: TableProblem) -> None:
    tabular = f"DQMQ-ResNet8-Tabular{form}-v0"
    live = gym.make(
        f"DQMQ-ResNet8{form}-v0",
        bits=WIDTHS,
        batch_size=100,
        conditions=["clean"],
        post_training="steps",
    )
    model = PPO(
        "MlpPolicy", VecEnvAdapter(gym.make_vec(tabular, 1)), n_steps=16, batch_size=16, seed=0
    )
    model.learn(32)
    assert live.observation_space == model.observation_space
    assert live.action_space == model.action_space
    observation, _ = live.reset(seed=0)
    done = False
    while not done:
        action, _ = model.predict(observation, deterministic=True)
        observation, _, done, _, info = live.step(action)
    problem.index(BitAssignment(info["assignment"]))  # raises where it is not in the table
    model.set_env(live)
    model.learn(16)


@pytest.mark.parametrize("name", IDS)
def test_the_optimum_has_no_regret_and_random_actions_one_on_average(name: str) -> None:
    env = gym.make(name)
    core = env.unwrapped.core  # type: ignore[attr-defined]
    optimum = env.unwrapped.problem.optimum("jpeg/3", core.task)  # type: ignore[attr-defined]
    chosen = [optimum.assignment[spec.name].weight for spec in core.problem.layers[1:-1]]
    _, info = play(env, [core.candidates.index(bits) for bits in chosen], name)
    assert info["regret"] == 0
    assert BitAssignment(info["assignment"]) == optimum.assignment
    if "Continuous" in name:
        return
    rng = np.random.default_rng(0)
    regrets = [play(env, row, name)[1]["regret"] for row in rng.integers(5, size=(400, 6))]
    spread = np.std(regrets) / 20
    assert abs(np.mean(regrets) - 1) < 4 * spread
    assert min(regrets) >= 0


def play(env: gym.Env[Any, Any], indices: Any, name: str) -> tuple[float, dict[str, Any]]:
    """An episode of the given indices under jpeg/3, whatever the form of actions."""
    env.reset(options={"condition": "jpeg/3"})
    if "OneShot" in name:
        actions = [np.array(indices)]
    elif "Continuous" in name:
        widths = np.array(WIDTHS)[np.array(indices)]
        actions = [np.array([(w - 1.5) / 3.5 - 1], np.float32) for w in widths]
    else:
        actions = list(indices)
    for action in actions:
        _, reward, _, _, info = env.step(action)
    return float(reward), info


def test_the_test_split_comes_in_the_final_report_alone(problem: TableProblem) -> None:
    env = ReportTest(gym.make(ID))
    _, info = play(env, [0, 1, 2, 3, 4, 0], ID)
    found = problem.evaluate(BitAssignment(info["assignment"]), "jpeg/3", "test")
    assert info["test"]["accuracy"] == found.accuracy[0]
    assert "test" not in play(gym.make(ID), [0] * 6, ID)[1]


def test_fronts_rise_and_images_of_lower_quality_are_harder(problem: TableProblem) -> None:
    best = {}
    for condition in problem.mixture.conditions:
        front = problem.pareto_front(condition)
        for one, other in pairwise(front):
            assert one.cost < other.cost
            assert one.accuracy < other.accuracy
        best[str(condition)] = front[-1].accuracy
    assert max(best, key=lambda name: best[name]) == "clean"


MAKING = """
import sys, time
import gymnasium, numpy, dqmq_env
times = []
for _ in range(3):
    start = time.perf_counter()
    env = gymnasium.make("DQMQ-ResNet8-Tabular-v0")
    times.append(time.perf_counter() - start)
    env.reset(seed=0)
    done = False
    while not done:
        _, _, done, _, info = env.step(0)
env.unwrapped.problem.value_of_quality(0.2)
print(times[0], "torch" in sys.modules, "scipy" in sys.modules)
"""


def test_making_it_takes_no_torch_and_no_time() -> None:
    result = subprocess.run(
        [sys.executable, "-c", MAKING], check=True, capture_output=True, text=True
    )
    seconds, torch, _ = result.stdout.split()
    assert torch == "False"
    assert float(seconds) < 0.3 * 4  # 0.1 on a quiet machine; tests share theirs


@pytest.mark.parametrize(
    ("settings", "error", "named"),
    [
        (
            {"conditions": ["clean", "jpeg/5"]},
            TableError,
            r"jpeg/5 is not in the table, there are \['clean'",
        ),
        ({"conditions": ["fog/3"]}, ConditionError, "fog"),
        ({"table": "resnet50"}, TableError, r"no table 'resnet50' in .*'resnet8-fashion-mnist'"),
    ],
)
def test_what_is_not_in_it_is_named(
    settings: dict[str, Any], error: type[Exception], named: str
) -> None:
    with pytest.raises(error, match=named):
        gym.make(ID, **settings)


def test_a_condition_or_width_that_it_lacks_is_named(problem: TableProblem) -> None:
    env = gym.make(ID)
    with pytest.raises(TableError, match=r"jpeg/5 is not in the table, there are"):
        env.reset(options={"condition": "jpeg/5"})
    assignment = BitAssignment(dict.fromkeys(problem.candidates, (5, 5)))
    with pytest.raises(AssignmentError, match=r"got \(5, 5\) bits, the table has the widths"):
        problem.evaluate(assignment, "clean")


@pytest.mark.parametrize("damage", ["truncated", "flipped", "schema", "missing"])
def test_a_damaged_table_is_refused(tmp_path: Path, damage: str) -> None:
    for path in SHIPPED.glob("resnet8-fashion-mnist.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    arrays = tmp_path / "resnet8-fashion-mnist.safetensors"
    card = tmp_path / "resnet8-fashion-mnist.json"
    if damage == "truncated":
        arrays.write_bytes(arrays.read_bytes()[:-100])
    elif damage == "flipped":
        data = bytearray(arrays.read_bytes())
        data[len(data) // 2] ^= 1
        arrays.write_bytes(data)
    elif damage == "schema":
        card.write_text(json.dumps({**json.loads(card.read_text()), "schema": "dqmq-table/9"}))
    else:
        arrays.unlink()
    words = {
        "truncated": "checksum",
        "flipped": "checksum",
        "schema": "schema is 'dqmq-table/9', this version reads 'dqmq-table/1'",
        "missing": "cannot be read",
    }
    with pytest.raises(TableError, match=words[damage]):
        gym.make(ID, tables=str(tmp_path))
