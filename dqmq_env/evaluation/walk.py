"""A forward pass that stops before each quantised layer and goes on when its bits are known."""

import copy
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

from dqmq_env.errors import NetworkError
from dqmq_env.quantization.choice import HardBits, LayerChoice
from dqmq_env.quantization.graph import trace_graph, writes
from dqmq_env.quantization.layer import QuantizedLayer
from dqmq_env.quantization.network import QuantizedNetwork


class Pause(Protocol):
    """A forward pass that waits for the bits of its next layer, or has ended.

    A pause is never changed: several continuations may start from it.
    """

    @property
    def activation(self) -> Tensor | None:
        """What the next layer is about to receive; ``None`` once the pass has ended."""
        ...

    @property
    def logits(self) -> Tensor | None:
        """The network's output, once the pass has ended."""
        ...

    def held(self) -> Iterable[Any] | None:
        """What the pause keeps in memory; ``None`` where nothing is gained by keeping it."""
        ...


class Walker(Protocol):
    """Walks a quantised network layer by layer, in forward order."""

    def start(self, x: Tensor) -> Pause:
        """Go from normalised images (N, C, H, W) up to the first layer."""
        ...

    def advance(self, pause: Pause, bits: HardBits) -> Pause:
        """Compute the layer at ``bits`` and go on up to the next one."""
        ...


def make_walker(network: QuantizedNetwork) -> Walker:
    """The graph walker, or full passes where the network's code cannot be traced."""
    try:
        return GraphWalker(trace_graph(network.network))
    except NetworkError as error:
        warnings.warn(f"{error}; it is evaluated by full forward passes", stacklevel=2)
        return FullPassWalker(network)


@dataclass(frozen=True)
class GraphPause:
    """Values that later nodes need, and the position of the node that comes next.

    Attributes:
        position: index of the next node in the graph.
        values: node to value, for nodes whose value is still needed.
        bits: of the layers already met, for those that are used again.
        activation: see :class:`Pause`.
        logits: see :class:`Pause`.
    """

    position: int
    values: Mapping[Node, Any]
    bits: Mapping[str, HardBits]
    activation: Tensor | None
    logits: Tensor | None

    def held(self) -> Iterable[Any]:
        """See :class:`Pause`."""
        return (*self.values.values(), self.logits)


class GraphWalker:
    """Walks the graph of a network (torch.fx), computing each node once.

    Args:
        graph: traced with quantised layers kept whole.
    """

    def __init__(self, graph: GraphModule) -> None:
        self._graph = graph
        self._nodes = list(graph.graph.nodes)
        self._modules = dict(graph.named_modules())
        last_use: dict[Node, int] = {}
        for position, node in enumerate(self._nodes):
            for argument in node.all_input_nodes:
                last_use[argument] = position
        self._last_use = last_use
        self._writers = {node for node in self._nodes if writes(node)}

    @torch.no_grad()
    def start(self, x: Tensor) -> GraphPause:
        """See :class:`Walker`."""
        placeholder = next(node for node in self._nodes if node.op == "placeholder")
        return self._run(self._nodes.index(placeholder) + 1, {placeholder: x}, {}, None)

    @torch.no_grad()
    def advance(self, pause: Pause, bits: HardBits) -> GraphPause:
        """See :class:`Walker`."""
        assert isinstance(pause, GraphPause)
        return self._run(pause.position, dict(pause.values), dict(pause.bits), bits)

    def _run(
        self,
        position: int,
        values: dict[Node, Any],
        decided: dict[str, HardBits],
        bits: HardBits | None,
    ) -> GraphPause:
        held = _storages(values.values()) if self._writers else set()
        while True:
            node = self._nodes[position]
            if node.op == "output":
                logits = values[node.args[0]]
                return GraphPause(position, {}, decided, None, logits)
            layer = self._modules.get(node.target) if node.op == "call_module" else None
            if isinstance(layer, QuantizedLayer):
                activation = values[node.args[0]]
                if node.target not in decided:
                    if bits is None:
                        return GraphPause(position, values, decided, activation, None)
                    decided[node.target] = bits
                    bits = None
                values[node] = layer.compute(activation, decided[node.target])
            else:
                if node in self._writers and _into(node, values, held):
                    copies = copy.deepcopy(list(values.values()))
                    values, held = dict(zip(values, copies, strict=True)), set()
                values[node] = self._compute(node, layer, values)
            if node not in self._last_use:
                del values[node]
            for argument in node.all_input_nodes:
                if self._last_use[argument] == position:
                    del values[argument]
            position += 1

    def _compute(self, node: Node, module: nn.Module | None, values: dict[Node, Any]) -> Any:
        args = map_arg(node.args, lambda argument: values[argument])
        kwargs = map_arg(node.kwargs, lambda argument: values[argument])
        if module is not None:
            return module(*args, **kwargs)
        target: Any = node.target
        if node.op == "call_function":
            return target(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], target)(*args[1:], **kwargs)
        if node.op == "placeholder":  # an optional argument, which stands for its default
            return node.args[0]
        assert node.op == "get_attr", node.op
        value: Any = self._graph
        for name in target.split("."):
            value = getattr(value, name)
        return value


def _storages(values: Iterable[Any]) -> set[int]:
    """Where the tensors among the values, and in tuples and lists of them, have their numbers."""
    found: set[int] = set()
    for value in values:
        if isinstance(value, Tensor):
            found.add(value.untyped_storage().data_ptr())
        elif isinstance(value, tuple | list):
            found |= _storages(value)
    return found


def _into(node: Node, values: Mapping[Node, Any], held: set[int]) -> bool:
    """Whether a node that writes would do so into what a pause holds."""
    target = node.kwargs.get("out", node.args[0] if node.args else None)
    written = values[target] if isinstance(target, Node) else None
    return not isinstance(written, Tensor) or not held.isdisjoint(_storages([written]))


class FullPassPause:
    """The images and the bits of the layers met so far; computed when it is looked at.

    Args:
        network: what is passed through.
        x: normalised images.
        bits: of the layers met so far.
    """

    def __init__(
        self, network: QuantizedNetwork, x: Tensor, bits: tuple[HardBits, ...] = ()
    ) -> None:
        self._network, self._x, self._bits = network, x, bits

    @property
    def activation(self) -> Tensor | None:
        """See :class:`Pause`."""
        return self._reached[0]

    @property
    def logits(self) -> Tensor | None:
        """See :class:`Pause`."""
        return self._reached[1]

    def held(self) -> None:
        """See :class:`Pause`: a pass that goes on from here begins anew all the same."""
        return

    def after(self, bits: HardBits) -> "FullPassPause":
        """The pause one layer further on."""
        return FullPassPause(self._network, self._x, (*self._bits, bits))

    @cached_property
    def _reached(self) -> tuple[Tensor | None, Tensor | None]:
        def chooser(index: int, activation: Tensor) -> LayerChoice:
            if index >= len(self._bits):
                raise _Undecided(activation)
            return self._bits[index]

        try:
            with torch.no_grad():
                # a clone, because the network's code may write into its input
                return None, self._network(self._x.clone(), chooser)
        except _Undecided as stop:
            return stop.activation, None


class FullPassWalker:
    """Walks any network by beginning anew at each step: slow, and right for any Python code."""

    def __init__(self, network: QuantizedNetwork) -> None:
        self._network = network

    def start(self, x: Tensor) -> FullPassPause:
        """See :class:`Walker`."""
        return FullPassPause(self._network, x)

    def advance(self, pause: Pause, bits: HardBits) -> FullPassPause:
        """See :class:`Walker`."""
        assert isinstance(pause, FullPassPause)
        return pause.after(bits)


class _Undecided(Exception):  # noqa: N818 - not an error
    def __init__(self, activation: Tensor) -> None:
        super().__init__()
        self.activation = activation
