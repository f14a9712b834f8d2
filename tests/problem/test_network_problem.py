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

from dqmq_env import (
    BitAssignment,
    BitWidthEnv,
    Condition,
    LayerBits,
    NetworkProblem,
    Task,
    describe,
)
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
from dqmq_env.problem.protocol import Rollout
from dqmq_env.quantization.post_training import StepSearch
from dqmq_env.task.decisions import (
    DecisionScheme,
    JointDecisions,
    Plan,
    SeparateDecisions,
    plan_of,
)

MakeProblem = Callable[..., NetworkProblem]
CLEAN, NOISE = Condition.parse("clean"), Condition.parse("gaussian_noise/3")


def mixed_bits(problem: NetworkProblem, seed: int = 0) -> BitAssignment:
    """Random bits of the weights and of the activation of every layer."""
    rng = np.random.default_rng(seed)
    return BitAssignment(
        {
            name: tuple(
                int(rng.choice(candidates[name]))
                for candidates in (problem.candidates, problem.activation_candidates)
            )
            for name in problem.candidates
        }
    )


def run(rollout: Rollout, *assignments: BitAssignment) -> None:
    for name in assignments[0]:
        rollout.choose(np.array([assignment[name] for assignment in assignments]))


def joint(problem: NetworkProblem) -> Plan:
    return plan_of(problem, JointDecisions())


def decided(plan: Plan) -> list[int]:
    return [decision.layer for decision in plan.decisions]


def test_what_it_is_made_of(tiny_problem: NetworkProblem) -> None:
    assert [spec.name for spec in tiny_problem.layers] == list(tiny_problem.candidates)
    assert tiny_problem.candidates["conv1"] == tiny_problem.candidates["fc"] == (8,)
    assert tiny_problem.candidates["layer2.0.conv1"] == (2, 4, 8)
    assert tiny_problem.batches == 2  # 50 images, 20 in a batch
    assert tiny_problem.activation_candidates == tiny_problem.candidates
    assert decided(joint(tiny_problem)) == list(range(1, 7))
    assert joint(tiny_problem).candidates == (2, 4, 8)


def test_the_ends_can_be_decided_too(make_tiny_problem: MakeProblem) -> None:
    problem = make_tiny_problem(first=None, last=None)
    assert decided(joint(problem)) == list(range(8))


@pytest.mark.parametrize("ends", [(8, None), (None, 4)])
def test_layers_that_differ_in_candidates_are_not_decided_together(
    make_tiny_problem: MakeProblem, ends: tuple[int | None, int | None]
) -> None:
    problem = make_tiny_problem(bits=(4, 8), first=ends[0], last=ends[1])
    assert len(decided(joint(problem))) == 7


def test_a_problem_without_a_choice_has_no_decisions(make_tiny_problem: MakeProblem) -> None:
    with pytest.raises(AssignmentError, match="candidates: allowed is one set of two or more"):
        joint(make_tiny_problem(bits=(4,)))


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
        ({"activation_bits": 0}, AssignmentError, "bits: got 0"),
        ({"activation_bits": 9}, AssignmentError, "bits: got 9"),
        ({"activation_bits": 32}, AssignmentError, "bits: got 32"),
        ({"activation_bits": 2.5}, AssignmentError, r"bits: got 2\.5"),
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


def test_activation_errors_are_those_of_calibration_images(tiny_problem: NetworkProblem) -> None:
    """Of a sample of the values, that is."""
    x = tiny_problem.normalize(tiny_problem.calibration)
    received: dict[str, Tensor] = {}
    hooks = [
        tiny_problem.network.get_submodule(spec.name).register_forward_hook(
            lambda _, inputs, __, name=spec.name: received.update({name: inputs[0]})
        )
        for spec in tiny_problem.layers
    ]
    with torch.no_grad():
        tiny_problem.network(x)
    for hook in hooks:
        hook.remove()
    for layer in tiny_problem.quantized.layers:
        name = layer.spec.name
        errors = tiny_problem.activation_error(name)
        assert errors.shape == (len(layer.activation_candidates),)
        values = received[name]
        for bits, error in zip(layer.activation_candidates, errors, strict=True):
            rounded = layer.quantized_input(values, bits).detach()
            expected = ((rounded - values).square().sum() / values.square().sum()).sqrt()
            assert error == pytest.approx(float(expected), rel=0.2)
        assert errors[0] < 1
        assert (np.diff(errors) < 0).all()


def test_asking_for_activation_errors_changes_nothing(make_tiny_problem: MakeProblem) -> None:
    asked, other = make_tiny_problem(), make_tiny_problem()
    errors = asked.activation_error("layer1.0.conv1")
    assert np.array_equal(asked.activation_error("layer1.0.conv1"), errors)
    bits = mixed_bits(asked)
    assert asked.evaluate(bits, NOISE) == other.evaluate(bits, NOISE)
    states = [problem.quantized.state_dict() for problem in (asked, other)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not any(layer.training for layer in asked.quantized.layers)


def test_activations_of_one_width(make_tiny_problem: MakeProblem) -> None:
    problem = make_tiny_problem(bits=(2, 4), activation_bits=8)
    names = list(problem.candidates)
    assert problem.candidates == {
        name: (8,) if name in ("conv1", "fc") else (2, 4) for name in names
    }
    assert problem.activation_candidates == dict.fromkeys(names, (8,))
    expected = {name: (8, 8) if name in ("conv1", "fc") else (2, 8) for name in names}
    assert problem.uniform(2) == BitAssignment(expected)
    for scheme in (JointDecisions(), SeparateDecisions()):
        plan = plan_of(problem, scheme)
        assert decided(plan) == list(range(1, 7))
        assert plan.candidates == (2, 4)
    for name in names:
        assert problem.activation_error(name).shape == (1,)
    with pytest.raises(AssignmentError, match=r"got 8, the candidates of layer1\.0\.conv1"):
        problem.uniform(8)
    with pytest.raises(AssignmentError, match=r"got 4 bits, its candidates are \[8\]"):
        problem.evaluate(BitAssignment(expected | {"layer1.0.conv1": (4, 4)}), "clean")


def test_the_width_of_activations_matters_for_accuracy_but_not_for_size(
    make_tiny_problem: MakeProblem,
) -> None:
    settings: dict[str, Any] = {"bits": (4, 8), "post_training": StepSearch()}
    problems = [make_tiny_problem(**settings, activation_bits=bits) for bits in (2, 8)]
    low, high = (problem.uniform(8) for problem in problems)
    outcomes = [p.evaluate(bits, "clean") for p, bits in zip(problems, (low, high), strict=True)]
    assert outcomes[0].loss[0] != outcomes[1].loss[0]
    costs = [p.cost(bits) for p, bits in zip(problems, (low, high), strict=True)]
    assert costs[0]["size"] == costs[1]["size"] == 1
    assert costs[0]["bops"] < costs[1]["bops"] == 1
    # at the same bits it is the same network as one whose activations have candidates
    alike = make_tiny_problem(**settings).evaluate(high, "clean")
    assert (alike.accuracy, alike.loss) == (outcomes[1].accuracy, outcomes[1].loss)
    trainable = problems[0].trainable()
    assert trainable.activation_candidates == problems[0].activation_candidates


def test_a_dead_layer_gives_finite_observations(
    tiny_network: nn.Module, tiny_data: ImageData
) -> None:
    network = copy.deepcopy(tiny_network)
    with torch.no_grad():
        network.layer2[0].conv1.weight.zero_()
    problem = NetworkProblem.over(network, tiny_data, batch_size=20, calibration_images=20)
    assert problem.weight_error("layer2.0.conv1").tolist() == [0] * 7
    for decisions in (JointDecisions(), SeparateDecisions()):
        observation, _ = BitWidthEnv(problem, Task(decisions=decisions)).reset(seed=0)
        assert np.isfinite(observation).all()
    for spec in problem.layers:
        assert np.isfinite(problem.activation_error(spec.name)).all()


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
    assert np.allclose(rollout.activation()[0], activation_statistics(x, 1, reach)[0].numpy())


def test_activations_depend_on_the_bits_before(tiny_problem: NetworkProblem) -> None:
    rollout = tiny_problem.start([CLEAN, CLEAN], [0, 0])
    rollout.choose(np.array([LayerBits(8, 8)] * 2))
    before = rollout.activation()
    assert np.array_equal(before[0], before[1])
    rollout.choose(np.array([LayerBits(2, 2), LayerBits(8, 8)]))
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
        rollout.choose(np.array([bits[name]]))
    other = pickle.loads(pickle.dumps(rollout))
    assert np.array_equal(other.activation(), rollout.activation())
    for name in names[4:]:
        rollout.choose(np.array([bits[name]]))
        other.choose(np.array([bits[name]]))
    assert other.outcome().accuracy == rollout.outcome().accuracy
    assert other.outcome().loss == rollout.outcome().loss


@pytest.mark.parametrize("decisions", [JointDecisions(), SeparateDecisions()])
def test_agents_see_no_test_image(
    tiny_network: nn.Module, tiny_data: ImageData, decisions: DecisionScheme
) -> None:
    """Nothing that an environment gives depends on the test split."""

    def experience(problem: NetworkProblem) -> list[bytes]:
        env = BitWidthEnv(problem, Task(decisions=decisions))
        observation, _ = env.reset(seed=0)
        seen = [observation.tobytes()]
        for _ in range(env.core.decisions):
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
        outcome = rollout.outcome()
        problem.trainable()
    assert ["cannot be traced" in str(w.message) for w in caught] == [True]
    images, labels = problem.batch(PassKey("search", CLEAN, 0))
    with torch.no_grad():
        logits = problem.quantized(problem.normalize(images), bits)
    accuracy = float((logits.argmax(1) == labels).double().mean())
    assert outcome.accuracy.tolist() == [accuracy]


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
