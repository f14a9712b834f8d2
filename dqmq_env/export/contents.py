"""What a packed file holds, as values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from dqmq_env.errors import ExportError
from dqmq_env.export.narrowing import narrowed
from dqmq_env.quantization.assignment import BitAssignment, LayerBits
from dqmq_env.quantization.grid import FLOAT_BITS, Grid
from dqmq_env.quantization.scheme import Scheme
from dqmq_env.quantization.scheme_names import scheme_by_name
from dqmq_env.quantization.spec import LayerSpec
from dqmq_env.search.rule import Rule


@dataclass(frozen=True)
class PackedLayer:
    """A quantised layer at the bits that are in use.

    With O output channels and C weights in each, the layer computes with
    ``step * (code + offset)`` in place of its weight, where the grid of the scheme has the offset,
    times ``scale`` where there is one.

    Attributes:
        spec: what costs need to know of it.
        shape: of its weight.
        pairs: bits in use, ascending.
        codes: width of the weights to int8 codes, shape (O, C).
        steps: pair to what codes are multiplied by, shape (O,), or (1,) where all are alike.
        rounding: width to the steps that codes follow from wider ones by, of several widths; see
            :func:`~dqmq_env.export.narrowing.narrowed`.
        bias: added to the output, shape (O,).
        corrections: pair to what is added beside, shape (O,); empty where there are none.
        scale: of each output channel, from a batch norm that was folded, shape (O,).
        weight: in float, where a pair says so.
        activation_log_steps: width of the input to the logarithm of its step, shape ().
        activation_zeros: width of the input to its zero point.
        activation_range: largest magnitude of the input in calibration, shape ().
    """

    spec: LayerSpec
    shape: tuple[int, ...]
    pairs: tuple[LayerBits, ...]
    codes: Mapping[int, Tensor]
    steps: Mapping[LayerBits, Tensor]
    rounding: Mapping[int, Tensor]
    bias: Tensor | None
    corrections: Mapping[LayerBits, Tensor]
    scale: Tensor | None
    weight: Tensor | None
    activation_log_steps: Mapping[int, Tensor]
    activation_zeros: Mapping[int, int]
    activation_range: Tensor

    @property
    def integer_pairs(self) -> tuple[LayerBits, ...]:
        """Those whose weights are not in float."""
        return tuple(pair for pair in self.pairs if pair.weight != FLOAT_BITS)

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths of the weights in use, ascending, without float."""
        return tuple(sorted({pair.weight for pair in self.integer_pairs}))

    @property
    def activation_widths(self) -> tuple[int, ...]:
        """Widths of the input in use, ascending, without float."""
        return tuple(sorted({pair.activation for pair in self.pairs} - {FLOAT_BITS}))

    def derived(self, width: int, scheme: Scheme) -> Tensor:
        """Codes at a width, as they follow from those at the widest."""
        widest = self.widths[-1]
        return narrowed(
            self.codes[widest],
            scheme.weight_grid(widest),
            self.rounding[widest],
            scheme.weight_grid(width),
            self.rounding[width],
        )

    def stored_widths(self, scheme: Scheme) -> tuple[int, ...]:
        """The widths whose codes a file has to hold, ascending: the others can be derived."""
        return tuple(
            width
            for width in self.widths
            if width == self.widths[-1] or not self.codes[width].equal(self.derived(width, scheme))
        )

    def grids(self, scheme: Scheme) -> dict[int, Grid]:
        """Width of the weights to the grid of its codes, ascending."""
        return {width: scheme.weight_grid(width) for width in self.widths}

    def completed(self, scheme: Scheme) -> "PackedLayer":
        """The layer with the codes that are not there derived from the widest ones."""
        codes = {
            width: self.codes[width] if width in self.codes else self.derived(width, scheme)
            for width in self.widths
        }
        return replace(self, codes=codes)

    def snapped(self, scheme: Scheme) -> "PackedLayer":
        """The layer with all its codes derived from the widest ones."""
        widest = {width: self.codes[width] for width in self.widths[-1:]}
        return replace(self, codes=widest).completed(scheme)


@dataclass(frozen=True)
class Policy:
    """The slot for what decides about bits image by image; ``dqmq_env`` only stores it.

    Attributes:
        kind: by which an agent knows its own, such as ``hybrid/13``.
        settings: as JSON can hold them.
        tensors: by name.
    """

    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class About:
    """What a file says of its network, and what a computation does not need.

    Attributes:
        name: of the network.
        architecture: arguments of :func:`~dqmq_env.zoo.architectures.build`, or anything else that
            tells a reader which module it is; empty where it is not known.
        classes: names of the classes in the order of the logits.
    """

    name: str = ""
    architecture: Mapping[str, Any] = field(default_factory=dict)
    classes: Sequence[str] = ()


@dataclass(frozen=True)
class PackedNetwork:
    """A quantised network at the bits that are in use.

    Attributes:
        layers: in forward order.
        leftovers: all else of the network's state, batch norms folded, by name.
        scheme: its name.
        integer: whether plain convolutions are computed on integers where the processor can.
        channels_last: whether weights lie in memory that way.
    """

    layers: tuple[PackedLayer, ...]
    leftovers: Mapping[str, Tensor]
    scheme: str
    integer: bool
    channels_last: bool

    @property
    def specs(self) -> tuple[LayerSpec, ...]:
        """What costs need to know of the layers."""
        return tuple(layer.spec for layer in self.layers)

    @property
    def widest(self) -> BitAssignment:
        """The widest weights and activations of each layer, whether or not in one assignment."""
        return BitAssignment(
            {
                layer.spec.name: (
                    max(pair.weight for pair in layer.pairs),
                    max(pair.activation for pair in layer.pairs),
                )
                for layer in self.layers
            }
        )

    def snapped(self) -> "PackedNetwork":
        """The same with each layer's codes derived from its widest ones."""
        scheme = scheme_by_name(self.scheme)
        return replace(self, layers=tuple(layer.snapped(scheme) for layer in self.layers))


@dataclass(frozen=True)
class Packed:
    """What a packed file holds.

    Attributes:
        network: quantised.
        bits: one assignment, or one for each condition; ``None`` where a policy decides.
        mean: of the normalisation, per channel, on the [0, 1] scale.
        std: of the normalisation, per channel, on the [0, 1] scale.
        about: names.
        policy: where there is one.

    Raises:
        ExportError: there are both a policy and settled bits, or neither.
    """

    network: PackedNetwork
    bits: BitAssignment | Rule | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    about: About = About()
    policy: Policy | None = None

    def __post_init__(self) -> None:
        if (self.bits is None) == (self.policy is None):
            raise ExportError(
                f"policy: got {self.policy and self.policy.kind!r} with bits "
                f"{self.bits and type(self.bits).__name__!r}, allowed is one of the two"
            )
