"""What can be set of the DQNet-style baseline."""

from dataclasses import dataclass

from baselines.relaxed_search import check_numbers
from dqmq_env.errors import SettingError

COSTS = ("bops", "mean-bits")


@dataclass(frozen=True)
class Settings:
    """Settings of network, controller and training.

    Attributes:
        images: number of images to train on.
        batch: images in a batch.
        learning_rate: peak rate of AdamW for weights and step sizes.
        controller_rate: the same for the controller.
        weight: of the hinge on the relative excess over the budget. Of five short runs of ResNet-8
            at 5, budgets of 0.12 to 0.2, none ended more than 2% above, some up to 9% below; at 2
            one of three ended 8% above.
        stem: number of decided layers at fixed bits, from the first on; a third of them when left
            out.
        stem_bits: bits of these layers; when left out the base, or the widest candidate below it at
            which the budget lets half of the later layers have more than their lowest choice.
        base: the width that the choices are around; when left out the candidate, but for the lowest
            and the highest, at which uniform bits come nearest to the budget.
        choices: how many neighbouring candidates the controller chooses between, the base in their
            middle; an odd number, ``None`` for all candidates.
        pool: side of the grid that the controller's input is averaged to, in each channel.
        hidden: size of the controller's hidden layer.
        dropout: share of the hidden layer that is left out, in training.
        temperature: of the softmax that gradients pass through.
        fade: share of the training over which the Gumbel noise falls linearly to nothing; ``None``
            keeps it all, as published.
        cost: what the hinge is on: ``bops``, expected BOPs with those of the controller, or
            ``mean-bits``, mean bits over the controlled layers, as published.

    Raises:
        SettingError: a number is outside its range.
    """

    images: int = 40_000
    batch: int = 128
    learning_rate: float = 1e-3
    controller_rate: float = 1e-2
    weight: float = 5.0
    stem: int | None = None
    stem_bits: int | None = None
    base: int | None = None
    choices: int | None = 3
    pool: int = 2
    hidden: int = 64
    dropout: float = 0.2
    temperature: float = 1.0
    fade: float | None = 0.75
    cost: str = "bops"

    def __post_init__(self) -> None:
        names = ("learning_rate", "controller_rate", "temperature", "pool", "hidden")
        check_numbers({name: getattr(self, name) for name in names}, {})
        if self.choices is not None and (self.choices < 3 or self.choices % 2 == 0):
            raise SettingError(
                f"choices: got {self.choices}, allowed are odd numbers from 3 on, or None"
            )
        if not 0 <= self.dropout < 1:
            raise SettingError(f"dropout: got {self.dropout}, allowed is 0 to below 1")
        if self.fade is not None and not 0 < self.fade <= 1:
            raise SettingError(f"fade: got {self.fade}, allowed is above 0 to 1, or None")
        if not self.weight >= 0:
            raise SettingError(f"weight: got {self.weight}, allowed is 0 and more")
        if self.cost not in COSTS:
            raise SettingError(f"cost: got {self.cost!r}, allowed are {list(COSTS)}")

    def noise(self, progress: float) -> float:
        """Factor on the Gumbel noise when a share ``progress`` of the run lies behind."""
        return 1.0 if self.fade is None else max(0.0, 1 - progress / self.fade)
