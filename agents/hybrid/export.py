"""A trained hybrid policy as an export takes it: in packed files, and inside of ONNX graphs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from agents.hybrid.agent import HybridAgent
from agents.hybrid.costing import Costing
from agents.hybrid.deployed import DynamicNetwork
from agents.hybrid.policy import BitPolicy, make_policy
from agents.hybrid.settings import HybridSettings
from dqmq_env.costs import cost_by_name
from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.errors import DQMQError, ExportError
from dqmq_env.evaluation.normalize import Normalize
from dqmq_env.export.contents import Packed, Policy
from dqmq_env.export.onnx_names import BUDGET
from dqmq_env.export.source import Origin, Source
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.quantization.candidates import telling_widths
from dqmq_env.quantization.network import QuantizedNetwork
from dqmq_env.quantization.surgery import eval_mode

KIND = "hybrid/13"
_UNREADABLE = (DQMQError, ValueError, LookupError, TypeError, AttributeError, RuntimeError)


@dataclass(frozen=True)
class HybridPolicy:
    """A policy apart from the network that it decides about.

    Attributes:
        policy: trained, on the CPU.
        settings: of the training.
        granularity: what bits follow.
        normalize: from images to the network's input.
        budget: that it starts with, as a fraction of the BOPs at 8 bits.
    """

    policy: BitPolicy
    settings: HybridSettings
    granularity: str
    normalize: Normalize
    budget: float

    @classmethod
    def of(cls, agent: HybridAgent, budget: float | None = None) -> "HybridPolicy":
        """That of a trained agent.

        Raises:
            SettingError: the budget is outside what was learned.
        """
        dynamic = agent.deployed(budget)
        data = agent.problem.data
        policy = make_policy(agent.network, agent.settings, agent.problem.granularity)
        policy.load_state_dict(dynamic.policy.state_dict())
        normalize = Normalize(data.mean, data.std)
        return cls(policy, agent.settings, agent.problem.granularity, normalize, dynamic.budget)

    @property
    def slot(self) -> Policy:
        """See :class:`~dqmq_env.export.dynamic.Dynamic`."""
        settings = {
            "hybrid": asdict(self.settings),
            "granularity": self.granularity,
            "budget": self.budget,
        }
        return Policy(KIND, settings, self.policy.state_dict())

    @property
    def inputs(self) -> Mapping[str, Tensor]:
        """See :class:`~dqmq_env.export.dynamic.Dynamic`."""
        if self.settings.lowest_budget is None:
            return {}
        return {BUDGET: torch.tensor([self.budget])}

    @property
    def one_by_one(self) -> bool:
        """See :class:`~dqmq_env.export.dynamic.Dynamic`."""
        return self.granularity == "image"

    def at_work(self, network: QuantizedNetwork) -> DynamicNetwork:
        """See :class:`~dqmq_env.export.dynamic.Dynamic`."""
        costing = Costing(cost_by_name("bops"), network, self.policy)
        return DynamicNetwork(
            network,
            self.policy,
            costing,
            self.settings,
            self.granularity,
            self.normalize,
            self.budget,
        )

    def traceable(self, network: QuantizedNetwork) -> nn.Module:
        """See :class:`~dqmq_env.export.dynamic.Dynamic`."""
        return _Traceable(replace(self, granularity="batch").at_work(network))

    def settled(self, network: QuantizedNetwork) -> BitAssignment | None:
        """The bits of all images, where the policy sees none of them."""
        if self.policy.view.size or self.policy.grids.follow:
            return None
        images = torch.zeros(1, *network.specs[0].input_shape, dtype=torch.uint8)
        with eval_mode(network):
            found = self.at_work(network)(images).bits[0].tolist()
        options = network.options
        return BitAssignment(
            {
                name: options[name][telling_widths(options[name]).index(bits)]
                for name, bits in zip(options, found, strict=True)
            }
        )


class _Traceable(nn.Module):
    """A dynamic network, all of whose parts PyTorch's exporter sees as such."""

    def __init__(self, dynamic: DynamicNetwork) -> None:
        super().__init__()
        self.network, self.policy = dynamic.network, dynamic.policy
        self._dynamic = dynamic

    def forward(self, images: Tensor, budget: Tensor | None = None) -> tuple[Tensor, ...]:
        logits, controller = self._dynamic.run(images, budget)
        return logits, controller.bits[0], controller.cost()


def dynamic_of(packed: Packed, network: QuantizedNetwork, source: str) -> DynamicNetwork:
    """The network of a packed file with its policy.

    Args:
        packed: what the file holds.
        network: restored from it.
        source: of the file, for messages.

    Raises:
        ExportError: the policy is another agent's, damaged, or none for this network.
    """
    slot = packed.policy
    if slot is None or slot.kind != KIND:
        raise ExportError(f"path: {source} has no policy of the kind {KIND!r}")
    try:
        own = HybridSettings(**slot.settings["hybrid"])
        granularity, budget = str(slot.settings["granularity"]), float(slot.settings["budget"])
        policy = make_policy(network, own, granularity)
        policy.load_state_dict(dict(slot.tensors))
        if granularity not in ("image", "batch", "static") or not budget > 0:
            raise ValueError(f"granularity {granularity!r}, budget {budget}")
    except _UNREADABLE as error:
        raise ExportError(f"path: the policy of {source} is no {KIND}: {error!r}") from error
    policy.eval().requires_grad_(False)
    normalize = Normalize(packed.mean, packed.std)
    return HybridPolicy(policy, own, granularity, normalize, budget).at_work(network)


def source_of(folder: Path, origin: Origin, budget: float | None = None) -> Source:
    """What ``dqmq train`` has trained in a folder, as an export takes it.

    Args:
        folder: of its run.
        origin: the problem that it was trained on.
        budget: one of those that were learned; the highest when left out.

    Raises:
        DQMQError: there is no agent, it is damaged, of another problem, or was not trained for the
            budget.
    """
    agent = HybridAgent.load(folder / "agent.dqmq", BitWidthEnv(origin.problem), device="cpu")
    dynamic = HybridPolicy.of(agent, budget)
    recipe: dict[str, Any] = {
        **origin.recipe,
        "quantisation": "trained jointly with the policy that gives the bits, on "
        f"{agent.schedule.images} images of mixed quality",
        "bits follow": f"{dynamic.granularity}, at an average of {dynamic.budget:.4g} of the BOPs",
        **{key.replace("_", " "): value for key, value in asdict(agent.schedule).items()},
    }
    settled = dynamic.settled(agent.network)
    return Source(
        origin.problem,
        agent.network,
        agent.network.options if settled is None else settled,
        trained=True,
        dynamic=dynamic if settled is None else None,
        architecture=origin.architecture,
        recipe=recipe,
    )
