import numpy as np
import pytest

from baselines.haq.quirks import QUIRKS
from baselines.haq.state import States, layer_features
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.problem.table import load_table
from dqmq_env.problem.table_problem import TableProblem
from dqmq_env.quantization.spec import LayerSpec
from dqmq_env.task.decisions import JointDecisions, SeparateDecisions, plan_of

CONV = LayerSpec("a", "conv", 16, 32, 3, 2, 1, 4608, 1, (16, 10, 12), (32, 5, 6))
DEPTHWISE = LayerSpec("b", "depthwise", 32, 32, 3, 1, 32, 288, 1, (32, 5, 6), (32, 5, 6))
LINEAR = LayerSpec("c", "linear", 32, 10, 1, 1, 1, 320, 1, (32,), (10,))
WIDTHS = (2, 4, 8)


def separate(problem: NetworkProblem, *quirks: str) -> States:
    return States(problem, plan_of(problem, SeparateDecisions()), quirks)


def test_layers_are_told_by_eight_scaled_numbers() -> None:
    features = layer_features([CONV, DEPTHWISE, LINEAR])
    assert features[:, 0].tolist() == [0, 1, 0]  # as many groups as channels
    assert features[:, 1].tolist() == [0, 1, 1]  # 16, 32, 32
    assert features[:, 2].tolist() == [1, 1, 0]  # 32, 32, 10
    assert features[:, 3].tolist() == [1, 0.5, 0]  # stride 2, 1, and 0 for a linear layer
    assert features[:, 4].tolist() == [1, 1, 0]  # 3, 3, 1
    assert features[:, 5] == pytest.approx([1, 0, (320 - 288) / (4608 - 288)])
    assert features[:, 6] == pytest.approx([1, 0, (32 - 30) / (120 - 30)])  # 120, 30, 32
    assert features[:, 7].tolist() == [0, 0.5, 1]


def test_columns_that_do_not_vary_stay_as_they_are() -> None:
    features = layer_features([CONV, CONV])
    assert features[:, :7].tolist() == [[0, 16, 32, 2, 3, 4608, 120]] * 2
    assert features[:, 7].tolist() == [0, 1]


def test_two_decisions_a_layer_have_ten_features(tiny_problem: NetworkProblem) -> None:
    states = separate(tiny_problem)
    bits = [2, 4, 8] * 4
    rows = states.episode(bits)
    assert rows.shape == (12, 10)
    assert states.features == 10
    decided = [spec for spec in tiny_problem.layers if len(tiny_problem.candidates[spec.name]) > 1]
    assert rows[::2, :8] == pytest.approx(layer_features(decided))
    assert (rows[::2, :8] == rows[1::2, :8]).all()
    assert rows[:, 8] == pytest.approx([1, *(width / 8 for width in bits[:-1])])
    assert rows[:, 9].tolist() == [1, 0] * 6  # 1 where weights are decided


def test_one_decision_a_layer_has_nine_features() -> None:
    table = TableProblem(load_table("resnet8-fashion-mnist"))
    plan = plan_of(table, JointDecisions())
    bits = [2, 3, 4, 6, 8, 2]
    raw = States(table, plan, ["raw-last-bits"]).episode(bits)
    scaled = States(table, plan, []).episode(bits)
    assert raw.shape == (6, 9)
    assert raw[:, 8].tolist() == [4, 2, 3, 4, 6, 8]
    assert scaled[:, 8] == pytest.approx([1, 2 / 8, 3 / 8, 4 / 8, 6 / 8, 1])
    assert (raw[:, :8] == scaled[:, :8]).all()


def test_the_overwritten_flag_is_one_before_activations_and_at_the_start(
    tiny_problem: NetworkProblem,
) -> None:
    rows = separate(tiny_problem, "flag-overwritten").episode([4] * 12)
    assert rows[:, 9].tolist() == [1, 1] + [0, 1] * 5


def test_a_stale_start_is_the_second_observation_of_the_episode_before(
    tiny_problem: NetworkProblem,
) -> None:
    stale, clean = separate(tiny_problem, *QUIRKS), separate(tiny_problem)
    before = [2, 8] * 6
    assert (stale.first() == stale.first(None)).all()
    assert stale.first()[8] == 1
    assert (stale.first(before) == stale.episode(before)[1]).all()
    assert stale.episode([4] * 12, before)[0, 8] == 2 / 8
    assert (clean.first(before) == clean.first()).all()


def test_changing_an_observation_changes_no_other(tiny_problem: NetworkProblem) -> None:
    states = separate(tiny_problem)
    states.first()[:] = 7
    states.after([2])[:] = 7
    assert np.abs(states.episode([8] * 12)).max() < 7
