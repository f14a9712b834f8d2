from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents.hybrid.agent import HybridAgent
from agents.hybrid.settings import HybridSettings
from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.errors import CheckpointError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quantization.network import QuantizedNetwork
from dqmq_env.training.loop import Schedule, Trainer
from dqmq_env.training.objective import StaticObjective

SCHEDULE = Schedule(images=12 * 16, batch=16, save_every=4, log_every=2)


def trainer(
    problem: NetworkProblem, folder: Path | None, schedule: Schedule = SCHEDULE
) -> tuple[Trainer, QuantizedNetwork]:
    network = problem.trainable()
    return Trainer(problem, network, StaticObjective(network.uniform(4)), schedule, folder), network


@pytest.mark.parametrize("stop", [1, 4, 7, 11])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    tiny_problem: NetworkProblem, tmp_path: Path, stop: int
) -> None:
    whole, expected = trainer(tiny_problem, None)
    whole.run()
    first, _ = trainer(tiny_problem, tmp_path)
    first.run(lambda step: step < stop)
    assert first.step == stop
    second, network = trainer(tiny_problem, tmp_path)
    second.run()
    assert second.step == SCHEDULE.steps
    for name, value in expected.state_dict().items():
        assert torch.equal(value, network.state_dict()[name]), name


def test_a_finished_run_is_not_trained_again(tiny_problem: NetworkProblem, tmp_path: Path) -> None:
    trainer(tiny_problem, tmp_path)[0].run()
    steps: list[int] = []
    trainer(tiny_problem, tmp_path)[0].run(lambda step: steps.append(step) is None)
    assert steps == []


def test_another_schedule_is_refused(tiny_problem: NetworkProblem, tmp_path: Path) -> None:
    trainer(tiny_problem, tmp_path)[0].run()
    other = Schedule(images=12 * 16, batch=16, seed=1)
    with pytest.raises(CheckpointError, match="other settings"):
        trainer(tiny_problem, tmp_path, other)[0].run()


def test_another_assignment_or_budget_is_refused(
    tiny_problem: NetworkProblem, tmp_path: Path
) -> None:
    trainer(tiny_problem, tmp_path / "static")[0].run()
    network = tiny_problem.trainable()
    objective = StaticObjective(network.uniform(8))
    with pytest.raises(CheckpointError, match="other settings"):
        Trainer(tiny_problem, network, objective, SCHEDULE, tmp_path / "static").run()
    env, folder = BitWidthEnv(tiny_problem), tmp_path / "hybrid"
    HybridAgent(
        env, HybridSettings(budget=0.3, group=16, settle_images=32), SCHEDULE, folder, "cpu"
    ).learn()
    with pytest.raises(CheckpointError, match="other settings"):
        HybridAgent(
            env, HybridSettings(budget=0.4, group=16, settle_images=32), SCHEDULE, folder, "cpu"
        ).learn()


def test_a_damaged_state_is_refused(tiny_problem: NetworkProblem, tmp_path: Path) -> None:
    trainer(tiny_problem, tmp_path)[0].run()
    path = tmp_path / "state.dqmq"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="damaged"):
        trainer(tiny_problem, tmp_path)[0].run()


def test_the_rate_rises_and_falls_to_nothing() -> None:
    rates = [SCHEDULE.rate(step) for step in range(SCHEDULE.steps)]
    assert max(rates) == 1
    assert rates.index(1) <= 1
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert 0 < rates[-1] < 0.1


def test_the_curves_of_a_hybrid_run_are_there(tiny_problem: NetworkProblem, tmp_path: Path) -> None:
    env = BitWidthEnv(tiny_problem)
    HybridAgent(
        env, HybridSettings(budget=0.3, group=16, settle_images=32), SCHEDULE, tmp_path, "cpu"
    ).learn()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    tags = events.Tags()
    assert {
        "loss/task",
        "policy/multiplier",
        "policy/expected_cost",
        "policy/temperature",
        "bits_by_layer/00",
        "bits_by_corruption/clean",
        "train/learning_rate",
    } <= set(tags["scalars"])
    pictures = " ".join(tags["images"])
    for part in ("conditions/clean", "conditions/jpeg/5", "bits/layers_by_corruption"):
        assert part in pictures
    steps = [event.step for event in events.Scalars("policy/multiplier")]
    assert steps == list(range(2, SCHEDULE.steps + 1, 2))
