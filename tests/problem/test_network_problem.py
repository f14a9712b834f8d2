import copy
import pickle
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dqmq_env import BitAssignment, BitWidthEnv, Condition, LayerBits, NetworkProblem, describe
from dqmq_env.data import ImageData, ImageSplit
from dqmq_env.errors import (
    AssignmentError,
    ConditionError,
    DataError,
    NetworkError,
    SettingError,
)
from dqmq_env.evaluation.accuracy import judge
from dqmq_env.evaluation.statistics import activation_statistics
from dqmq_env.problem.pass_key import PassKey
from dqmq_env.problem.protocol import Rollout, decided_layers

MakeProblem = Callable[..., NetworkProblem]
CLEAN, NOISE = Condition.parse("clean"), Condition.parse("gaussian_noise/3")


def mixed_bits(problem: NetworkProblem, seed: int = 0) -> BitAssignment:
    """Random bits of every layer, weights and activations alike."""
    rng = np.random.default_rng(seed)
    return BitAssignment(
        {
            name: (width, width)
            for name, widths in problem.candidates.items()
            for width in [int(rng.choice(widths))]
        }
    )


def run(rollout: Rollout, *assignments: BitAssignment) -> None:
    for name in assignments[0]:
        rollout.choose([assignment[name] for assignment in assignments])


def test_what_it_is_made_of(tiny_problem: NetworkProblem) -> None:
    assert [spec.name for spec in tiny_problem.layers] == list(tiny_problem.candidates)
    assert tiny_problem.candidates["conv1"] == tiny_problem.candidates["fc"] == (8,)
    assert tiny_problem.candidates["layer2.0.conv1"] == (2, 4, 8)
    assert tiny_problem.batches == 2  # 50 images, 20 in a batch
    layers, candidates = decided_layers(tiny_problem)
    assert layers == list(range(1, 7))
    assert candidates == (2, 4, 8)


def test_the_ends_can_be_decided_too(make_tiny_problem: MakeProblem) -> None:
    problem = make_tiny_problem(first=None, last=None)
    assert decided_layers(problem)[0] == list(range(8))


@pytest.mark.parametrize("ends", [(8, None), (None, 4)])
def test_layers_that_differ_in_candidates_are_not_decided_together(
    make_tiny_problem: MakeProblem, ends: tuple[int | None, int | None]
) -> None:
    problem = make_tiny_problem(bits=(4, 8), first=ends[0], last=ends[1])
    assert len(decided_layers(problem)[0]) == 7


def test_a_problem_without_a_choice_has_no_decisions(make_tiny_problem: MakeProblem) -> None:
    with pytest.raises(AssignmentError, match="candidates: allowed is one set of two or more"):
        decided_layers(make_tiny_problem(bits=(4,)))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"batch_size": 0}, DataError, "batch_size: got 0, allowed are 1 to 50"),
        ({"batch_size": 51}, DataError, "batch_size: got 51, allowed are 1 to 50"),
        ({"calibration_images": 0}, DataError, "calibration_images: got 0, .* 1 to 200"),
        ({"calibration_images": 201}, DataError, "calibration_images: got 201"),
        ({"bits": ()}, AssignmentError, "bits: got"),
        ({"bits": (2, 2)}, AssignmentError, "bits: got"),
        ({"bits": (0, 2)}, AssignmentError, "bits: got 0"),
        ({"bits": (2, 32)}, AssignmentError, "bits: got 32"),
        ({"first": 9}, AssignmentError, "first: got 9"),
        ({"last": 32}, AssignmentError, "last: got 32"),
    ],
)
def test_other_settings_are_refused(
    make_tiny_problem: MakeProblem,
    settings: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        make_tiny_problem(**settings)


class Patched(nn.Conv2d):
    """A convolution that does more than its class."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1


class Small(nn.Module):
    def __init__(self, end: str = "logits", channels: int = 1, conv: type = nn.Conv2d) -> None:
        super().__init__()
        self.one, self.two = conv(channels, 4, 3), nn.Conv2d(4, 4, 3)
        self.fc = nn.Linear(4, 10)
        self.end = end

    def forward(self, x: Tensor) -> object:
        logits = self.fc(self.two(self.one(x).relu()).mean((2, 3)))
        return {"logits": logits, "tuple": (logits, x), "nine": logits[:, :9], "sum": logits.sum()}[
            self.end
        ]


class SideEffect(Small):
    """Calls a module for what it does to its input."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        self.relu(x)
        return self.fc(self.two(x).mean((2, 3)))


class DataDependent(Small):
    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        if x.sum() > 0:
            x = x.relu()
        return self.fc(self.two(x).mean((2, 3)))


def with_nan(network: nn.Module) -> nn.Module:
    with torch.no_grad():
        network.fc.weight[0, 0] = float("nan")
    return network


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Small().train(), "train mode"),
        (with_nan(Small().eval()), r"fc\.weight holds NaN"),
        (Small("tuple").eval(), "its output is tuple"),
        (Small("nine").eval(), "it gives 9 logits, allowed are 10"),
        (Small("sum").eval(), r"its output is \(\)"),
        (Small(channels=3).eval(), r"images of shape \(1, 28, 28\)"),
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 10)).eval(), r"images of shape \(1, 28, 28\)"),
        (Small(conv=Patched).eval(), "other logits"),
        (SideEffect().eval(), "other logits"),
    ],
)
def test_networks_that_do_not_fit_are_refused(
    tiny_data: ImageData, network: nn.Module, message: str
) -> None:
    with pytest.raises(NetworkError, match=message):
        NetworkProblem.over(network, tiny_data, batch_size=20, calibration_images=20)


def test_the_network_is_not_changed(tiny_network: nn.Module, tiny_data: ImageData) -> None:
    before = copy.deepcopy(tiny_network.state_dict())
    problem = NetworkProblem.over(tiny_network, tiny_data, batch_size=20, calibration_images=20)
    problem.evaluate(mixed_bits(problem), "clean")
    after = tiny_network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert not tiny_network.training


def test_calibration_is_repeatable_and_of_mixed_quality(make_tiny_problem: MakeProblem) -> None:
    one, other, third = make_tiny_problem(), make_tiny_problem(), make_tiny_problem(seed=1)
    states = [problem.quantized.state_dict() for problem in (one, other, third)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert any(not torch.equal(states[0][key], states[2][key]) for key in states[0])
    train = {image.numpy().tobytes() for image in one.data.train.images}
    seen = [image.numpy().tobytes() in train for image in one.calibration]
    assert 0 < sum(seen) < len(seen)  # clean ones are from train, the others are corrupted


def test_weight_errors_fall_with_bits(tiny_problem: NetworkProblem) -> None:
    layer = tiny_problem.quantized.layers[2]
    errors = tiny_problem.weight_error(layer.spec.name)
    assert errors.shape == (3,)
    assert 1 > errors[0] > errors[1] > errors[2] > 0
    weight = layer.inner.weight.detach()
    rounded = layer.quantized_weight(4).detach()
    expected = ((rounded - weight).square().sum() / weight.square().sum()).sqrt()
    assert errors[1] == pytest.approx(float(expected), rel=1e-5)


def test_a_dead_layer_gives_finite_observations(
    tiny_network: nn.Module, tiny_data: ImageData
) -> None:
    network = copy.deepcopy(tiny_network)
    with torch.no_grad():
        network.layer2[0].conv1.weight.zero_()
    problem = NetworkProblem.over(network, tiny_data, batch_size=20, calibration_images=20)
    assert problem.weight_error("layer2.0.conv1").tolist() == [0] * 7
    observation, _ = BitWidthEnv(problem).reset(seed=0)
    assert np.isfinite(observation).all()


def test_evaluation_is_a_plain_forward_pass(tiny_problem: NetworkProblem) -> None:
    bits = mixed_bits(tiny_problem)
    for split, images in (("search", tiny_problem.search), ("test", tiny_problem.test)):
        outcome = tiny_problem.evaluate(bits, "gaussian_noise/3", split)
        with torch.no_grad():
            x = tiny_problem.normalize(images.under("gaussian_noise/3"))
            logits = tiny_problem.quantized(x, bits)
        labels = images.split.labels
        accuracy = float((logits.argmax(1) == labels).double().mean())
        assert outcome.accuracy.tolist() == [accuracy]
        assert outcome.loss.tolist() == pytest.approx([float(F.cross_entropy(logits, labels))])


def test_wrong_questions_are_refused(tiny_problem: NetworkProblem) -> None:
    bits = mixed_bits(tiny_problem)
    with pytest.raises(SettingError, match="split: got 'train'"):
        tiny_problem.evaluate(bits, "clean", "train")
    with pytest.raises(ConditionError, match="fog"):
        tiny_problem.evaluate(bits, "fog/3")
    with pytest.raises(AssignmentError, match="without bits"):
        tiny_problem.evaluate(BitAssignment({"conv1": (8, 8)}), "clean")
    with pytest.raises(AssignmentError, match="without bits"):
        tiny_problem.cost(BitAssignment({"conv1": (8, 8)}))


def test_costs_are_fractions_of_those_at_eight_bits(tiny_problem: NetworkProblem) -> None:
    names = list(tiny_problem.candidates)
    assert tiny_problem.cost(BitAssignment.uniform(names, 8)) == {"size": 1, "bops": 1}
    assert tiny_problem.cost(BitAssignment.uniform(names, 4)) == {"size": 0.5, "bops": 0.25}


def test_trainable_is_an_unfolded_copy(tiny_problem: NetworkProblem) -> None:
    trainable = tiny_problem.trainable()
    assert any(isinstance(part, nn.BatchNorm2d) for part in trainable.modules())
    assert not any(isinstance(part, nn.BatchNorm2d) for part in tiny_problem.quantized.modules())
    assert trainable.candidates == tiny_problem.candidates
    x = tiny_problem.normalize(tiny_problem.calibration[:4])
    with torch.no_grad():
        floats = BitAssignment.uniform(list(tiny_problem.candidates), 32)
        assert torch.allclose(trainable(x, floats), tiny_problem.network(x), atol=1e-5)
        for parameter in trainable.parameters():
            parameter.zero_()
    assert float(tiny_problem.network.conv1.weight.detach().abs().sum()) > 0
    assert float(tiny_problem.trainable().layers[0].inner.weight.detach().abs().sum()) > 0


# Rollouts.


def test_a_rollout_ends_as_an_evaluation_of_its_batch(tiny_problem: NetworkProblem) -> None:
    bits = mixed_bits(tiny_problem, 3)
    rollout = tiny_problem.start([NOISE], [1])
    run(rollout, bits)
    images, labels = tiny_problem.batch(PassKey("search", NOISE, 1))
    assert torch.equal(labels, tiny_problem.data.search.labels[20:40])
    with torch.no_grad():
        logits = tiny_problem.quantized(tiny_problem.normalize(images), bits)
    outcome = rollout.outcome()
    assert outcome.accuracy.tolist() == [float((logits.argmax(1) == labels).double().mean())]
    assert outcome.loss.tolist() == pytest.approx([float(F.cross_entropy(logits, labels))])


def test_what_a_rollout_shows(tiny_problem: NetworkProblem) -> None:
    rollout = tiny_problem.start([NOISE, CLEAN], [1, 0])
    images = tiny_problem.search.under(NOISE)[20:40]
    assert np.allclose(rollout.quality[0], describe(images).mean(0).numpy())
    assert rollout.quality.shape == (2, 6)
    assert rollout.images.shape == (2, 16, 28, 28, 1)
    assert rollout.images.dtype == np.uint8
    assert np.array_equal(rollout.images[0, :, :, :, 0], images[:16, 0].numpy())
    x = tiny_problem.normalize(images)
    reach = tiny_problem.quantized.layers[0].activation_range
    assert np.allclose(rollout.activation()[0], activation_statistics(x, reach)[0].numpy())


def test_activations_depend_on_the_bits_before(tiny_problem: NetworkProblem) -> None:
    rollout = tiny_problem.start([CLEAN, CLEAN], [0, 0])
    rollout.choose([LayerBits(8, 8)] * 2)
    before = rollout.activation()
    assert np.array_equal(before[0], before[1])
    rollout.choose([LayerBits(2, 2), LayerBits(8, 8)])
    after = rollout.activation()
    assert not np.array_equal(after[0], after[1])


def test_passes_in_step_equal_passes_alone(tiny_problem: NetworkProblem) -> None:
    conditions, batches = [CLEAN, NOISE, CLEAN, CLEAN], [0, 1, 1, 0]
    bits = [mixed_bits(tiny_problem, seed) for seed in (0, 1, 2, 0)]
    together = tiny_problem.start(conditions, batches)
    run(together, *bits)
    outcome = together.outcome()
    for i in range(4):
        alone = tiny_problem.start(conditions[i : i + 1], batches[i : i + 1])
        run(alone, bits[i])
        assert alone.outcome().accuracy[0] == outcome.accuracy[i]
        assert alone.outcome().loss[0] == outcome.loss[i]
        assert np.array_equal(alone.quality[0], together.quality[i])


def test_rollouts_can_be_pickled_midway(tiny_problem: NetworkProblem) -> None:
    bits = mixed_bits(tiny_problem, 4)
    names = list(bits)
    rollout = tiny_problem.start([NOISE], [0])
    for name in names[:4]:
        rollout.choose([bits[name]])
    other = pickle.loads(pickle.dumps(rollout))
    assert np.array_equal(other.activation(), rollout.activation())
    for name in names[4:]:
        rollout.choose([bits[name]])
        other.choose([bits[name]])
    assert other.outcome().accuracy == rollout.outcome().accuracy
    assert other.outcome().loss == rollout.outcome().loss


def test_agents_see_no_test_image(tiny_network: nn.Module, tiny_data: ImageData) -> None:
    """Nothing that an environment gives depends on the test split."""

    def experience(problem: NetworkProblem) -> list[bytes]:
        env = BitWidthEnv(problem)
        observation, _ = env.reset(seed=0)
        seen = [observation.tobytes()]
        for _ in range(6):
            observation, reward, *_ = env.step(1)
            seen += [observation.tobytes(), str(reward).encode()]
        return seen

    noise = torch.randint(256, tiny_data.test.images.shape, dtype=torch.uint8)
    changed = replace(tiny_data, test=ImageSplit(noise, tiny_data.test.labels.flip(0)))
    settings: dict[str, Any] = {"batch_size": 20, "calibration_images": 40}
    one, other = (
        NetworkProblem.over(tiny_network, data, **settings) for data in (tiny_data, changed)
    )
    assert experience(one) == experience(other)


def test_an_untraceable_network_is_evaluated_with_one_warning(tiny_data: ImageData) -> None:
    torch.manual_seed(0)
    network = DataDependent().eval()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        problem = NetworkProblem.over(network, tiny_data, batch_size=20, calibration_images=20)
        bits = mixed_bits(problem)
        rollout = problem.start([CLEAN], [0])
        run(rollout, bits)
        problem.trainable()
    assert ["cannot be traced" in str(w.message) for w in caught] == [True]
    images, labels = problem.batch(PassKey("search", CLEAN, 0))
    with torch.no_grad():
        logits = problem.quantized(problem.normalize(images), bits)
    accuracy = float((logits.argmax(1) == labels).double().mean())
    assert rollout.outcome().accuracy.tolist() == [accuracy]


# What passes have in common is computed once.


@pytest.mark.parametrize("capacity", [0, 20_000, 2**27])
def test_the_cache_changes_no_result(make_tiny_problem: MakeProblem, capacity: int) -> None:
    problem = make_tiny_problem(cache_bytes=capacity)
    for seed in range(3):
        bits = mixed_bits(problem, seed)
        for _ in range(2):
            for condition in (CLEAN, NOISE):
                outcome = problem.evaluate(bits, condition)
                with torch.no_grad():
                    parts = problem.search.under(condition).split(20)
                    logits = torch.cat(
                        [problem.quantized(problem.normalize(p), bits) for p in parts]
                    )
                accuracy, loss = judge(logits, problem.data.search.labels)
                assert (outcome.accuracy[0], outcome.loss[0]) == (accuracy, loss)


def test_a_common_beginning_is_computed_once(make_tiny_problem: MakeProblem) -> None:
    problem = make_tiny_problem()
    calls = []
    for layer in problem.quantized.layers:
        compute = layer.compute

        def counted(*args: Any, name: str = layer.spec.name, compute: Any = compute) -> Tensor:
            calls.append(name)
            return compute(*args)

        layer.compute = counted  # type: ignore[method-assign]
    names = list(problem.candidates)
    bits = dict(problem.quantized.uniform(8))
    problem.evaluate(BitAssignment(bits), CLEAN)
    batches = 3  # 50 images, 20 in a batch
    assert calls == names * batches
    calls.clear()
    problem.evaluate(BitAssignment(bits), CLEAN)
    assert calls == []
    bits["layer3.0.conv1"] = LayerBits(2, 2)
    problem.evaluate(BitAssignment(bits), CLEAN)
    changed = names.index("layer3.0.conv1")
    assert calls == names[changed:] * batches
    calls.clear()
    env = BitWidthEnv(problem)
    env.reset(options={"condition": "clean", "batch": 1})
    for _ in range(6):
        env.step(2)
    assert calls == []


def test_pickled_problems_give_the_same_and_leave_passes_out(
    make_tiny_problem: MakeProblem,
) -> None:
    problem = make_tiny_problem()
    empty = len(pickle.dumps(problem))
    bits = mixed_bits(problem, 1)
    outcome = problem.evaluate(bits, CLEAN)
    data = pickle.dumps(problem)
    assert len(data) < empty * 1.2
    again = pickle.loads(data).evaluate(bits, CLEAN)
    assert (again.accuracy, again.loss) == (outcome.accuracy, outcome.loss)
