"""The names by which settings and commands know the schemes."""

from typing import Final

from dqmq_env.errors import SettingError
from dqmq_env.quantization.dorefa import DoReFa
from dqmq_env.quantization.pact import PACT
from dqmq_env.quantization.scheme import LSQ, Scheme

SCHEMES: Final[dict[str, Scheme]] = {"lsq": LSQ(), "pact": PACT(), "dorefa": DoReFa()}


def scheme_by_name(name: str) -> Scheme:
    """The scheme of that name, with its default settings.

    Raises:
        SettingError: there is none.
    """
    if name not in SCHEMES:
        raise SettingError(f"scheme: got {name!r}, allowed are {list(SCHEMES)}")
    return SCHEMES[name]
