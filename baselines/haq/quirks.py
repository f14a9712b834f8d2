"""What HAQ's public code does beside its paper, by name; docs/haq.md has the table."""

from collections.abc import Collection
from typing import Final

from dqmq_env.errors import SettingError

STALE_FIRST_OBSERVATION: Final = "stale-first-observation"
"""The first observation of an episode keeps last bits and flag of the episode before."""
FLAG_OVERWRITTEN: Final = "flag-overwritten"
"""The flag says 1 before activations and 0 before weights, but 1 before the very first weights."""
RAW_LAST_BITS: Final = "raw-last-bits"
"""With one decision a layer, the last bits are a plain number beside features in [0, 1]."""
DUMMY_TRANSITION: Final = "dummy-transition"
"""After each episode an entry without meaning is put into the replay memory."""
REWARD_ON_EVERY_TRANSITION: Final = "reward-on-every-transition"
"""The reward of the episode is given to each of its transitions, not to the last alone."""
UNPROJECTED_ACTIONS: Final = "unprojected-actions"
"""The memory holds the actions that were taken, not those that the budget left of them."""

HARMLESS: Final = (
    RAW_LAST_BITS,
    DUMMY_TRANSITION,
    REWARD_ON_EVERY_TRANSITION,
    UNPROJECTED_ACTIONS,
)
QUIRKS: Final = (STALE_FIRST_OBSERVATION, FLAG_OVERWRITTEN, *HARMLESS)
"""All of them; those that are not harmless make observations of two decisions equal."""


def check_quirks(quirks: Collection[str]) -> None:
    """Refuse names that are no quirks.

    Raises:
        SettingError: there are some.
    """
    unknown = [name for name in quirks if name not in QUIRKS]
    if unknown or isinstance(quirks, str):
        raise SettingError(f"quirks: got {unknown or quirks!r}, allowed are {list(QUIRKS)}")
