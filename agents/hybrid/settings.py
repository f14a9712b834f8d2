"""Settings of the hybrid agent's side of the training."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from agents.hybrid.eyes import IMAGE_SOURCES
from agents.hybrid.gradient import GRADIENTS
from agents.hybrid.heads import HEADS
from agents.hybrid.view import SOURCES
from dqmq_env.errors import SettingError

_HOLDS = ("mean", "image")
_DECIDES = ("layer", "network")
_FOLLOW = ("bits", "grids", "input")

BY_VALUE: Final[Mapping[str, Any]] = {
    "decides": "network",
    "ladder": 1_000,
    "distribution": "value",
    "search_share": 0.0,
    "align": True,
    "explore": 0.2,
    "refits": 1,
    "value_images": 6_000,
}
"""One decision, by value, between rungs of a layer each."""
PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    "by-value": {**BY_VALUE, "reach": 1, "follow": _FOLLOW, "sees": ("quality", "map")},
    "by-layer": {"follow": _FOLLOW, "sees": ("quality", "statistics", "map")},
}
"""Settings that go together, by the names that ``dqmq train`` has for them; the first is usual."""


@dataclass(frozen=True)
class HybridSettings:
    """Settings of the policy's side of the training.

    What is left out is that of a policy which decides before each layer and learns by gradients;
    :func:`preset` begins with settings that go together.

    Whether bits follow the image, the batch or nothing is a setting of the problem, its
    ``granularity``; under ``static`` the policy sees nothing.

    Attributes:
        budget: bound on the BOPs, controller included, as a fraction of those at 8 bits.
        lowest_budget: where it is given, one run learns the bits for every budget from here to
            ``budget``.
        decides: about each ``layer`` when its turn comes, or about the whole ``network`` at the
            first decided layer: it then takes a rung of a ladder from the lowest width of all
            layers to the highest.
        ladder: rungs from one width to the next, up to one for each layer, see
            :mod:`~agents.hybrid.ladder`. With 1 all layers of a rung have the same of their widths,
            unless a bit is four times as dear in one layer as in another; with 2 there is a rung
            between, where half of the layers, the cheap ones and the later ones, is one ahead.
        reach: with ``value``, how many rungs on either side of the budget images can take: with 1
            the one that just costs less and the one that just costs more; all when left out.
        hold: ``mean`` bounds the average over the mixture, ``image`` the BOPs of each image.
        follow: what follows what the policy sees, any of ``bits``; ``grids``, the scale and the
            offset of each layer's output channels, and with them the grids that they are rounded
            on, see :mod:`~agents.hybrid.modulation`; and ``input``, the same of the image itself,
            see :mod:`~agents.hybrid.standardization`. What does not is the same for all images.
        grid_share: what a grid that follows may cost in a layer, as a share of what one bit more of
            what the layer receives costs there; where it costs more, as it does where channels are
            many and products few, the grid is the same for all images. The first layer's follows.
        sees: what the policy sees, any of ``quality`` (the descriptor), ``statistics`` (four pooled
            numbers of what the layer receives), ``channels`` (the mean of each channel of what this
            layer and those before it receive) and ``map`` (brightness and contrast of each of the
            4 x 4 cells of the image); an environment's observation does not have the last two.
        distribution: over bits: ``logistic`` (discretised location and scale), ``softmax`` (a logit
            for each width), ``gumbel`` (the same, drawn by relaxed Gumbel noise) or ``value`` (the
            width of the least forecast loss and price, where one decision is about the ``network``;
            no gradient of the choice is needed).
        gradient: of the choice: ``neighbours`` or ``neighbour`` (straight through a sample,
            crediting both widths next to it, or one of them at random), ``relaxed`` (the mean over
            all widths), ``score`` (the score function, against the mean of the other groups) or
            ``paired`` (the score function, against a second draw for the same images).
        align: whether each width of a layer has a norm of its own, see
            :mod:`~dqmq_env.quantization.alignment`.
        explore: share of the images of a training batch that get the decision of another one of
            them when the policy has learned, so that each width serves all kinds of images.
        policy_rate: peak learning rate of AdamW for the policy.
        multiplier_rate: step of the multiplier for each unit of relative excess.
        penalty: weight of the squared relative excess.
        search_share: share of the training in which bits are drawn and the policy learns. Then the
            budget is met, each decision is the most probable one, and weights and steps alone go on
            learning, at the bits that they will have. Values are fitted then; where the share is 0
            they are forecast from the float network.
        refits: how often values are fitted again: evenly over the rest of the training, the last
            time at its end, so that once means after it.
        first_temperature: of the distribution over bits at the start.
        last_temperature: when the policy has learned; until then it falls exponentially.
        group: consecutive images of a training batch that share their bits (and, under the
            granularity ``batch``, their condition); images of granularity ``image`` never do. Where
            it is the whole batch, batch norms would undo grids of layers, which then do not follow.
        embedding: size of what the policy makes of what it sees.
        value_images: training images whose losses at every width (in use, after training) values
            are fitted to, each time; no more than the training itself has.
        settle_images: training images that, when the policy has learned and again after training,
            batch normalisation is measured anew on and the budget is met on; 0 leaves both as
            training left them.

    Raises:
        SettingError: a setting is outside what is allowed.
    """

    budget: float = 0.14
    lowest_budget: float | None = None
    decides: str = "layer"
    ladder: int = 1
    reach: int | None = None
    hold: str = "mean"
    follow: tuple[str, ...] = ("bits",)
    grid_share: float = 0.1
    sees: tuple[str, ...] = ("quality", "statistics")
    distribution: str = "logistic"
    gradient: str = "neighbour"
    align: bool = False
    explore: float = 0.0
    policy_rate: float = 0.03
    multiplier_rate: float = 0.02
    penalty: float = 2.0
    search_share: float = 0.3
    refits: int = 0
    first_temperature: float = 1.0
    last_temperature: float = 0.1
    group: int = 32
    embedding: int = 8
    value_images: int = 8_000
    settle_images: int = 2_000

    def __post_init__(self) -> None:
        for name in ("follow", "sees"):  # lists, where they come from a file
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name, value, allowed in (
            ("decides", self.decides, _DECIDES),
            ("hold", self.hold, _HOLDS),
            ("distribution", self.distribution, tuple(HEADS)),
            ("gradient", self.gradient, tuple(GRADIENTS)),
        ):
            if value not in allowed:
                raise SettingError(f"{name}: got {value!r}, allowed are {list(allowed)}")
        by_value = self.distribution == "value"
        if not (0 < self.search_share <= 1 or (by_value and self.search_share == 0)):
            raise SettingError(
                f"search_share: got {self.search_share}, allowed is above 0 and up to 1; with "
                "distribution='value' also 0"
            )
        if not 0 <= self.explore <= 1:
            raise SettingError(f"explore: got {self.explore}, allowed is 0 to 1")
        if self.ladder < 1 or (self.ladder > 1 and self.decides != "network"):
            raise SettingError(
                f"ladder: got {self.ladder}, allowed is 1, and more with decides='network'"
            )
        if self.reach is not None and (self.reach < 1 or not by_value):
            raise SettingError(
                f"reach: got {self.reach}, allowed are 1 and more with distribution='value'"
            )
        if self.refits < 0 or (self.refits and not by_value):
            raise SettingError(
                f"refits: got {self.refits}, allowed are 0 and more with distribution='value'"
            )
        if by_value and self.decides != "network":
            raise SettingError(
                f"distribution: got 'value' with decides={self.decides!r}, allowed is 'network'"
            )
        unknown = sorted(set(self.sees) - set(SOURCES))
        if unknown:
            raise SettingError(f"sees: got {unknown}, allowed are {list(SOURCES)}")
        if not self.follow or set(self.follow) - set(_FOLLOW):
            raise SettingError(
                f"follow: got {list(self.follow)}, allowed are any of {list(_FOLLOW)}"
            )
        if "input" in self.follow and "map" not in self.sees:
            raise SettingError(
                f"follow: got 'input' with sees={list(self.sees)}, which needs 'map'"
            )
        if not self.grid_share > 0:
            raise SettingError(f"grid_share: got {self.grid_share}, allowed is above 0")
        if "grids" in self.follow and not set(self.sees) & set(IMAGE_SOURCES):
            raise SettingError(
                f"follow: got 'grids' with sees={list(self.sees)}, which needs one of "
                f"{list(IMAGE_SOURCES)}"
            )
        if self.lowest_budget is not None and not 0 < self.lowest_budget < self.budget:
            raise SettingError(
                f"lowest_budget: got {self.lowest_budget}, allowed is above 0 and below "
                f"budget, {self.budget}"
            )

    @property
    def budgets(self) -> tuple[float, float]:
        """The lowest and the highest budget that is learned."""
        return self.lowest_budget or self.budget, self.budget

    @property
    def rests(self) -> tuple[float, ...]:
        """The shares of the run after which the policy comes to rest, or is looked over again.

        What comes at the end of the run is not among them.
        """
        count = max(1, self.refits)
        left = (1 - self.search_share) / count
        return tuple(self.search_share + number * left for number in range(count))

    def temperature(self, progress: float) -> float:
        """Temperature when a share ``progress`` of the run lies behind."""
        ratio = self.last_temperature / self.first_temperature
        done = min(1.0, progress / self.search_share) if self.search_share else 1.0
        return float(self.first_temperature * ratio**done)


def preset(name: str = "by-value", **changed: Any) -> HybridSettings:
    """Settings that go together, some of them changed.

    Args:
        name: ``by-value``, one decision for each image between the two rungs next to the budget;
            or ``by-layer``, a decision before each layer. Under both, grids follow the image, that
            of the image itself among them.
        changed: fields of :class:`HybridSettings` in place of the preset's.

    Raises:
        SettingError: there is no such preset, or a setting is outside what is allowed.
    """
    if name not in PRESETS:
        raise SettingError(f"preset: got {name!r}, allowed are {list(PRESETS)}")
    return HybridSettings(**{**PRESETS[name], **changed})
