"""What is known of a layer before any image is seen; free of torch, shared by costs and tables."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class LayerSpec:
    """A convolution or linear layer as cost models and observations see it.

    Attributes:
        name: its name in the network, e.g. ``layer1.0.conv1``.
        kind: ``conv``, ``depthwise`` or ``linear``.
        in_channels: channels, or features of a linear layer, that it receives.
        out_channels: channels or features that it gives.
        kernel: side of its kernel, the height where it is not square; 1 for a linear layer.
        stride: its stride, the vertical one where there are two; 1 for a linear layer.
        groups: its groups; 1 for a linear layer.
        weights: number of its weights, without the bias.
        macs: multiply-accumulates for one image, over all uses of the layer in a forward pass.
        input_shape: of one image at its first use, without the batch.
        output_shape: of one image at its first use, without the batch.
    """

    name: str
    kind: str
    in_channels: int
    out_channels: int
    kernel: int
    stride: int
    groups: int
    weights: int
    macs: int
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]

    @property
    def channel_axis(self) -> int:
        """Of what it receives and gives, with the batch: 1, or the last one of a linear layer."""
        return -1 if self.kind == "linear" else 1

    @property
    def input_sides(self) -> tuple[int, ...]:
        """Of what it receives of an image, without its channels: (H, W), or what tokens form."""
        return self.input_shape[1:] if self.channel_axis == 1 else self.input_shape[:-1]

    def to_dict(self) -> dict[str, Any]:
        """The form that JSON gives back, with lists in place of tuples."""
        shapes = {name: list(getattr(self, name)) for name in ("input_shape", "output_shape")}
        return asdict(self) | shapes

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "LayerSpec":
        """The layer of which :meth:`to_dict` gave ``fields``."""
        shapes = {name: tuple(fields[name]) for name in ("input_shape", "output_shape")}
        return cls(**{**fields, **shapes})
