"""A table against the live network that it was made of."""

import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dqmq_env import BitAssignment
from dqmq_env.costs import Bops, Size
from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.envs.tree import tree_of
from dqmq_env.envs.vector import BitWidthVectorEnv
from dqmq_env.errors import AssignmentError, BudgetError, ConditionError, TableError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.problem.table import Table, load_table, save_table, table_names
from dqmq_env.problem.table_assembly import assemble
from dqmq_env.problem.table_problem import TableProblem
from dqmq_env.problem.table_units import all_units, evaluate_unit, save_unit
from dqmq_env.quality import CLEAN, Condition
from dqmq_env.task.budget import ROUNDING, Budget
from dqmq_env.task.decisions import SeparateDecisions
from dqmq_env.task.reward import AccuracyReward, CostPotential, WeightedReward
from dqmq_env.task.task import Task
from dqmq_env.zoo.checkpoints import load_card
from tests.lockstep import assert_lockstep

MakeProblem = Callable[..., NetworkProblem]
CONDITIONS = [CLEAN, Condition.parse("gaussian_noise/5")]
IMAGES = {"search": 50, "test": 40}
FORMS = ["discrete", "continuous", "one-shot"]
WIDTHS = (2, 8)
tasks = st.builds(
    Task,
    st.one_of(
        st.just(AccuracyReward()),
        st.builds(WeightedReward, st.sampled_from(["bops", "size"]), st.floats(0, 1)),
    ),
    st.builds(Budget, st.sampled_from([Bops(), Size()]), st.floats(0.3, 1)),
    st.builds(CostPotential, st.sampled_from([0.0, 0.3])),
)


@pytest.fixture(scope="module")
def live(make_tiny_problem: MakeProblem) -> NetworkProblem:
    """Its one batch is the whole of ``search``."""
    return make_tiny_problem(bits=WIDTHS, batch_size=50, conditions=CONDITIONS)


@pytest.fixture(scope="module")
def table(live: NetworkProblem, tmp_path_factory: pytest.TempPathFactory) -> Table:
    run = tmp_path_factory.mktemp("units")
    card = load_card("resnet8-fashion-mnist")
    for unit in all_units(CONDITIONS, len(WIDTHS)):
        with pytest.raises(TableError, match=r"lacks \d of 8 units"):
            assemble(live, card, CONDITIONS, IMAGES, {}, run)
        save_unit(run, unit, evaluate_unit(live, unit, IMAGES))
    return assemble(live, card, CONDITIONS, IMAGES, {"seed": 0}, run)


@pytest.fixture(scope="module")
def problem(table: Table) -> TableProblem:
    return TableProblem(table)


def everything(problem: TableProblem) -> list[BitAssignment]:
    """All assignments in the order of the table, by brute force."""
    names = list(problem.candidates)
    ways = itertools.product(*problem.candidates.values())
    return [BitAssignment({n: (b, b) for n, b in zip(names, way, strict=True)}) for way in ways]


# The same environment.


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=8)
@given(seed=st.integers(0, 2**31), task=tasks)
def test_an_environment_over_it_is_the_live_one_bit_for_bit(
    live: NetworkProblem, problem: TableProblem, form: str, seed: int, task: Task
) -> None:
    envs = [BitWidthEnv(p, task, form, "ansi") for p in (live, problem)]
    assert envs[0].observation_space == envs[1].observation_space
    assert envs[0].action_space == envs[1].action_space
    starts = [env.reset(seed=seed) for env in envs]
    np.testing.assert_array_equal(starts[0][0], starts[1][0])
    assert starts[0][1] == starts[1][1]
    envs[0].action_space.seed(seed)
    done = False
    while not done:
        np.testing.assert_array_equal(envs[0].action_masks(), envs[1].action_masks())
        action = envs[0].action_space.sample()
        steps = [env.step(action) for env in envs]
        np.testing.assert_array_equal(steps[0][0], steps[1][0])
        done = steps[0][2]
        ends = [dict(step[4]) for step in steps]
        losses = [end.pop("loss", 0.0) for end in ends]
        assert losses[0] == pytest.approx(losses[1], rel=1e-6)  # kept in single precision
        assert steps[0][1:4] == steps[1][1:4]
        regret = ends[1].pop("regret", None)
        assert ends[0] == ends[1]
    assert regret == problem.regret(
        BitAssignment(ends[1]["assignment"]), ends[1]["condition"], task
    )
    assert envs[0].render() == envs[1].render()


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=8)
@given(seed=st.integers(0, 2**31), count=st.integers(1, 5), task=tasks)
def test_its_vector_environment_is_the_single_one(
    problem: TableProblem, form: str, seed: int, count: int, task: Task
) -> None:
    vector = BitWidthVectorEnv(count, problem, task, form)
    singles = [BitWidthEnv(problem, task, form) for _ in range(count)]
    assert_lockstep(vector, singles, seed, 2 * vector.core.decisions)


def test_agreeing_environments_share_one_tree(problem: TableProblem) -> None:
    assert tree_of(problem, Task(AccuracyReward())) is tree_of(problem, Task(AccuracyReward()))
    assert tree_of(problem, Task(AccuracyReward())) is not tree_of(problem, Task())


def test_a_reward_that_cannot_be_hashed_will_do(problem: TableProblem) -> None:
    class Own(AccuracyReward):
        __hash__ = None  # type: ignore[assignment]

    observation, _ = BitWidthEnv(problem, Task(Own())).reset(seed=0)
    np.testing.assert_array_equal(observation, BitWidthEnv(problem).reset(seed=0)[0])


def test_evaluations_and_costs_are_the_live_ones(
    live: NetworkProblem, problem: TableProblem
) -> None:
    for assignment in everything(problem)[::7]:
        assert problem.cost(assignment) == live.cost(assignment)
        for condition, split in itertools.product(CONDITIONS, ("search", "test")):
            one = live.evaluate(assignment, condition, split)
            other = problem.evaluate(assignment, condition, split)
            assert one.accuracy == other.accuracy
            assert one.loss == pytest.approx(other.loss, rel=1e-6)


# Exact answers, against brute force.


@settings(max_examples=25)
@given(task=tasks, condition=st.sampled_from(CONDITIONS), place=st.integers(0, 63))
def test_optimum_rank_and_regret(
    problem: TableProblem, task: Task, condition: Condition, place: int
) -> None:
    rewards: dict[BitAssignment, float] = {}
    for assignment in everything(problem):
        costs = problem.cost(assignment)
        if costs[task.budget.cost.name] <= task.budget.fraction + ROUNDING:
            outcome = problem.evaluate(assignment, condition)
            found = task.reward(outcome, {k: np.array([v]) for k, v in costs.items()})
            rewards[assignment] = float(found[0])
    best = max(rewards, key=lambda own: rewards[own])
    optimum = problem.optimum(condition, task)
    assert optimum.reward == pytest.approx(rewards[best])
    assert rewards[optimum.assignment] == pytest.approx(rewards[best])
    assert optimum.costs == problem.cost(optimum.assignment)
    assert problem.rank(optimum.assignment, condition, task) == 1
    assert problem.regret(optimum.assignment, condition, task) == 0
    some = list(rewards)[place % len(rewards)]
    better = sum(reward > rewards[some] + 1e-9 for reward in rewards.values())
    ties = sum(abs(reward - rewards[some]) <= 1e-9 for reward in rewards.values())
    assert better + 1 <= problem.rank(some, condition, task) <= better + ties
    mean = float(np.mean(list(rewards.values())))
    if rewards[best] > mean + 1e-6:
        expected = (rewards[best] - rewards[some]) / (rewards[best] - mean)
        assert problem.regret(some, condition, task) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("budget", [0.4, 0.6, 1.0])
def test_the_value_of_quality_is_that_of_its_answers(problem: TableProblem, budget: float) -> None:
    value = problem.value_of_quality(budget)
    assert value.single.search <= value.blind.search <= value.rule.search
    for chosen in (value.single, value.blind, value.rule):
        found = {"cost": 0.0, "search": 0.0, "test": 0.0}
        for condition, shares in chosen.assignments.items():
            for assignment, share in shares:
                found["cost"] += share / 2 * problem.cost(assignment)["bops"]
                for split in ("search", "test"):
                    accuracy = problem.evaluate(assignment, condition, split).accuracy[0]
                    found[split] += share / 2 * accuracy
        assert found == pytest.approx(
            {"cost": chosen.cost, "search": chosen.search, "test": chosen.test}
        )
        assert chosen.cost <= budget + 1e-9
    assert value.gain.low is not None
    assert value.gain.high is not None
    assert value.gain.low <= value.gain.value <= value.gain.high
    assert problem.value_of_quality(1.0, "size").rule.cost <= 1


@pytest.mark.parametrize("cost", ["bops", "size"])
@pytest.mark.parametrize("condition", CONDITIONS)
def test_the_front_is_what_nothing_beats(
    problem: TableProblem, cost: str, condition: Condition
) -> None:
    points = [
        (problem.cost(a)[cost], float(problem.evaluate(a, condition).accuracy[0]))
        for a in everything(problem)
    ]
    expected = {
        (c, a)
        for c, a in points
        if not any((d <= c and b > a) or (d < c and b >= a) for d, b in points)
    }
    front = problem.pareto_front(condition, cost)
    assert [p.cost for p in front] == sorted(p.cost for p in front)
    found = {(p.cost, p.accuracy) for p in front}
    assert len(found) == len(front) == len({round(c, 9) for c, _ in expected})
    for (c, a), (d, b) in zip(sorted(found), sorted(expected), strict=False):
        assert (c, a) == pytest.approx((d, b))
    kept = problem.table.arrays["front"]
    assert all(problem.index(point.assignment) in kept for point in front)


def test_places_and_assignments(problem: TableProblem) -> None:
    assert problem.count == 64
    assert [problem.assignment(i) for i in range(64)] == everything(problem)
    assert [problem.index(a) for a in everything(problem)] == list(range(64))
    for name in ("bops", "size"):
        expected = [problem.cost(a)[name] for a in everything(problem)]
        assert problem.cost_of_all(name) == pytest.approx(expected)


def test_images_of_the_front_add_up(table: Table) -> None:
    front = table.arrays["front"]
    for split, count in IMAGES.items():
        bits = np.unpackbits(table.arrays[f"{split}_front"], axis=2, count=count)
        assert np.array_equal(bits.sum(2), table.arrays[f"{split}_hits"][:, front])


# What is not there.


def test_what_is_not_in_the_table_is_named(problem: TableProblem, table: Table) -> None:
    some = dict(problem.assignment(0))
    with pytest.raises(TableError, match=r"jpeg/5 is not in the table, there are \['clean'"):
        problem.optimum("jpeg/5")
    with pytest.raises(TableError, match="jpeg/5 is not in the table"):
        TableProblem(table, ["clean", "jpeg/5"])
    with pytest.raises(ConditionError, match="fog"):
        problem.row("fog/3")
    some["layer1.0.conv1"] = (4, 4)  # type: ignore[assignment]
    with pytest.raises(AssignmentError, match=r"layer1.0.conv1: got \(4, 4\) bits.*\[2, 8\]"):
        problem.index(BitAssignment(some))
    some["layer1.0.conv1"] = (2, 8)  # type: ignore[assignment]
    with pytest.raises(AssignmentError, match="the same for weights and activations"):
        problem.index(BitAssignment(some))
    with pytest.raises(AssignmentError, match="got layers"):
        problem.index(BitAssignment({"conv1": (8, 8)}))
    with pytest.raises(AssignmentError, match="allowed are 0 to 63"):
        problem.assignment(64)
    with pytest.raises(TableError, match="split: got 'train'"):
        problem.evaluate(problem.assignment(0), "clean", "train")
    with pytest.raises(BudgetError, match="no assignment of the table"):
        problem.optimum("clean", Task(budget=Budget(Size(), 0.01)))
    with pytest.raises(TableError, match="joint decisions alone"):
        BitWidthEnv(problem, Task(decisions=SeparateDecisions()))


# Files.


def test_a_saved_table_is_loaded_as_it_was(tmp_path: Path, table: Table) -> None:
    saved = save_table(tmp_path, table)
    assert table_names(tmp_path) == ["resnet8-fashion-mnist"]
    again = load_table("resnet8-fashion-mnist", tmp_path)
    assert again.card == saved.card
    assert again.card.specs == TableProblem(table).layers
    assert set(again.arrays) == set(table.arrays)
    assert all(np.array_equal(again.arrays[name], table.arrays[name]) for name in table.arrays)


@settings(max_examples=30)
@given(cut=st.integers(0, 10**6), flip=st.booleans())
def test_damaged_arrays_are_refused(
    table: Table, tmp_path_factory: pytest.TempPathFactory, cut: int, flip: bool
) -> None:
    folder = tmp_path_factory.mktemp("table")
    path = folder / f"{save_table(folder, table).card.name}.safetensors"
    data = bytearray(path.read_bytes())
    place = cut % len(data)
    if flip:
        data[place] ^= 1
    else:
        del data[place:]
    path.write_bytes(data)
    with pytest.raises(TableError, match="checksum"):
        load_table("resnet8-fashion-mnist", folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "damaged card"),
        ("[]", "damaged card"),
        ("{}", "schema is None"),
        ('{"schema": "dqmq-table/0"}', "schema is 'dqmq-table/0', this version reads"),
        ('{"schema": "dqmq-table/1", "name": "x"}', "damaged card"),
    ],
)
def test_foreign_cards_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(TableError, match=message):
        load_table("x", tmp_path)


def test_missing_tables_are_named(tmp_path: Path, table: Table) -> None:
    name = save_table(tmp_path, table).card.name
    with pytest.raises(TableError, match=rf"no table 'bogus' in .*, there are \['{name}'\]"):
        load_table("bogus", tmp_path)
    (tmp_path / f"{name}.safetensors").unlink()
    with pytest.raises(TableError, match="cannot be read"):
        load_table(name, tmp_path)


def test_no_torch_on_the_way(tmp_path: Path, table: Table) -> None:
    name = save_table(tmp_path, table).card.name
    code = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from dqmq_env.problem.table import load_table\n"
        "from dqmq_env.problem.table_problem import TableProblem\n"
        "from dqmq_env.envs.single import BitWidthEnv\n"
        "problem = TableProblem(load_table(sys.argv[1], Path(sys.argv[2])))\n"
        "env = BitWidthEnv(problem)\n"
        "env.reset(seed=0)\n"
        "for _ in range(6): *_, info = env.step(0)\n"
        "assert 'torch' not in sys.modules, 'torch'\n"
        "print(json.dumps(info))\n"
    )
    command = [sys.executable, "-c", code, name, str(tmp_path)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    info: dict[str, Any] = json.loads(result.stdout)
    assert info["assignment"]["layer1.0.conv1"] == [2, 2]
