"""A trained hybrid agent at work: images in, classes and what they cost out."""

from collections.abc import Sequence

import torch
from torch import Tensor

from agents.hybrid.controller import Controller
from agents.hybrid.costing import Costing
from agents.hybrid.eyes import Describe, Scene
from agents.hybrid.policy import BitPolicy, decided_layers
from agents.hybrid.settings import HybridSettings
from agents.hybrid.view import Look
from dqmq_env.evaluation.deployed import Prediction
from dqmq_env.evaluation.normalize import Normalize
from dqmq_env.quality import describe
from dqmq_env.quantization.assignment import LayerBits
from dqmq_env.quantization.choice import Chooser, ImageBits
from dqmq_env.quantization.network import QuantizedNetwork


class DynamicNetwork:
    """A quantised network whose bits follow each image, or each batch, under a budget.

    Args:
        network: trained; batch normalisation may be folded.
        policy: trained with it.
        costing: of its layers.
        settings: those of the training.
        granularity: ``image`` decides for each image; ``batch`` and ``static`` for all at once.
        normalize: from images to the network's input.
        budget: on average, as a fraction of the BOPs at 8 bits.

    Attributes:
        granularity: see above.
        budget: may be changed between calls where the policy was trained for many.
        temperature: of the policy at work.
        describe: gives the quality descriptors, shape (N, 6), of uint8 images; may be exchanged, to
            see what a policy does that is told something wrong.
    """

    def __init__(
        self,
        network: QuantizedNetwork,
        policy: BitPolicy,
        costing: Costing,
        settings: HybridSettings,
        granularity: str,
        normalize: Normalize,
        budget: float,
    ) -> None:
        self.network, self.policy, self.budget = network, policy, budget
        self.granularity, self.temperature = granularity, settings.last_temperature
        self.costing, self._settings = costing, settings
        self.normalize = normalize
        self.describe: Describe = describe

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Prediction:
        """Classify uint8 images of shape (N, C, H, W)."""
        device = self.policy.shift.device
        logits, controller = self.run(images.to(device))
        repeats = len(images) // len(controller.bits)
        cost = controller.cost().repeat_interleave(repeats)
        return Prediction(logits.cpu(), cost, controller.bits.repeat_interleave(repeats, 0))

    def run(self, images: Tensor, budget: Tensor | None = None) -> tuple[Tensor, Controller]:
        """Logits (N, classes), and the controller that took the decisions.

        Args:
            images: uint8, shape (N, C, H, W).
            budget: in place of :attr:`budget`, for all groups or for each, shape (1,) or (G,).
        """
        scene = self._scene(images)
        if budget is None:
            budget = scene.quality.new_full((1,), self.budget)
        budget = budget.expand(len(scene.quality))
        controller = Controller(
            self.policy,
            self.network,
            self.costing,
            scene,
            budget,
            self.temperature,
            limit=budget if self._settings.hold == "image" else None,
        )
        return self._through(images, controller, scene), controller

    @torch.no_grad()
    def at_bits(self, images: Tensor, bits: Tensor, seen: Tensor | None = None) -> Tensor:
        """Logits (N, classes) of images whose bits are given.

        Args:
            images: uint8, shape (N, C, H, W).
            bits: of each layer, as predicted, shape (N, layers).
            seen: what grids follow in place of the images, where they do, of the same shape.
        """
        layers = self.network.layers

        def choose(index: int, activation: Tensor) -> ImageBits:
            layer = layers[index]
            places = [layer.widths.index(own) for own in bits[:, index].tolist()]
            return ImageBits(tuple(layer.options[place] for place in places))

        return self._through(images, choose, self._scene(images if seen is None else seen))

    @torch.no_grad()
    def at_place(self, images: Tensor, place: int) -> tuple[Look, Tensor]:
        """What the policy sees before its first decision, and what one rung gives.

        Args:
            images: uint8, shape (N, C, H, W).
            place: of the rung, see :class:`~agents.hybrid.policy.BitPolicy`.

        Returns:
            A look at each group, and logits (N, classes).
        """
        layers = self.network.layers
        scene = self._scene(images)
        decided = decided_layers(self.network)
        rung: list[int] = self.policy.rungs[place].tolist()
        places = dict(zip(decided, rung, strict=True))
        looks: list[Look] = []

        def choose(index: int, activation: Tensor) -> LayerBits:
            layer = layers[index]
            if index == decided[0]:
                reach = layer.activation_range
                looks.append(self.policy.view.look(0, scene, activation, reach))
            return layer.options[places.get(index, 0)]

        logits = self._through(images, choose, scene)
        return looks[0], logits

    @torch.no_grad()
    def look(self, images: Tensor) -> tuple[Look, int]:
        """What the policy sees before its first decision.

        Args:
            images: uint8, shape (N, C, H, W).

        Returns:
            A look at each group, and how many images had to pass through the network for it.
        """
        view = self.policy.view
        if view.needs_images_alone:
            nothing = images.new_zeros(len(images), 1)
            return view.look(0, self._scene(images), nothing, nothing), 0
        return self.at_place(images, 0)[0], len(images)

    @property
    def looks_once(self) -> bool:
        """Whether what an image costs follows from what is seen before the first decision."""
        return self.policy.once and self._settings.hold == "mean"

    @property
    def looks_at_images_alone(self) -> bool:
        """Whether it follows from the image, without a pass through the network."""
        return self.looks_once and self.policy.view.needs_images_alone

    def cost_of(self, look: Look) -> float:
        """The average cost of groups, where :attr:`looks_once` holds."""
        return float(torch.tensor(self.costing.of_network) @ self.shares_of(look))

    @torch.no_grad()
    def shares_of(self, look: Look) -> Tensor:
        """The share of groups that each rung is taken for, shape (K,), one decision being for all.

        It is the first decision that is asked for, without a limit for each group.
        """
        quality = look.scene.quality
        budget = quality.new_full((len(quality),), self.budget)
        drawn, _ = self.policy.draw(0, look, budget, None, self.temperature)
        taken = drawn.sample.cpu().bincount(minlength=len(self.policy.levels))
        return taken / taken.sum()

    @torch.no_grad()
    def mean_cost(self, batches: Sequence[Tensor]) -> float:
        """The average cost of the images of some batches, each uint8 (N, C, H, W)."""
        costs = [self.run(images)[1].cost().mean() for images in batches]
        return float(torch.stack(costs).mean())

    def _scene(self, images: Tensor) -> Scene:
        groups = len(images) if self.granularity == "image" else 1
        return self.policy.scene(images, groups, self.describe)

    def _through(self, images: Tensor, chooser: Chooser, scene: Scene) -> Tensor:
        """Logits (N, classes) of images."""
        x = self.normalize(images)
        logits: Tensor = self.network(*self.policy.grids.around(x, chooser, scene))
        return logits
