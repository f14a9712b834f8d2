"""A packed file holds exactly the network that it was given."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from dqmq_env.data import ImageData
from dqmq_env.errors import ExportError
from dqmq_env.evaluation.deployed import StaticNetwork
from dqmq_env.evaluation.normalize import Normalize
from dqmq_env.export import (
    About,
    Policy,
    load,
    pack,
    read,
    restore,
    save,
    snapped,
    snapped_rule,
    write,
)
from dqmq_env.export.packed import Settled, packed_of
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quality.condition import CLEAN, Condition
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.quantization.network import QuantizedNetwork
from dqmq_env.quantization.post_training import Reconstruction
from dqmq_env.quantization.scheme import LSQ, Scheme
from dqmq_env.quantization.scheme_names import SCHEMES
from dqmq_env.search.rule import Rule
from dqmq_env.training.fine_tune import RuleNetwork, fine_tune
from dqmq_env.training.loop import Schedule
from dqmq_env.zoo.resnet import CifarResNet

NOISE = Condition("gaussian_noise", 3)
Quantize = Callable[..., QuantizedNetwork]


@pytest.fixture(scope="module")
def images(tiny_problem: NetworkProblem) -> Tensor:
    return tiny_problem.data.test.images[:12]


@pytest.fixture(scope="module")
def other() -> nn.Module:
    """Of the architecture of the tiny network, with weights of its own."""
    torch.manual_seed(5)
    return CifarResNet(8, width=4)


def mixed(problem: NetworkProblem) -> BitAssignment:
    names = list(problem.candidates)
    return BitAssignment(
        {name: problem.uniform((2, 4, 8)[number % 3])[name] for number, name in enumerate(names)}
    )


def make_rule(problem: NetworkProblem) -> Rule:
    return Rule({CLEAN: problem.uniform(2), NOISE: problem.uniform(8), "jpeg/5": mixed(problem)})


def logits(network: Settled, images: Tensor) -> list[bytes]:
    """Of a network, under each of its conditions if it has any."""
    if isinstance(network, RuleNetwork):
        found = [network.under(condition)(images).logits for condition in network.rule]
    else:
        found = [network(images).logits]
    assert all(bool(own.isfinite().all()) for own in found)
    return [own.numpy().tobytes() for own in found]


def after_a_file(network: Settled, module: nn.Module, path: Path) -> Settled:
    save(path / "net.dqmq", network)
    return load(path / "net.dqmq", module)


# One assignment.


@pytest.mark.parametrize("bits", [2, 4, 8, None])
def test_a_network_quantised_after_training(
    tiny_problem: NetworkProblem, images: Tensor, other: nn.Module, tmp_path: Path, bits: int | None
) -> None:
    assignment = mixed(tiny_problem) if bits is None else tiny_problem.uniform(bits)
    network = StaticNetwork(tiny_problem.quantized, assignment, tiny_problem.normalize)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    found = after_a_file(network, other, tmp_path)
    assert logits(found, images) == logits(network, images)
    expected, own = network(images), found(images)  # type: ignore[operator]
    assert own.bits.equal(expected.bits)
    assert own.cost.equal(expected.cost)
    assert all(value.equal(before[name]) for name, value in other.state_dict().items())


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("width", [1, 3, 8])
def test_a_fine_tuned_network_under_each_scheme(
    make_tiny_problem: Callable[..., NetworkProblem],
    images: Tensor,
    other: nn.Module,
    tmp_path: Path,
    name: str,
    width: int,
) -> None:
    problem = make_tiny_problem((1, 3, 8), calibration_images=10, post_training=Steps())
    schedule = Schedule(images=8, batch=8)
    network = fine_tune(problem, problem.uniform(width), schedule, scheme=SCHEMES[name])
    assert logits(after_a_file(network, other, tmp_path), images) == logits(network, images)


class Steps:
    """No rounding at all, as fine-tuning makes a copy of its own."""

    def __call__(self, network: QuantizedNetwork, x: Tensor) -> None:
        network.calibrate(x)


@pytest.mark.parametrize("weight", [3, 32])
@pytest.mark.parametrize("activation", [5, 32])
def test_weights_or_activations_in_float(
    tiny_network: nn.Module,
    tiny_input: Tensor,
    images: Tensor,
    quantize: Quantize,
    other: nn.Module,
    tmp_path: Path,
    weight: int,
    activation: int,
) -> None:
    quantized = quantize(tiny_network, tiny_input, bits=(3, 5))
    pair = (weight, activation)
    assignment = BitAssignment(dict.fromkeys(quantized.candidates, pair))
    network = StaticNetwork(quantized, assignment, Normalize([0.5], [0.5]))
    assert logits(after_a_file(network, other, tmp_path), images) == logits(network, images)


class Odd(nn.Module):
    """A batch norm that cannot be folded, a bias-free layer, one used twice, one under two names,
    one in float, a parameter and an integer buffer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.first = nn.Conv2d(1, 6, 3, padding=1, bias=False)
        self.twice = nn.Conv2d(6, 6, 3, padding=1, groups=3, stride=1)
        self.alias = self.twice
        self.excluded = nn.Conv2d(6, 6, 1)
        self.gain = nn.Parameter(torch.rand(6, 1, 1))
        self.register_buffer("count", torch.tensor([3], dtype=torch.int64))
        self.last = nn.Linear(6, 10, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.norm(x)).relu()
        x = self.alias(self.twice(x).relu()) * self.gain
        return self.last(self.excluded(x).mean((2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("fitted", [False, True])
def test_a_network_with_parts_that_are_not_quantised(
    tiny_data: ImageData, images: Tensor, tmp_path: Path, fitted: bool
) -> None:
    torch.manual_seed(0)
    network = Odd().eval()
    problem = NetworkProblem.over(
        network,
        tiny_data,
        bits=(2, 4),
        exclude=["excluded"],
        calibration_images=10,
        post_training=Reconstruction(patches=256) if fitted else Steps(),
    )
    static = StaticNetwork(problem.quantized, problem.uniform(2), problem.normalize)
    packed = packed_of(static).network
    assert "excluded.weight" in packed.leftovers
    assert "gain" in packed.leftovers
    assert packed.leftovers["count"].tolist() == [3]
    assert not any(name.startswith(("first", "twice", "alias")) for name in packed.leftovers)
    torch.manual_seed(1)
    assert logits(after_a_file(static, Odd(), tmp_path), images) == logits(static, images)


# A rule.


@pytest.mark.parametrize("name", SCHEMES)
def test_a_trained_rule_and_its_snapped_form(
    tiny_problem: NetworkProblem, images: Tensor, other: nn.Module, tmp_path: Path, name: str
) -> None:
    rule = make_rule(tiny_problem)
    trained = fine_tune(tiny_problem, rule, Schedule(images=8, batch=8), scheme=SCHEMES[name])
    network = snapped_rule(trained)
    sizes = []
    for number, own in enumerate((trained, network)):
        path = tmp_path / f"{number}.dqmq"
        save(path, own)
        found = load(path, other)
        assert isinstance(found, RuleNetwork)
        assert found.rule.to_dict() == own.rule.to_dict()
        assert list(found.rule) == list(own.rule)
        assert logits(found, images) == logits(own, images)
        sizes.append(path.stat().st_size)
        again = tmp_path / f"{number}-again.dqmq"
        save(again, found)
        assert again.read_bytes() == path.read_bytes()
    widest = sum(
        layer.spec.weights * layer.widths[-1] for layer in packed_of(network).network.layers
    )
    assert codes_of(tmp_path / "1.dqmq") == pytest.approx(widest / 8, abs=len(rule[CLEAN]))
    assert sizes[1] <= sizes[0]


def codes_of(path: Path) -> int:
    return load_file(path)["codes"].numel()


def test_a_snapped_network_has_the_weights_that_its_widest_codes_stand_for(
    tiny_problem: NetworkProblem, images: Tensor
) -> None:
    """With learned steps it is the network whose float weights are exchanged, and nothing else."""
    rule = make_rule(tiny_problem)
    trained = fine_tune(tiny_problem, rule, Schedule(images=8, batch=8))
    expected = copy.deepcopy(trained.network)
    with torch.no_grad():
        for layer in expected.layers:
            widest = max(own[layer.spec.name].weight for own in rule.values())
            layer.inner.weight.copy_(layer.quantized_weight(widest))
    found = snapped(trained.network, trained.rule)
    for condition, assignment in trained.rule.items():
        by_hand = StaticNetwork(expected, assignment, tiny_problem.normalize)
        own = StaticNetwork(found, assignment, tiny_problem.normalize)
        assert own(images).logits.equal(by_hand(images).logits), condition
    widest_bits = trained.rule[NOISE]
    before = StaticNetwork(trained.network, widest_bits, tiny_problem.normalize)
    after = StaticNetwork(found, widest_bits, tiny_problem.normalize)
    assert before(images).logits.equal(after(images).logits)


def test_snapping_twice_is_snapping_once(tiny_problem: NetworkProblem) -> None:
    rule = make_rule(tiny_problem)
    once = snapped(tiny_problem.quantized, rule)
    twice = snapped(once, rule)
    for one, other in zip(once.layers, twice.layers, strict=True):
        for width in one.candidates:
            assert one.weight_codes(width).equal(other.weight_codes(width))


def test_a_rule_after_training_keeps_the_rounding_of_each_width(
    tiny_problem: NetworkProblem, images: Tensor, other: nn.Module, tmp_path: Path
) -> None:
    rule = make_rule(tiny_problem)
    network = RuleNetwork(tiny_problem.quantized, rule, tiny_problem.normalize)
    assert logits(after_a_file(network, other, tmp_path), images) == logits(network, images)
    layer = read(tmp_path / "net.dqmq").network.layers[1]
    own = tiny_problem.quantized.layers[1]
    for width in layer.widths:
        assert layer.codes[width].view(layer.shape).equal(own.weight_codes(width).to(torch.int8))


@pytest.mark.parametrize("pairs", [((2, 8), (8, 4)), ((32, 8), (4, 4), (4, 8)), ((32, 32), (2, 8))])
def test_widths_that_do_not_go_together(
    tiny_problem: NetworkProblem,
    images: Tensor,
    other: nn.Module,
    tmp_path: Path,
    pairs: tuple[tuple[int, int], ...],
) -> None:
    names = list(tiny_problem.candidates)
    ends = {names[0]: (8, 8), names[-1]: (8, 8)}
    conditions = ("clean", "jpeg/1", "jpeg/2")
    rule = Rule(
        {
            condition: BitAssignment({name: ends.get(name, pair) for name in names})
            for condition, pair in zip(conditions, pairs, strict=False)
        }
    )
    for network in (tiny_problem.quantized, tiny_problem.trainable(LSQ())):
        own = RuleNetwork(network, rule, tiny_problem.normalize)
        save(tmp_path / "net.dqmq", own, force=True)
        assert logits(load(tmp_path / "net.dqmq", other), images) == logits(own, images)


# What the header says.


def test_the_header_says_what_a_reader_needs(tiny_problem: NetworkProblem, tmp_path: Path) -> None:
    about = About("tiny", {"name": "resnet8", "width": 4}, tiny_problem.data.classes)
    network = StaticNetwork(tiny_problem.quantized, mixed(tiny_problem), tiny_problem.normalize)
    save(tmp_path / "net.dqmq", network, about)
    packed = read(tmp_path / "net.dqmq")
    assert packed.about == About("tiny", about.architecture, tuple(about.classes))
    assert packed.bits == mixed(tiny_problem)
    assert list(packed.network.specs) == list(tiny_problem.layers)
    assert packed.mean == pytest.approx(tiny_problem.data.mean)
    assert packed.network.scheme == "lsq"
    ranges = [float(layer.activation_range) for layer in packed.network.layers]
    assert ranges == [float(layer.activation_range) for layer in tiny_problem.quantized.layers]
    found = load(tmp_path / "net.dqmq")  # the zoo has the architecture
    assert logits(found, tiny_problem.data.test.images[:3]) == logits(
        network, tiny_problem.data.test.images[:3]
    )


def test_a_policy_is_kept_for_its_agent(
    tiny_problem: NetworkProblem, other: nn.Module, tmp_path: Path
) -> None:
    policy = Policy("mine/1", {"depth": 2}, {"w": torch.rand(3), "n": torch.tensor([4])})
    options = tiny_problem.quantized.options
    packed = pack(tiny_problem.quantized, options, tiny_problem.normalize, policy=policy)
    write(tmp_path / "net.dqmq", packed)
    with pytest.raises(ExportError, match="policy of the kind 'mine/1'"):
        load(tmp_path / "net.dqmq", other)
    found = read(tmp_path / "net.dqmq")
    assert found.policy is not None
    assert (found.policy.kind, found.policy.settings) == ("mine/1", {"depth": 2})
    assert found.policy.tensors["w"].equal(policy.tensors["w"])
    assert found.policy.tensors["n"].equal(policy.tensors["n"])
    x = tiny_problem.normalize(tiny_problem.data.test.images[:5])
    network = restore(found.network, other)
    with torch.no_grad():
        for bits in (2, 4, 8):
            expected = tiny_problem.quantized(x, tiny_problem.uniform(bits))
            assert network(x, network.uniform(bits)).equal(expected)
    with pytest.raises(ExportError, match="allowed is one of the two"):
        pack(tiny_problem.quantized, options, tiny_problem.normalize)


def test_a_scheme_of_ones_own_is_refused(tiny_problem: NetworkProblem) -> None:
    class Mine(LSQ):
        pass

    scheme: Scheme = Mine()
    with pytest.raises(ExportError, match="schemes \\['Mine'\\], allowed is one of"):
        pack(tiny_problem.trainable(scheme), tiny_problem.uniform(4), tiny_problem.normalize)
