"""The graph of a network, down to its quantised layers (torch.fx)."""

import inspect
import operator
from collections.abc import Callable
from functools import partialmethod
from typing import Any

from torch import nn
from torch.fx import GraphModule, Node, Proxy, Tracer

from dqmq_env.errors import NetworkError
from dqmq_env.quantization.layer import QuantizedLayer

_AUGMENTED: tuple[Callable[..., Any], ...] = (
    operator.iadd,
    operator.isub,
    operator.imul,
    operator.itruediv,
    operator.ifloordiv,
    operator.imod,
    operator.ipow,
    operator.iand,
    operator.ior,
    operator.ixor,
)


class _WritableProxy(Proxy):
    """Records ``x += y`` and ``x[i] = y`` as they are.

    Of its own, fx takes the first for ``x = x + y``, which is something else where the tensor has
    a second name, and refuses the second.
    """

    def _augment(self, other: Any, function: Callable[..., Any]) -> Proxy:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    def __setitem__(self, index: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, index, value), {})


for _function in _AUGMENTED:
    _method = partialmethod(_WritableProxy._augment, function=_function)
    setattr(_WritableProxy, f"__{_function.__name__}__", _method)


class _LayerTracer(Tracer):
    """Traces a network down to its quantised layers, which stay whole."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Keep quantised layers whole, beside what torch keeps whole."""
        return isinstance(m, QuantizedLayer) or super().is_leaf_module(m, module_qualified_name)

    def proxy(self, node: Node) -> Proxy:
        """A proxy that can be written into."""
        return _WritableProxy(node, self)


def trace_graph(network: nn.Module) -> GraphModule:
    """The graph of a network.

    Raises:
        NetworkError: its Python code cannot be traced.
    """
    try:
        return GraphModule(network, _LayerTracer().trace(network))
    except Exception as error:
        raise NetworkError(
            f"network: {type(network).__name__} cannot be traced: {type(error).__name__}: {error}"
        ) from error


def writes(node: Node) -> bool:
    """Whether a node may write into the tensor that it is given first, or as ``out``."""
    if node.op not in ("call_function", "call_method"):
        return False
    if node.target in (*_AUGMENTED, operator.setitem) or "out" in node.kwargs:
        return True
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return (name.endswith("_") and not name.endswith("__")) or _says_inplace(node)


def _says_inplace(node: Node) -> bool:
    """Whether ``inplace`` is among the arguments of a function, by name or by position."""
    if "inplace" in node.kwargs or not callable(node.target):
        return bool(node.kwargs.get("inplace", False))
    try:
        bound = inspect.signature(node.target).bind(*node.args, **node.kwargs)
    except (TypeError, ValueError):  # of a builtin function, none of which has such an argument
        return False
    return bool(bound.arguments.get("inplace", False))
