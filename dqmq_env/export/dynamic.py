"""What an export asks of a policy that gives a network's layers their bits; agents bring it."""

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor, nn

from dqmq_env.evaluation.deployed import Deployed
from dqmq_env.export.contents import Policy
from dqmq_env.quantization.network import QuantizedNetwork


class Dynamic(Protocol):
    """A trained policy."""

    @property
    def slot(self) -> Policy:
        """What a packed file holds of it."""
        ...

    @property
    def inputs(self) -> Mapping[str, Tensor]:
        """What it takes beside images, by name; an example of each."""
        ...

    @property
    def one_by_one(self) -> bool:
        """Whether each image has bits of its own, so that a graph is given one at a time."""
        ...

    def at_work(self, network: QuantizedNetwork) -> Deployed:
        """The network with this policy; the layers and their candidates are those of training."""
        ...

    def traceable(self, network: QuantizedNetwork) -> nn.Module:
        """The same as a module without branches on values.

        It maps uint8 images (N, C, H, W) and :attr:`inputs` to logits (N, classes), weight bits
        int64 (layers,) and the cost of an image, shape (1,); all images share their bits.
        """
        ...
