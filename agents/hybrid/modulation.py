"""Grids that follow the image: a scale and an offset of each channel, from what is seen of it.

A layer's output is scaled and shifted before it is rounded for the next one. Where both follow the
image, so does the grid that it is rounded on: images that are dark, pale or noisy fill it as others
do. That is the feature-wise linear modulation of Perez et al. (2018, FiLM: Visual Reasoning with a
General Conditioning Layer), with the image's quality in the place of a question. It is learned
with the weights, by gradients through the quantised network.
"""

import copy
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from agents.hybrid.eight_bits import MAC_BOPS, product
from agents.hybrid.eyes import IMAGE_SOURCES, Scene
from agents.hybrid.view import View
from dqmq_env.quantization.choice import Chooser, LayerChoice, Modulated
from dqmq_env.quantization.inputs import float_pass
from dqmq_env.quantization.layer import QuantizedLayer
from dqmq_env.quantization.network import QuantizedNetwork
from dqmq_env.quantization.spec import LayerSpec


class Modulation(nn.Module):
    """Scale and offset of what layers give, from an embedding of the image.

    With the embedding e of what is seen (:class:`~agents.hybrid.view.View`), output y of channel c
    becomes ``(1 + G_c . e) y + u_c (O_c . e)``, where u_c is the spread of that channel in float.
    It begins as the identity. All products are of 8-bit numbers. The first layer has it, and those
    where it is cheap beside a bit more of what the layer receives, the last one left out.

    Args:
        network: gives the shapes of images and layers.
        sees: sources of the policy; those of the image itself are seen.
        embedding: E, size of the embedding.
        share: what it may take in a layer, of the bit operations of a bit more.

    Attributes:
        followed: indices of the layers that have it, ascending.
    """

    def __init__(
        self, network: QuantizedNetwork, sees: Sequence[str], embedding: int, share: float
    ) -> None:
        super().__init__()
        specs = network.specs
        own = tuple(name for name in sees if name in IMAGE_SOURCES)
        self.view = View(specs[0].input_shape, specs[:1], own, embedding, budget=False)
        self.followed = [
            layer.index
            for layer, spec in zip(network.layers[:-1], specs, strict=False)
            if layer.index == 0
            or spec.out_channels * _channel_bops(embedding) <= share * _bit_bops(layer, spec)
        ]
        channels = [specs[index].out_channels for index in self.followed]
        self.scales = nn.ParameterList(torch.zeros(embedding, count) for count in channels)
        self.offsets = nn.ParameterList(torch.zeros(embedding, count) for count in channels)
        for number, count in enumerate(channels):
            self.register_buffer(f"unit_{number}", torch.ones(count))
            self.register_buffer(f"centre_{number}", torch.zeros(count))

    def around(self, chooser: Chooser, scene: Scene) -> Chooser:
        """The chooser, with scale and offset beside what it chooses.

        Args:
            chooser: of bits.
            scene: what is seen of each of G groups of images.
        """
        nothing = scene.quality.new_zeros(len(scene.quality), 1)
        look = self.view.look(0, scene, nothing, nothing)
        seen, _ = self.view.embed(0, look, nothing[:, 0], None)

        def choose(index: int, activation: Tensor) -> LayerChoice:
            bits = chooser(index, activation)
            if index not in self.followed:
                return bits
            assert not isinstance(bits, Modulated)
            number = self.followed.index(index)
            scale = product(seen, 1.0, self.scales[number])
            offset = product(seen, 1.0, self.offsets[number])
            unit, centre = getattr(self, f"unit_{number}"), getattr(self, f"centre_{number}")
            return Modulated(bits, 1 + scale, unit * offset - centre * scale)

        return choose

    @torch.no_grad()
    def calibrate(self, network: QuantizedNetwork, x: Tensor, scene: Scene) -> None:
        """Let it know how what it sees is spread, and what the layers give in float.

        Args:
            network: left in the mode that it was in.
            x: images as they enter the network, shape (N, C, H, W).
            scene: what is seen of each of them.
        """
        self.view.calibrate_cells(scene)

        def note(number: int, layer: nn.Module, inputs: object, output: Tensor) -> None:
            assert isinstance(layer, QuantizedLayer)
            spread = output.transpose(0, layer.spec.channel_axis).flatten(1).std(1)
            getattr(self, f"unit_{number}").copy_(spread.clamp_min(1e-3 * spread.mean()))

        hooks = [
            network.layers[index].register_forward_hook(partial(note, number))
            for number, index in enumerate(self.followed)
        ]
        float_pass(network, x, hooks)

    def folded(self, network: QuantizedNetwork) -> "Modulation":
        """A copy that does behind the batch norms that were folded what this one does before them.

        Args:
            network: with its batch norms folded.
        """
        found = copy.deepcopy(self)
        for number, index in enumerate(self.followed):
            layer = network.layers[index]
            scale, shift = layer.output_scale, layer.output_shift
            if scale is not None and shift is not None:
                unit, centre = getattr(found, f"unit_{number}"), getattr(found, f"centre_{number}")
                unit.mul_(scale)
                centre.mul_(scale).add_(shift)
        return found

    def bops(self) -> int:
        """Bit operations for one image, beside looking at it."""
        channels = sum(own.shape[1] for own in self.offsets)
        total: int = self.view.bops() + channels * _channel_bops(self.view.size)
        return total


def _channel_bops(embedding: int) -> int:
    """Bit operations for scale and offset of one channel, from an embedding of that size."""
    products = 2 * embedding
    joined = 2  # with what the channel is scaled and shifted by anyway, by factors of 16 bits
    return (products + 2 * joined) * MAC_BOPS


def _bit_bops(layer: QuantizedLayer, spec: LayerSpec) -> int:
    """Bit operations for one bit more of what a layer receives, at its lowest weight bits."""
    return spec.macs * min(own.weight for own in layer.options)
