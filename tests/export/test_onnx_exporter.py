import json
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dqmq_env.data import ImageData, load_fashion_mnist
from dqmq_env.errors import AssignmentError, ExportError, SettingError
from dqmq_env.evaluation.deployed import StaticNetwork
from dqmq_env.export.onnx_agreement import Agreement, compare
from dqmq_env.export.onnx_exporter import OnnxExporter
from dqmq_env.export.onnx_runner import OnnxNetwork
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.quantization.dorefa import DoReFa
from dqmq_env.quantization.grid import FLOAT_BITS
from dqmq_env.quantization.network import QuantizedNetwork
from dqmq_env.quantization.post_training import StepSearch
from dqmq_env.quantization.scheme import LSQ, Scheme
from dqmq_env.zoo.checkpoints import load_checkpoint

WIDTHS = tuple(range(1, 9))


@pytest.fixture(scope="module")
def problem(make_tiny_problem: Callable[..., NetworkProblem]) -> NetworkProblem:
    """All widths, weights and activations apart, for all layers."""
    return make_tiny_problem(bits=WIDTHS, first=None, last=None)


@pytest.fixture(scope="module")
def exporter(problem: NetworkProblem) -> OnnxExporter:
    return OnnxExporter.over(problem)


def mixed(problem: NetworkProblem, shift: int = 0) -> BitAssignment:
    """Another pair of widths for each layer."""
    names = list(problem.candidates)
    return BitAssignment(
        {name: (WIDTHS[(i + shift) % 8], WIDTHS[(3 * i + 2) % 8]) for i, name in enumerate(names)}
    )


def agreement(
    problem: NetworkProblem,
    exporter: OnnxExporter,
    assignment: BitAssignment,
    network: QuantizedNetwork | None = None,
) -> Agreement:
    expected = StaticNetwork(network or problem.quantized, assignment, problem.normalize)
    found = OnnxNetwork(exporter.serialized(assignment))
    images = torch.cat([problem.data.search.images, problem.data.test.images])
    return compare(expected, found, images)


def assert_same(found: Agreement, largest: float = 0.5) -> None:
    """Classes are the same; logits too, but where an activation was half way between two levels."""
    assert found.other <= found.images // 1000
    assert found.near >= 0.9
    assert found.largest < largest


@pytest.mark.parametrize("shift", range(8))
def test_logits_are_those_of_fake_quantisation(
    problem: NetworkProblem, exporter: OnnxExporter, shift: int
) -> None:
    assert_same(agreement(problem, exporter, mixed(problem, shift)))


def test_also_of_layers_that_are_left_in_float(
    problem: NetworkProblem, exporter: OnnxExporter
) -> None:
    bits = dict(mixed(problem))
    for number, name in enumerate(bits):
        if number % 2:
            bits[name] = (FLOAT_BITS, FLOAT_BITS)  # type: ignore[assignment]
    assert_same(agreement(problem, exporter, BitAssignment(bits)))


def test_also_without_2_bit_types(problem: NetworkProblem) -> None:
    exporter = OnnxExporter.over(problem, opset=21)
    assert_same(agreement(problem, exporter, mixed(problem)))
    model = exporter.model(mixed(problem))
    assert model.opset_import[0].version == 21
    types = {tensor.data_type for tensor in model.graph.initializer}
    assert onnx.TensorProto.INT4 in types
    assert onnx.TensorProto.INT2 not in types


@pytest.mark.parametrize("scheme", [LSQ(), DoReFa()], ids=["lsq", "dorefa"])
def test_networks_in_training_have_their_norms_folded(
    problem: NetworkProblem, scheme: Scheme
) -> None:
    network = problem.trainable(scheme)
    norm = next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    with torch.no_grad():
        norm.weight[0] = -1.0  # which gives the channel a negative scale
    exporter = OnnxExporter.over(problem, network)
    found = agreement(problem, exporter, mixed(problem, 2), network)
    assert_same(found)


@pytest.mark.parametrize(
    "checkpoint", ["resnet8-fashion-mnist", "resnet20-fashion-mnist", "mobilenetv2-fashion-mnist"]
)
def test_architectures_of_the_zoo(checkpoint: str) -> None:
    data = load_fashion_mnist()
    small = ImageData(
        "small", data.train, data.search.take(50), data.test.take(150), data.classes,
        data.mean, data.std,
    )  # fmt: skip
    problem = NetworkProblem.over(
        load_checkpoint(checkpoint)[0],
        small,
        bits=WIDTHS,
        calibration_images=50,
        post_training=StepSearch(),
    )
    exporter = OnnxExporter.over(problem)
    ends = dict.fromkeys(list(problem.candidates)[:: len(problem.candidates) - 1], (8, 8))
    for assignment in (problem.uniform(4), BitAssignment({**mixed(problem, 3), **ends})):
        assert_same(agreement(problem, exporter, assignment))


class Odd(nn.Module):
    """Things that the zoo has not: a layer used twice, tokens, other paddings and activations."""

    def __init__(self) -> None:
        super().__init__()
        self.entry = nn.Conv2d(1, 6, 4, 2, padding_mode="reflect", padding=1)
        self.shared = nn.Conv2d(6, 6, 3, padding="same", groups=3)
        self.tokens = nn.Linear(6, 8)
        self.free = nn.Linear(8, 8, bias=False)
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.entry(x))
        x = self.shared(torch.sigmoid(self.shared(x))) + x
        tokens = F.max_pool2d(x, 2).flatten(2).transpose(1, 2)
        tokens = F.gelu(self.tokens(tokens))
        out: Tensor = self.head(torch.cat([self.free(tokens), tokens], 1).mean(1))
        return out


def own_problem(network: nn.Module, data: ImageData, **settings: object) -> NetworkProblem:
    return NetworkProblem.over(
        network.eval(), data, bits=(1, 2, 3, 8), first=None, last=None, calibration_images=40,
        **settings,
    )  # fmt: skip


def test_networks_from_elsewhere(tiny_data: ImageData) -> None:
    torch.manual_seed(0)
    problem = own_problem(Odd(), tiny_data, exclude=["free"])
    exporter = OnnxExporter.over(problem)
    for bits in (1, 3, 8):
        assert_same(agreement(problem, exporter, problem.uniform(bits)), largest=2)


def test_a_network_that_begins_with_a_linear_layer(tiny_data: ImageData) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 12), nn.ReLU6(), nn.Linear(12, 10))
    problem = own_problem(network, tiny_data)
    assert_same(agreement(problem, OnnxExporter.over(problem), problem.uniform(2)))


def test_what_a_file_says(problem: NetworkProblem, exporter: OnnxExporter) -> None:
    assignment = mixed(problem)
    backwards = BitAssignment(dict(reversed(list(assignment.items()))))
    content = exporter.serialized(backwards)
    assert content == exporter.serialized(assignment)
    model = onnx.load_from_string(content)
    (images,), (logits,) = model.graph.input, model.graph.output
    assert (images.name, logits.name) == ("images", "logits")
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    batch, *shape = images.type.tensor_type.shape.dim
    assert batch.dim_param == "batch"
    assert [side.dim_value for side in shape] == [1, 28, 28]
    assert model.opset_import[0].version == 25
    assert {domain.domain for domain in model.opset_import} == {""}
    assert model.producer_name == "dqmq_env"
    said = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert said["dqmq.schema"] == "dqmq-onnx/1"
    assert said["dqmq.classes"] == list(problem.data.classes)
    found = OnnxNetwork(content)
    assert found.assignment == assignment
    assert list(found.assignment) == list(problem.candidates)
    assert found.bops == pytest.approx(problem.cost(assignment)["bops"])
    assert (found.mean, found.std) == (
        pytest.approx(problem.data.mean),
        pytest.approx(problem.data.std),
    )
    # nothing of the machine that wrote it
    assert str(Path.home()).encode() not in content
    assert b".py" not in content


def test_weights_take_the_bits_of_their_type(
    problem: NetworkProblem, exporter: OnnxExporter
) -> None:
    model = exporter.model(mixed(problem))
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    sizes = {1: 2, 2: 2, 3: 4, 4: 4, 5: 8, 6: 8, 7: 8, 8: 8}
    for spec in problem.layers:
        held = tensors[f"{spec.name}/weight_codes"]
        bits = sizes[mixed(problem)[spec.name].weight]
        assert len(held.raw_data) == -(-spec.weights * bits // 8)
    # beside them there is nothing of their size
    rest = sum(len(t.raw_data) for name, t in tensors.items() if "weight_codes" not in name)
    channels = sum(spec.out_channels for spec in problem.layers)
    assert rest < 2 * 4 * channels + 1000


def test_files_are_written_whole_and_once(
    problem: NetworkProblem, exporter: OnnxExporter, tmp_path: Path
) -> None:
    path = tmp_path / "network.onnx"
    exporter.save(problem.uniform(4), path)
    before = path.read_bytes()
    with pytest.raises(ExportError, match="there already; --force replaces it"):
        exporter.save(problem.uniform(2), path)
    assert path.read_bytes() == before
    exporter.save(problem.uniform(2), path, force=True)
    assert OnnxNetwork.load(path).assignment == problem.uniform(2)
    with pytest.raises(ExportError, match="no folder"):
        exporter.save(problem.uniform(2), tmp_path / "missing" / "network.onnx")
    with pytest.raises(AssignmentError, match="layers without bits"):
        exporter.save(BitAssignment({"conv1": (2, 2)}), tmp_path / "other.onnx")
    with pytest.raises(AssignmentError, match=r"unknown layers: \["):
        exporter.save(BitAssignment({**mixed(problem), "more": (2, 2)}), tmp_path / "other.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["network.onnx"]


class Unsupported(nn.Module):
    """Has an operator that ONNX has no form of."""

    def __init__(self) -> None:
        super().__init__()
        self.entry = nn.Conv2d(1, 4, 3, 4)
        self.head = nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.special.bessel_j0(self.entry(x))
        out: Tensor = self.head(x.mean((2, 3)))
        return out


class Branching(Unsupported):
    """Takes a way that depends on what the values are."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.entry(x)
        if x.sum() > 0:
            x = -x
        out: Tensor = self.head(x.mean((2, 3)))
        return out


@pytest.mark.filterwarnings("ignore:.*cannot be traced")
@pytest.mark.parametrize(
    ("network", "named"), [(Unsupported(), "bessel_j0"), (Branching(), "data-dependent|guard")]
)
def test_networks_without_a_form_in_onnx_are_refused(
    network: nn.Module, named: str, tiny_data: ImageData
) -> None:
    problem = own_problem(network, tiny_data)
    with pytest.raises(ExportError, match=named) as caught:
        OnnxExporter.over(problem)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("network: PyTorch cannot export it to ONNX: ")


def test_other_opsets_are_refused(problem: NetworkProblem) -> None:
    with pytest.raises(SettingError, match=r"opset: got 20, allowed are \[21, 25\]"):
        OnnxExporter.over(problem, opset=20)


@pytest.mark.parametrize(
    ("package", "module"),
    [
        ("onnx", "onnx_exporter"),
        ("onnxscript", "onnx_template"),
        ("onnxruntime", "onnx_runner"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    package: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"dqmq_env.export.{module}"
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SettingError, match=rf"'{package}'.*pip install \"dqmq-env\[export\]\""):
        __import__(name)
