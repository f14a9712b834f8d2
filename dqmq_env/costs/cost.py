"""Costs of a layer at given bits, and of a network as their sum."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dqmq_env.errors import AssignmentError, SettingError
from dqmq_env.quantization.assignment import LayerBits
from dqmq_env.quantization.spec import LayerSpec

REFERENCE_BITS = 8
"""Fractions of a cost are taken of what the network costs with all layers at these bits."""


class Cost(Protocol):
    """A cost that is the sum of its layers' costs."""

    @property
    def name(self) -> str:
        """The word for it in tables, plots and ``info``."""
        ...

    def of(self, spec: LayerSpec, bits: LayerBits) -> float:
        """The cost of one layer at ``bits``, in the unit that the class states."""
        ...


@dataclass(frozen=True)
class Size:
    """Bits that hold the weights: weights times weight bits; biases and steps are not counted."""

    name: str = "size"

    def of(self, spec: LayerSpec, bits: LayerBits) -> float:
        """Bits of the layer's weights."""
        return float(spec.weights * bits.weight)


@dataclass(frozen=True)
class Bops:
    """Bit operations for one image: multiply-accumulates times weight bits times activation bits.

    The convention of HAWQ-V3 (Yao et al. 2021) and most of the field.
    """

    name: str = "bops"

    def of(self, spec: LayerSpec, bits: LayerBits) -> float:
        """Bit operations of the layer for one image."""
        return float(spec.macs * bits.weight * bits.activation)


COSTS: tuple[Cost, ...] = (Size(), Bops())
"""What a problem states that was told of no others."""

COST_NAMES = ("size", "bops", "energy", "memory", "latency")
"""The words for costs that rewards may name; which model stands behind one, the problem says."""


def cost_by_name(name: str, costs: Sequence[Cost] = COSTS) -> Cost:
    """The cost of that name.

    Args:
        name: which.
        costs: those to choose from, such as a problem's.

    Raises:
        SettingError: there is none.
    """
    for cost in costs:
        if cost.name == name:
            return cost
    raise SettingError(f"cost: got {name!r}, allowed are {[cost.name for cost in costs]}")


def as_costs(costs: Sequence[Cost]) -> tuple[Cost, ...]:
    """The costs of a problem, each name once.

    Raises:
        SettingError: there are none, or two share a name.
    """
    names = [cost.name for cost in costs]
    if not names or len(set(names)) < len(names):
        raise SettingError(f"costs: got {names}, allowed are one or more, each name once")
    return tuple(costs)


def uses(spec: LayerSpec) -> float:
    """How often a forward pass uses a layer: its multiply-accumulates over those of the first use.

    A fraction where later uses have other shapes, which a spec does not know.
    """
    places = spec.output_shape[:-1] if spec.kind == "linear" else spec.output_shape[1:]
    return spec.macs / (spec.weights * math.prod(places))


def activations(spec: LayerSpec) -> float:
    """How many values a layer receives for one image, over all its uses."""
    return math.prod(spec.input_shape) * uses(spec)


def total(cost: Cost, specs: Sequence[LayerSpec], bits: Mapping[str, LayerBits]) -> float:
    """The cost of a network under an assignment.

    Raises:
        AssignmentError: a layer has no bits.
    """
    missing = [spec.name for spec in specs if spec.name not in bits]
    if missing:
        raise AssignmentError(f"bits: layers without bits: {missing}")
    return sum(cost.of(spec, bits[spec.name]) for spec in specs)


def reference(cost: Cost, specs: Sequence[LayerSpec]) -> float:
    """The cost of a network with all its layers at 8 bits.

    Raises:
        SettingError: it is 0, so that nothing can be a fraction of it.
    """
    eight = LayerBits(REFERENCE_BITS, REFERENCE_BITS)
    whole = sum(cost.of(spec, eight) for spec in specs)
    if not whole > 0:
        raise SettingError(f"{cost.name}: it is {whole} at 8 bits, allowed is more than 0")
    return whole


def fraction(cost: Cost, specs: Sequence[LayerSpec], bits: Mapping[str, LayerBits]) -> float:
    """The cost under an assignment as a fraction of that at 8 bits."""
    return total(cost, specs, bits) / reference(cost, specs)


def layer_table(
    cost: Cost, specs: Sequence[LayerSpec], options: Mapping[str, Sequence[LayerBits]]
) -> list[NDArray[np.float64]]:
    """For each layer its cost at each of its options, as a fraction of the network's at 8 bits."""
    whole = reference(cost, specs)
    return [
        np.array([cost.of(spec, bits) / whole for bits in options[spec.name]]) for spec in specs
    ]
