"""Write a quantised network to a packed file, and read it again.

The file is a safetensors file of the schema ``dqmq-packed/1``: :mod:`~dqmq_env.export.container`
says how it is protected, :mod:`~dqmq_env.export.layout` how it is laid out. No code is run from it.
"""

from pathlib import Path

from torch import nn

from dqmq_env.errors import DQMQError, ExportError
from dqmq_env.evaluation.deployed import Deployed, StaticNetwork
from dqmq_env.evaluation.normalize import Normalize
from dqmq_env.export.agents import dynamic_of
from dqmq_env.export.collect import Bits, collect
from dqmq_env.export.container import from_bytes, to_bytes
from dqmq_env.export.contents import About, Packed, Policy
from dqmq_env.export.layout import to_header
from dqmq_env.export.layout_reader import from_header
from dqmq_env.export.restoring import float_module, restore
from dqmq_env.export.writing import write_new
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.quantization.network import QuantizedNetwork
from dqmq_env.search.rule import Rule
from dqmq_env.training.fine_tune import RuleNetwork
from dqmq_env.zoo.architectures import build

Settled = StaticNetwork | RuleNetwork
"""A network at work whose bits are known beforehand."""


def pack(
    network: QuantizedNetwork,
    bits: Bits,
    normalize: Normalize,
    about: About | None = None,
    policy: Policy | None = None,
) -> Packed:
    """What a packed file holds of a network.

    Args:
        network: calibrated or trained; it is not changed.
        bits: one assignment, one for each condition, or what a policy chooses from.
        normalize: from images to the network's input.
        about: names.
        policy: what decides where ``bits`` only say what there is to choose from.

    Raises:
        AssignmentError: the bits do not fit the layers.
        ExportError: the network cannot be packed, or bits and policy do not go together.
    """
    mean, std = (tuple(row.flatten().tolist()) for row in (normalize.mean, normalize.std))
    settled = bits if isinstance(bits, BitAssignment | Rule) else None
    return Packed(collect(network, bits), settled, mean, std, about or About(), policy)


def packed_of(network: Settled, about: About | None = None) -> Packed:
    """What a packed file holds of a network at work.

    Raises:
        ExportError: it cannot be packed.
    """
    bits = network.rule if isinstance(network, RuleNetwork) else network.assignment
    return pack(network.network, bits, network.normalize, about)


def snapped(network: QuantizedNetwork, bits: Bits) -> QuantizedNetwork:
    """A network whose narrower weights follow from each layer's widest ones.

    In place of a layer's float weights there are those that the codes of its widest width in use
    stand for, and narrower codes are the nearest to these. A packed file holds each of its layers
    once. A trained network rounds each width from its float weights, so that logits differ where
    layers do not have their widest bits.

    Args:
        network: calibrated or trained; it is not changed.
        bits: those that will be in use; the result can have no others.

    Returns:
        On the CPU, in eval mode, batch norms folded.

    Raises:
        AssignmentError: the bits do not fit the layers.
        ExportError: the network cannot be packed.
    """
    return restore(collect(network, bits).snapped(), float_module(network))


def snapped_rule(network: RuleNetwork) -> RuleNetwork:
    """A network under a rule, such as fine-tuning gives, in its :func:`snapped` form.

    Raises:
        ExportError: the network cannot be packed.
    """
    return RuleNetwork(snapped(network.network, network.rule), network.rule, network.normalize)


def write(path: str | Path, packed: Packed, force: bool = False) -> None:
    """Write a packed file, whole or not at all.

    Args:
        path: the file, commonly ``*.dqmq``.
        packed: what it is to hold.
        force: replace a file that is there.

    Raises:
        ExportError: a file is there, or it cannot be written.
    """
    write_new({Path(path): encoded(packed)}, force)


def encoded(packed: Packed) -> bytes:
    """The bytes of a packed file; the same for the same content.

    A layer is stored at its widest width alone where the codes of the narrower ones follow from it,
    as they do in a :func:`snapped` network; else each width is stored, so that a file always holds
    exactly the network that it was given.
    """
    return to_bytes(*to_header(packed))


def read(path: str | Path) -> Packed:
    """What a packed file holds.

    Raises:
        ExportError: the file is missing, damaged, foreign or of another schema.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ExportError(f"path: cannot read {path}: {error}") from error
    header, tensors = from_bytes(data, str(path))
    return from_header(header, tensors)


def save(
    path: str | Path, network: Settled, about: About | None = None, force: bool = False
) -> Packed:
    """Write a network at work to a packed file, and return what the file holds.

    Args:
        path: the file, commonly ``*.dqmq``.
        network: what is written; it is not changed.
        about: names that go into the header.
        force: replace a file that is there.

    Raises:
        ExportError: a file is there, it cannot be written, or the network cannot be packed.
    """
    packed = packed_of(network, about)
    write(path, packed, force)
    return packed


def load(path: str | Path, network: nn.Module | None = None) -> Settled | Deployed:
    """The network of a packed file, with the logits of the one that was written, bit for bit.

    That holds on the same machine with as many threads.

    Args:
        path: the file.
        network: any module of that architecture; its weights do not matter. Where it is left out,
            the architecture that the file names is built, if it is one of the zoo.

    Returns:
        A :class:`~dqmq_env.evaluation.deployed.StaticNetwork` where the file has one assignment, a
        :class:`~dqmq_env.training.fine_tune.RuleNetwork` where it has one for each condition, and
        what the agent runs whose policy it has, where one decides.

    Raises:
        ExportError: the file is missing, damaged, foreign or of another schema, the network does
            not fit it, or no agent here knows the policy that decides about its bits.
    """
    packed = read(path)
    module = _built(packed.about, path) if network is None else network
    restored = restore(packed.network, module)
    if packed.bits is None:
        return dynamic_of(packed, restored, str(path))
    normalize = Normalize(packed.mean, packed.std)
    if isinstance(packed.bits, Rule):
        return RuleNetwork(restored, packed.bits, normalize)
    return StaticNetwork(restored, packed.bits, normalize)


def _built(about: About, path: str | Path) -> nn.Module:
    try:
        return build(**about.architecture)
    except (DQMQError, TypeError, ValueError, RuntimeError) as error:
        raise ExportError(
            f"network: got None, and {path} names the architecture {dict(about.architecture)}, "
            f"which the zoo cannot build: {error}"
        ) from error
