"""All grids that follow the image: that of the image itself, and those of layers."""

import copy
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from agents.hybrid.eyes import Scene
from agents.hybrid.modulation import Modulation
from agents.hybrid.settings import HybridSettings
from agents.hybrid.standardization import Standardization
from dqmq_env.errors import SettingError
from dqmq_env.quantization.choice import Chooser
from dqmq_env.quantization.folding import batch_norms
from dqmq_env.quantization.network import QuantizedNetwork


class Grids(nn.Module):
    """What makes grids follow the image; either, both or none.

    Args:
        modulation: of the grids of layers.
        standardization: of the grid of the image itself.

    Attributes:
        modulation: see above.
        standardization: see above.
    """

    def __init__(
        self, modulation: Modulation | None = None, standardization: Standardization | None = None
    ) -> None:
        super().__init__()
        self.modulation, self.standardization = modulation, standardization

    @property
    def follow(self) -> bool:
        """Whether any do."""
        return self.modulation is not None or self.standardization is not None

    @property
    def sees(self) -> frozenset[str]:
        """What has to be looked at."""
        found = frozenset[str]() if self.modulation is None else self.modulation.view.sees
        return found if self.standardization is None else found | {"map"}

    def around(self, x: Tensor, chooser: Chooser, scene: Scene) -> tuple[Tensor, Chooser]:
        """What goes into a network, with grids that follow the image.

        Args:
            x: images (N, C, H, W) as the network receives them where nothing follows.
            chooser: of bits.
            scene: what is seen of each of G groups of the images.
        """
        if self.standardization is not None:
            x = self.standardization(x, scene)
        return x, chooser if self.modulation is None else self.modulation.around(chooser, scene)

    def calibrate(self, network: QuantizedNetwork, images: Tensor, x: Tensor, scene: Scene) -> None:
        """Let them know how what is seen is spread, and what layers give in float.

        Args:
            network: left in the mode that it was in.
            images: uint8, shape (N, C, H, W).
            x: the same as they enter the network.
            scene: what is seen of each of them.
        """
        if self.standardization is not None:
            self.standardization.calibrate(images, x, scene)
        if self.modulation is not None:
            self.modulation.calibrate(network, x, scene)

    def folded(self, network: QuantizedNetwork) -> "Grids":
        """The same for a network whose batch norms have been folded."""
        found = copy.deepcopy(self)
        if self.modulation is not None:
            found.modulation = self.modulation.folded(network)
        return found

    def bops(self) -> int:
        """Bit operations for one image, beside looking at it."""
        parts = (self.modulation, self.standardization)
        return sum(own.bops() for own in parts if own is not None)


def make_grids(network: QuantizedNetwork, settings: HybridSettings, sees: Sequence[str]) -> Grids:
    """Grids with fresh weights, as training over a network begins with.

    Args:
        network: gives the shapes of images and layers.
        settings: of the training.
        sees: sources of the policy; without any, nothing follows.
    """
    modulation = standardization = None
    if sees and "grids" in settings.follow:
        modulation = Modulation(network, sees, settings.embedding, settings.grid_share)
    if sees and "input" in settings.follow:
        standardization = Standardization(network.specs[0].input_shape)
    return Grids(modulation, standardization)


def without_idle_grids(
    settings: HybridSettings, network: QuantizedNetwork, granularity: str, batch: int
) -> HybridSettings:
    """Settings where grids of layers do not follow if batch norms undo it in training.

    They do where a training batch is one group, so that all of it is scaled and shifted alike, and
    where nothing but batch norms, with the statistics of that batch, sees what layers give.

    Args:
        settings: of the training.
        network: that is trained.
        granularity: what bits follow.
        batch: images of a training batch.

    Raises:
        SettingError: nothing else is to follow.
    """
    alike = granularity == "batch" and settings.group == batch
    if not alike or "grids" not in settings.follow:
        return settings
    normalized = {id(layer) for layer, _ in batch_norms(network.network)}
    if not all(id(layer) in normalized for layer in network.layers[:-1]):
        return settings
    follow = tuple(name for name in settings.follow if name != "grids")
    if not follow:
        raise SettingError(
            f"follow: got ['grids'] with group={settings.group} and batches of {batch}, whose "
            "batch norms undo it; allowed are smaller groups"
        )
    return replace(settings, follow=follow)
