"""Settings of the fast search; free of torch."""

from dataclasses import dataclass

from dqmq_env.errors import SettingError


@dataclass(frozen=True)
class FastSettings:
    """How much is looked at.

    Attributes:
        images: calibration images that the divergence from float is measured on; all where there
            are fewer.
        refine: assignments that are looked at for each budget, that of the programme among them.

    Raises:
        SettingError: a number is below 1.
    """

    images: int = 128
    refine: int = 8

    def __post_init__(self) -> None:
        for name, value in (("images", self.images), ("refine", self.refine)):
            if value < 1:
                raise SettingError(f"{name}: got {value}, allowed are 1 and more")
