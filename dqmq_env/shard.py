"""A part of some work, for machines that share a folder without a coordinator."""

from dataclasses import dataclass
from typing import Self

from dqmq_env.errors import SettingError


@dataclass(frozen=True)
class Shard:
    """Each machine takes one.

    Attributes:
        number: which, from 0.
        of: how many there are.
    """

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``i/n``.

        Raises:
            SettingError: it is not ``i/n`` with i from 0 to n - 1.
        """
        number, _, of = text.partition("/")
        if not (number.isdecimal() and of.isdecimal() and int(number) < int(of)):
            raise SettingError(f"--shard: got {text!r}, allowed are 0/n to n-1/n")
        return cls(int(number), int(of))

    def has(self, unit: int) -> bool:
        """Whether a unit of work is its own, by a number that all machines know it by."""
        return unit % self.of == self.number
