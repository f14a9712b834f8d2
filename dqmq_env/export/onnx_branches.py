"""Quantised layers in ONNX whose bits are chosen while the graph runs: an ``If`` for each width."""

from collections.abc import Callable

import numpy as np

from dqmq_env.export.onnx_nodes import Nodes
from dqmq_env.quantization.assignment import LayerBits
from dqmq_env.quantization.layer import QuantizedLayer

Put = Callable[[Nodes, LayerBits], str]
"""Adds a value at some bits to nodes and returns its name."""


def put_chosen(nodes: Nodes, layer: QuantizedLayer, what: str, choice: str, put: Put) -> str:
    """A value that depends on which of a layer's options was chosen; return its name.

    Only the branch that was chosen is computed: an ``If`` compares with the first option, and its
    else-branch holds an ``If`` that compares with the next.

    Args:
        nodes: take the outermost ``If``.
        layer: gives the options.
        what: ``input``, ``weight`` or ``bias``.
        choice: name of the position that was chosen, int64 (1,).
        put: adds the value at the bits of a branch to the branch.
    """
    name = nodes.unused(f"{layer.spec.name}/{what}")
    return _chain(nodes, layer.options, f"{name}/", name, choice, put)


def _chain(
    nodes: Nodes,
    options: tuple[LayerBits, ...],
    scope: str,
    name: str,
    choice: str,
    put: Put,
    place: int = 0,
) -> str:
    if place == len(options) - 1:
        return put(nodes, options[place])
    taken, rest = Nodes(f"{scope}{place}/"), Nodes(f"{scope}over_{place}/")
    branches = {
        "then_branch": taken.branch(put(taken, options[place])),
        "else_branch": rest.branch(_chain(rest, options, scope, name, choice, put, place + 1)),
    }
    number = nodes.tensor(f"{name}_option_{place}", np.array(place, np.int64))
    # an If takes one value, and a choice of one image has the shape (1,)
    here = nodes.add("Equal", [choice, number], f"{name}_is_{place}")
    return nodes.add("If", [here], f"{name}_chosen_{place}", **branches)
