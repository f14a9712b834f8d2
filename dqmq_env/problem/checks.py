"""What a network must be to become a problem."""

import torch
from torch import Tensor, nn

from dqmq_env.data import ImageSplit
from dqmq_env.errors import DataError, NetworkError
from dqmq_env.evaluation.normalize import Normalize
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.quantization.grid import FLOAT_BITS
from dqmq_env.quantization.network import QuantizedNetwork

_DEFAULT_IMAGES = 250


@torch.no_grad()
def check_network(network: nn.Module, images: ImageSplit, normalize: Normalize) -> int:
    """Make sure that a network maps images to logits; return the number of its classes."""
    if network.training:
        raise NetworkError("network: it is in train mode, allowed is eval mode (network.eval())")
    for name, value in network.state_dict().items():
        if not bool(torch.isfinite(value).all()):
            raise NetworkError(f"network: {name} holds NaN or infinity")
    channels = images.images.shape[1]
    if channels != normalize.mean.numel():
        raise DataError(
            f"mean: got {normalize.mean.numel()} values, allowed is one for each of the {channels} "
            "channels"
        )
    x = normalize(images.images[:2])
    try:
        logits = network(x.clone())
    except (RuntimeError, ValueError, TypeError, LookupError) as error:
        shape = tuple(x.shape[1:])
        raise NetworkError(f"network: it fails on images of shape {shape}: {error}") from error
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(x):
        given = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise NetworkError(f"network: its output is {given}, allowed is ({len(x)}, classes)")
    return logits.shape[1]


def within(argument: str, value: int | None, most: int) -> int:
    """The value, or what it is by default, if it lies in 1 to ``most``."""
    if value is None:
        value = min(_DEFAULT_IMAGES, most)
    if not 1 <= value <= most:
        raise DataError(f"{argument}: got {value}, allowed are 1 to {most}")
    return value


@torch.no_grad()
def check_copy(quantized: QuantizedNetwork, network: nn.Module, x: Tensor) -> None:
    """Compare at float bits, where nothing but the rounding of floats may differ."""
    floats = BitAssignment.uniform([spec.name for spec in quantized.specs], FLOAT_BITS)
    expected, logits = network(x.clone()), quantized(x.clone(), floats)
    if not torch.allclose(logits, expected, rtol=0, atol=1e-3 * float(expected.abs().max())):
        raise NetworkError(
            "network: it gives other logits with its layers exchanged, even at float bits; a class "
            "derived from Conv2d or Linear must keep its forward, and the output of a module that "
            "works in place must be used"
        )
