"""Conditions: a corruption and how severe it is, written `gaussian_noise/3` or `clean`."""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, Union

from dqmq_env.errors import ConditionError

DEFAULT_CORRUPTIONS: Final = (
    "gaussian_noise",
    "shot_noise",
    "gaussian_blur",
    "motion_blur",
    "brightness",
    "contrast",
    "pixelate",
    "jpeg",
)
# `brightness` draws one of its two halves for each image; both can also be asked for alone.
CORRUPTION_NAMES: Final = (*DEFAULT_CORRUPTIONS, "darkness", "overexposure")
SEVERITIES: Final = (1, 2, 3, 4, 5)

_CLEAN_NAME: Final = "clean"


@dataclass(frozen=True, order=True)
class Condition:
    """A corruption of images and its severity.

    Attributes:
        corruption: One of `CORRUPTION_NAMES`, or `clean` for none.
        severity: 1 (slight) to 5 (heavy); 0 for `clean`.

    Raises:
        ConditionError: The corruption is unknown, or the severity does not go with it.
    """

    corruption: str
    severity: int

    def __post_init__(self) -> None:
        if self.corruption == _CLEAN_NAME:
            if type(self.severity) is not int or self.severity != 0:
                raise ConditionError(
                    f"condition: got {_CLEAN_NAME!r} with severity {self.severity!r}, must be "
                    f"{_CLEAN_NAME!r} alone"
                )
            return
        if self.corruption not in CORRUPTION_NAMES:
            raise ConditionError(_unknown(self.corruption))
        if type(self.severity) is not int or self.severity not in SEVERITIES:
            raise ConditionError(
                f"severity: got {self.severity!r} for {self.corruption}, must be an int 1 to 5"
            )

    @classmethod
    def parse(cls, text: Union[str, "Condition"]) -> "Condition":
        """Read a condition from its text.

        Args:
            text: `corruption/severity` or `clean`; a `Condition` is returned as it is.

        Raises:
            ConditionError: The text is no condition; the message says what is allowed.
        """
        if isinstance(text, Condition):
            return text
        if not isinstance(text, str):
            raise ConditionError(f"condition: got {text!r}, must be text such as 'jpeg/3'")
        if text == _CLEAN_NAME:
            return CLEAN
        corruption, _, severity = text.partition("/")
        if corruption == _CLEAN_NAME:
            raise ConditionError(f"condition: got {text!r}, must be {_CLEAN_NAME!r} alone")
        if corruption not in CORRUPTION_NAMES:
            raise ConditionError(_unknown(corruption))
        if severity not in map(str, SEVERITIES):
            raise ConditionError(
                f"severity: got {severity!r} in {text!r}, must be 1 to 5, such as '{corruption}/3'"
            )
        return cls(corruption, int(severity))

    def __str__(self) -> str:
        if self.corruption == _CLEAN_NAME:
            return _CLEAN_NAME
        return f"{self.corruption}/{self.severity}"


def _unknown(corruption: str) -> str:
    names = (_CLEAN_NAME, *CORRUPTION_NAMES)
    close = get_close_matches(str(corruption), names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"corruption: got {corruption!r}, must be one of {', '.join(names)}{hint}"


CLEAN: Final = Condition(_CLEAN_NAME, 0)
DEFAULT_CONDITIONS: Final = (CLEAN, *(Condition(name, 3) for name in DEFAULT_CORRUPTIONS))
