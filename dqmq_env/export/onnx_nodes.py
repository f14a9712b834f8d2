"""An ONNX graph in the making."""

import numpy as np
from numpy.typing import NDArray

from dqmq_env.export.onnx_extra import export_extra

with export_extra():
    import onnx
    from onnx import helper, numpy_helper


class Nodes:
    """Nodes in the order of computation, and the tensors that they start from.

    Args:
        scope: what all names of its own begin with.
    """

    def __init__(self, scope: str = "") -> None:
        self._scope = scope
        self._nodes: list[onnx.NodeProto] = []
        self._tensors: dict[str, onnx.TensorProto] = {}
        self._values: set[str] = set()
        self._renamed: dict[str, str] = {}

    def tensor(self, name: str, values: NDArray[np.generic]) -> str:
        """A tensor under its name; where there is one, it stays."""
        name = self._scope + name
        if name not in self._tensors:
            self._tensors[name] = numpy_helper.from_array(values, name)
        return name

    def add(
        self, kind: str, inputs: list[str], output: str, **attributes: int | onnx.GraphProto
    ) -> str:
        """A node with one output under its name; where there is one, it stays."""
        output = self._scope + output
        if output not in self._values:
            self._values.add(output)
            node = helper.make_node(kind, inputs, [output], output)
            node.attribute.extend(
                helper.make_attribute(name, value) for name, value in attributes.items()
            )
            self._nodes.append(node)
        return output

    def unused(self, name: str) -> str:
        """The name, with a number where a node has it already."""
        found, number = name, 1
        while self._scope + found in self._values:
            found, number = f"{name}_{number}", number + 1
        return found

    def branch(self, output: str) -> onnx.GraphProto:
        """These as the branch of an ``If``, which gives the value ``output``.

        A value from outside is passed on as it is.
        """
        value = helper.make_empty_tensor_value_info(f"{self._scope}given")
        own = [*self._nodes, helper.make_node("Identity", [output], [value.name])]
        return helper.make_graph(
            own, f"{self._scope}branch", [], [value], [*self._tensors.values()]
        )

    def rename(self, old: str, new: str) -> None:
        """Let what follows find ``old`` under another name."""
        self._renamed[old] = new

    def now(self, name: str) -> str:
        """The name under which a value of old is found."""
        return self._renamed.get(name, name)

    def take(self, node: onnx.NodeProto) -> None:
        """Take over a node, without what its maker noted about its own source files."""
        taken = onnx.NodeProto()
        taken.CopyFrom(node)
        del taken.metadata_props[:]
        taken.input[:] = [self.now(name) for name in node.input]
        self._values.update(node.output)
        self._nodes.append(taken)

    def put_into(self, graph: onnx.GraphProto) -> None:
        """Make these the nodes of a graph, whose own tensors stay."""
        del graph.node[:], graph.value_info[:], graph.metadata_props[:]
        graph.node.extend(self._nodes)
        graph.initializer.extend(self._tensors.values())
