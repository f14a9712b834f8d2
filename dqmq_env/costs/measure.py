"""Build a latency table on this machine, through ONNX Runtime."""

import math
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from dqmq_env.costs.cost import REFERENCE_BITS, uses
from dqmq_env.costs.latency import LatencyTable
from dqmq_env.costs.layer_model import Shape, layer_model
from dqmq_env.costs.measuring import Measuring
from dqmq_env.costs.timing import Timing
from dqmq_env.export.onnx_extra import export_extra
from dqmq_env.machine import processor_name
from dqmq_env.progress import progress
from dqmq_env.quantization.grid import FLOAT_BITS, MAX_BITS
from dqmq_env.quantization.tracing import trace_layers
from dqmq_env.randomness import numpy_generator

with export_extra():
    import onnx
    import onnxruntime as ort

_INTEGER_KERNELS = {"QLinearConv", "QLinearMatMul", "QGemm", "MatMulNBits"}
_NO_INTEGERS = "session.disable_quant_qdq"
_SAMPLE = 0.5e-3
_MOST_CALLS = 50
_PROBE = Shape((4, 4, 3, 3), (4, 8, 8))


def measure(
    network: nn.Module, example: Tensor, how: Measuring | None = None, shown: bool = True
) -> LatencyTable:
    """Time each layer of a network by itself, at its real input shape, for each pair of bits.

    Each round times every layer and type once, in an order drawn anew: a single call that is not
    timed, then as many as take about half a millisecond. What is stated is the median over the
    rounds, and the quartiles. Layers of one shape share their times.

    Args:
        network: any module with ``Conv2d`` or ``Linear`` layers; its weights do not matter.
        example: input of one image, shape (1, C, H, W).
        how: bits, types, rounds.
        shown: whether there is a progress bar.

    Raises:
        SettingError: ONNX Runtime is not installed.
        NetworkError: the network has no such layer.
    """
    how = how or Measuring()
    specs = trace_layers(network, example)
    shapes = [Shape.of(spec, _layer(network, spec.name)) for spec in specs]
    holders = _holders(how)
    pairs = [(w, a) for w in holders for a in holders if w <= MAX_BITS or a == FLOAT_BITS]
    wanted = dict.fromkeys((shape, holders[w], holders[a]) for shape in shapes for w, a in pairs)
    with progress((how.repeats + 1) * len(wanted), "latency", "sample", shown=shown) as bar:
        cases = {}
        for key in wanted:
            cases[key] = Case(*layer_model(*key, how.batch), how)
            bar.update()
        idle = Case(*_empty_model(), how)
        _time(cases.values(), idle, how.repeats, bar.update)
    timings = []
    for spec, shape in zip(specs, shapes, strict=True):
        share = uses(spec) / how.batch
        for weight, activation in pairs:
            case = cases[shape, holders[weight], holders[activation]]
            low, middle, high = (round(1e3 * own * share, 7) for own in case.quartiles())
            form = _form(holders[weight], holders[activation], case.operators)
            timings.append(
                Timing(spec.name, weight, activation, middle, low, high, form, spec.macs)
            )
    return LatencyTable(tuple(timings), tuple(_about(how, holders, idle).items()))


class Case:
    """A model that is timed.

    Args:
        model: of one input ``x`` and one output ``y``.
        value: what is put in.
        how: threads and warm-up.

    Attributes:
        operators: those that the runtime made of the model, in order.
        seconds: of one call, for each round.
    """

    def __init__(self, model: onnx.ModelProto, value: Any, how: Measuring) -> None:
        self.seconds: list[float] = []
        self._session, self.operators = _session(model, how)
        self._binding = self._session.io_binding()
        self._binding.bind_cpu_input("x", value)
        self._binding.bind_output("y")
        fastest = min(self._call(1) for _ in range(how.warm_up))
        self._calls = min(max(math.ceil(_SAMPLE / fastest), 1), _MOST_CALLS)

    def sample(self) -> None:
        """Time one round."""
        self._call(1)
        self.seconds.append(self._call(self._calls))

    def quartiles(self) -> tuple[float, float, float]:
        """Of the seconds of one call over the rounds."""
        low, middle, high = np.quantile(self.seconds, [0.25, 0.5, 0.75]).tolist()
        return low, middle, high

    def _call(self, count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            self._session.run_with_iobinding(self._binding)
        return (time.perf_counter() - start) / count


def _time(cases: Iterable[Case], idle: Case, repeats: int, done: Callable[[], object]) -> None:
    every = list(cases)
    for number in range(repeats):
        for place in numpy_generator(0, "latency order", number).permutation(len(every)):
            every[place].sample()
            done()
        idle.sample()


def _session(model: onnx.ModelProto, how: Measuring) -> tuple[Any, tuple[str, ...]]:
    """A session, and the operators of the graph that it runs."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = how.threads, 1
    options.log_severity_level = 3
    if how.kernels == "float":
        options.add_session_config_entry(_NO_INTEGERS, "1")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        options.optimized_model_filepath = str(path)
        session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return session, tuple(node.op_type for node in onnx.load(path).graph.node)


def _holders(how: Measuring) -> dict[int, int]:
    """Each width to that of the type that holds it, of those that the runtime has."""
    usable = [width for width in sorted(how.types) if _runs(width, how)]
    widths = sorted({*how.bits, REFERENCE_BITS})
    own = {bits: next(width for width in usable if width >= bits) for bits in widths}
    return own | {FLOAT_BITS: FLOAT_BITS}


def _runs(width: int, how: Measuring) -> bool:
    if width == REFERENCE_BITS:
        return True
    model, value = layer_model(_PROBE, width, width, 1)
    try:
        _session(model, how)[0].run(None, {"x": value})
    except Exception:  # the runtime's errors share no base class
        return False
    return True


def _form(weight: int, activation: int, operators: Sequence[str]) -> str:
    """What ran: the types, whether the runtime computes in them, and its operators."""
    ran = ", ".join(operators)
    received = "float32" if activation == FLOAT_BITS else f"uint{activation}"
    if weight == FLOAT_BITS:
        return f"float32: {ran}"
    emulated = "" if _INTEGER_KERNELS.intersection(operators) else ", emulated in float"
    return f"int{weight} x {received}{emulated}: {ran}"


def _about(how: Measuring, holders: dict[int, int], idle: Case) -> dict[str, str]:
    held = "; ".join(
        f"{', '.join(str(bits) for bits in holders if holders[bits] == width)} in int{width}"
        for width in sorted({*holders.values()} - {FLOAT_BITS})
    )
    low, middle, high = (f"{1e3 * own:.4f}" for own in idle.quartiles())
    load = "unknown" if not hasattr(os, "getloadavg") else f"{os.getloadavg()[0]:.1f}"
    return {
        "machine": f"{processor_name()}, {os.cpu_count()} cores",
        "load": f"{load} processes in the mean over the last minute, this one included",
        "runtime": f"onnxruntime {ort.__version__}, CPU, "
        + ("its defaults" if how.kernels == "integer" else f"{_NO_INTEGERS} = 1"),
        "threads": str(how.threads),
        "batch": f"{how.batch}, times are for one image",
        "rounds": f"{how.repeats} after {how.warm_up} calls to warm up, all layers and types in "
        "turn; milliseconds is the median, low and high the quartiles",
        "types": f"bits {held} (uint for activations), 32 is float32; what is emulated in float is "
        "rounded to the type and computed in float32",
        "layers": "each by itself at its real input shape; int8 x uint8 takes and gives integers, "
        "all others float, with the rounding of the activation inside",
        "overhead": f"{middle} ms ({low} to {high}) for a call that does nothing, included in all",
    }


def _empty_model() -> tuple[onnx.ModelProto, Any]:
    kind, shape = onnx.TensorProto.FLOAT, [1]
    body = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["y"])],
        "nothing",
        [onnx.helper.make_tensor_value_info("x", kind, shape)],
        [onnx.helper.make_tensor_value_info("y", kind, shape)],
    )
    opset = onnx.helper.make_opsetid("", 21)
    version = onnx.helper.find_min_ir_version_for([opset])
    model = onnx.helper.make_model(body, opset_imports=[opset], ir_version=version)
    return model, np.ones(shape, np.float32)


def _layer(network: nn.Module, name: str) -> nn.Conv2d | nn.Linear:
    module = network.get_submodule(name)
    assert isinstance(module, nn.Conv2d | nn.Linear)
    return module
