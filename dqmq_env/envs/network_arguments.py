"""What command lines take to say which network and which images they are about."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from dqmq_env.registration import OWN_NETWORK_ENTRIES, TORCHVISION_ENTRIES

_DEFAULT: Final = "DQMQ-ResNet-v0"


@dataclass(frozen=True)
class NetworkArguments:
    """A network of one's own (network, weights, data), or an environment of the suite.

    What is left out is as the environment has it.

    Attributes:
        network: module:function that makes a network of one's own; modules in the working folder are
            found.
        weights: file with its state dict: .safetensors, or what torch.save wrote.
        data: folder of images, train/CLASS/ and val/CLASS/, or CLASS/ alone; without --network the
            folder of the full Fashion-MNIST files, or nothing for the embedded subset.
        classes: names of the class folders in the order of the network's outputs; sorted by default.
        side: images are cut to squares of this side; they stay as they are by default.
        resize: side that the shorter edge is brought to before.
        mean: that the network's input is normalised with, per channel, on the [0, 1] scale; that of
            ImageNet by default.
        std: the same.
        bits: candidate bits of all layers but the first and the last, which keep 8.
        activation_bits: one width for all activations; they follow the weights by default.
        weight_bits: one width for all weights: decisions are about activations alone.
        conditions: qualities of the images, such as clean or jpeg/3; a mixture of all by default.
        env: id of an environment over a live network, without --network.
        checkpoint: name of its shipped float network.
    """

    network: str | None = None
    weights: str | None = None
    data: str | None = None
    classes: tuple[str, ...] | None = None
    side: int | None = None
    resize: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    bits: tuple[int, ...] | None = None
    activation_bits: int | None = None
    weight_bits: int | None = None
    conditions: tuple[str, ...] | None = None
    env: str | None = None
    checkpoint: str | None = None

    @property
    def id(self) -> str:
        """Of the environment that is meant."""
        return self.env or (_DEFAULT if self.network is None else OWN_NETWORK_ENTRIES[0].id)

    def settings(self, further: Mapping[str, Any]) -> dict[str, Any]:
        """The keyword arguments that the environment is made with, as JSON can hold them.

        Args:
            further: more of them; those that are ``None`` are left out.
        """
        given = {**further, **asdict(self)}
        del given["env"]
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in given.items()
            if value is not None
        }


def reads_folder(name: str) -> bool:
    """Whether an environment is over a folder of images, which takes numbers of images."""
    return name in {entry.id for entry in (*OWN_NETWORK_ENTRIES, *TORCHVISION_ENTRIES)}
