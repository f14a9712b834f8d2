import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import nn

from dqmq_env.errors import AssignmentError, SettingError
from dqmq_env.export.onnx_layers import TYPES, put_bias, put_input, put_weight, type_width
from dqmq_env.export.onnx_nodes import Nodes
from dqmq_env.quantization.assignment import LayerBits
from dqmq_env.quantization.dorefa import DoReFa
from dqmq_env.quantization.grid import FLOAT_BITS
from dqmq_env.quantization.layer import QuantizedLayer
from dqmq_env.quantization.network import QuantizedNetwork
from dqmq_env.quantization.post_training import Reconstruction, StepSearch
from dqmq_env.quantization.scheme import DEFAULT_SCHEME, Scheme
from dqmq_env.quantization.tracing import trace_layers

WIDTHS = tuple(range(1, 9))
SIGNED = {2: TensorProto.INT2, 4: TensorProto.INT4, 8: TensorProto.INT8}
UNSIGNED = {2: TensorProto.UINT2, 4: TensorProto.UINT4, 8: TensorProto.UINT8}


def make_layer(
    inner: nn.Conv2d | nn.Linear | None = None,
    scheme: Scheme = DEFAULT_SCHEME,
    fitted: bool = False,
    signed: bool = True,
) -> QuantizedLayer:
    torch.manual_seed(0)
    inner = inner or nn.Conv2d(4, 6, 3, groups=2)
    x = torch.randn(8, 4, 7, 7) if isinstance(inner, nn.Conv2d) else torch.randn(40, 12)
    x = x if signed else x.relu()
    network = nn.Sequential(inner).eval()
    widths = {"0": WIDTHS}
    specs = trace_layers(network, x[:1])
    quantized = QuantizedNetwork(network, specs, widths, True, widths, scheme)
    (Reconstruction(patches=64) if fitted else StepSearch())(quantized, x)
    return quantized.layers[0]


def model_of(nodes: Nodes, result: str, opset: int, rank: int = 1) -> onnx.ModelProto:
    """The graph from a vector ``x`` to a value with some number of dimensions."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N"])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, list("abcd"[:rank]))]
    nodes.add("Identity", [result], "y")
    graph = helper.make_graph([], "graph", inputs, outputs)
    nodes.put_into(graph)
    imports = [helper.make_opsetid("", opset)]
    version = helper.find_min_ir_version_for(imports)
    model = helper.make_model(graph, opset_imports=imports, ir_version=version)
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: onnx.ModelProto, x: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    given = np.zeros(1, np.float32) if x is None else x
    (found,) = session.run(None, {"x": given})
    return np.asarray(found)


def tensor(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    (found,) = (t for t in model.graph.initializer if t.name == name)
    return found


def computed_weight(layer: QuantizedLayer, bits: LayerBits) -> NDArray[np.float32]:
    """Codes times steps, which tests of the integer reference find to be what is computed with."""
    codes = layer.weight_codes(bits.weight).float()
    offset = layer.weight_grid(layer.candidates.index(bits.weight)).offset
    steps = layer.weight_steps(bits).view(-1, *(1 for _ in codes.shape[1:]))
    return ((codes + offset) * steps).numpy()


@pytest.mark.parametrize("opset", TYPES)
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", WIDTHS)
def test_inputs_are_rounded_as_fake_quantisation_does(bits: int, signed: bool, opset: int) -> None:
    layer = make_layer(signed=signed)
    position = layer.activation_candidates.index(bits)
    grid, step = layer.activation_grid(position), layer.activation_log_step[position].exp()
    assert (grid.low < 0) == (signed and bits > 1)
    places = torch.arange(grid.low - 3, grid.high + 4)[:, None]
    x = ((places + torch.tensor([-0.49, -0.2, 0.0, 0.3, 0.49])) * step).flatten().detach()
    x = torch.cat([x, torch.tensor([-1e9, 1e9])])
    expected = layer.quantized_input(x, bits).detach().numpy()
    nodes = Nodes()
    model = model_of(nodes, put_input(nodes, layer, LayerBits(8, bits), "x", opset), opset)
    np.testing.assert_array_equal(run(model, x.numpy()), expected)
    assert len(np.unique(expected)) == 2**bits
    width = type_width(bits, opset)
    assert tensor(model, "0/input_zero_point").data_type == UNSIGNED[width]


@given(bits=st.sampled_from(WIDTHS), seed=st.integers(0, 2**16), scale=st.floats(0.01, 100))
@settings(max_examples=30)
def test_so_are_any_inputs_but_those_half_way_between(bits: int, seed: int, scale: float) -> None:
    layer = make_layer()
    x = torch.randn(500, generator=torch.Generator().manual_seed(seed)) * scale
    step = layer.activation_log_step[layer.activation_candidates.index(bits)].exp()
    half = (x / step - (x / step).floor() - 0.5).abs() < 1e-4
    x = x[~half].detach()
    nodes = Nodes()
    model = model_of(nodes, put_input(nodes, layer, LayerBits(8, bits), "x", 25), 25)
    expected = layer.quantized_input(x, bits).detach().numpy()
    np.testing.assert_array_equal(run(model, x.numpy()), expected)


@pytest.mark.parametrize("opset", TYPES)
@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize(
    "layer",
    [
        make_layer(),
        make_layer(nn.Linear(12, 5)),
        make_layer(scheme=DoReFa()),
        make_layer(nn.Linear(12, 5), DoReFa()),
        make_layer(fitted=True),
    ],
    ids=["conv", "linear", "conv, dorefa", "linear, dorefa", "conv, rounded"],
)
def test_weights_are_those_that_are_computed_with(
    layer: QuantizedLayer, bits: int, opset: int
) -> None:
    pair = LayerBits(bits, 3)
    nodes = Nodes()
    weight = computed_weight(layer, pair)
    expected = weight.T if isinstance(layer.inner, nn.Linear) else weight
    model = model_of(nodes, put_weight(nodes, layer, pair, opset), opset, weight.ndim)
    np.testing.assert_allclose(run(model), expected, rtol=3e-7, atol=0)
    width = type_width(bits, opset)
    codes = tensor(model, "0/weight_codes")
    assert codes.data_type == SIGNED[width]
    assert len(codes.raw_data) == -(-layer.spec.weights * width // 8)
    offset = layer.weight_grid(layer.candidates.index(bits)).offset
    # one node gives the weight but where levels lie between integers and fill the type
    assert len(model.graph.node) == 1 + 1 + (offset != 0 and bits == width)


def test_float_stays_float() -> None:
    layer, float_bits = make_layer(), LayerBits(FLOAT_BITS, FLOAT_BITS)
    nodes = Nodes()
    assert put_input(nodes, layer, float_bits, "x", 25) == "x"
    model = model_of(nodes, put_weight(nodes, layer, float_bits, 25), 25, 4)
    np.testing.assert_array_equal(run(model), layer.inner.weight.detach().numpy())


def test_biases_have_their_corrections() -> None:
    layer, pair = make_layer(fitted=True), LayerBits(2, 2)
    bias = layer.bias(pair)
    assert bias is not None
    assert layer.inner.bias is not None
    assert not torch.equal(bias, layer.inner.bias)
    nodes = Nodes()
    found = run(model_of(nodes, put_bias(nodes, layer, pair), 25, 3))
    np.testing.assert_array_equal(found[:, 0, 0], bias.detach().numpy())


def test_a_layer_that_is_used_twice_is_stored_once() -> None:
    layer, pair = make_layer(), LayerBits(3, 3)
    nodes = Nodes()
    once = [put_weight(nodes, layer, pair, 25) for _ in range(2)]
    first = put_input(nodes, layer, pair, "x", 25)
    second = put_input(nodes, layer, pair, first, 25)
    assert once[0] == once[1]
    assert first != second
    model = model_of(nodes, second, 25)
    names = [tensor.name for tensor in model.graph.initializer]
    assert len(names) == len(set(names))


def test_what_does_not_fit_is_refused() -> None:
    layer = make_layer()
    with pytest.raises(AssignmentError, match="got 9 bits"):
        put_weight(Nodes(), layer, LayerBits(9, 2), 25)
    with pytest.raises(AssignmentError, match="got 9 for the input"):
        put_input(Nodes(), layer, LayerBits(2, 9), "x", 25)
    with pytest.raises(SettingError, match=r"opset: got 18, allowed are \[21, 25\]"):
        type_width(2, 18)
