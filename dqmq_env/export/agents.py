"""Agents whose policies can be exported and read; their modules are found by a fixed name."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dqmq_env.errors import ExportError
from dqmq_env.evaluation.deployed import Deployed
from dqmq_env.export.contents import Packed
from dqmq_env.program import own_package
from dqmq_env.quantization.network import QuantizedNetwork

if TYPE_CHECKING:
    from dqmq_env.export.source import Origin, Source

_READERS: Final[Mapping[str, str]] = {"hybrid/13": "agents.hybrid.export"}
"""Kind of a policy to the module that has ``dynamic_of``."""

_AGENT: Final = "agent.dqmq"


def dynamic_of(packed: Packed, network: QuantizedNetwork, source: str) -> Deployed:
    """The network of a packed file with the policy that decides about its bits.

    Args:
        packed: what the file holds.
        network: restored from it.
        source: the file, for messages.

    Raises:
        ExportError: no agent here wrote such a policy, or it is damaged.
    """
    kind = "" if packed.policy is None else packed.policy.kind
    if kind not in _READERS:
        raise ExportError(
            f"path: in {source} a policy of the kind {kind!r} decides about bits, this version "
            f"knows {', '.join(_READERS)}"
        )
    found: Deployed = own_package(_READERS[kind]).dynamic_of(packed, network, source)
    return found


def has_agent(folder: Path) -> bool:
    """Whether the folder is of a finished run of ``dqmq train``."""
    return (folder / _AGENT).is_file()


def agent_in(folder: Path, origin: "Origin", budget: float | None) -> "Source":
    """What ``dqmq train`` has trained in a folder.

    Args:
        folder: of its run.
        origin: the problem that it was trained on.
        budget: one of those that were learned; the highest when left out.

    Raises:
        DQMQError: the agent is damaged, of another problem, or was not trained for the budget.
    """
    found: Source = own_package("agents.hybrid.export").source_of(folder, origin, budget)
    return found
