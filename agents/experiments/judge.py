"""How a network at work does on images of mixed quality that it was not trained on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch

from agents.experiments.probes import DealtBits, DealtGrids, Probe, WrongQuality
from agents.experiments.study import Study
from agents.hybrid.deployed import DynamicNetwork
from dqmq_env.data import ImageSplit
from dqmq_env.evaluation.deployed import Deployed, Prediction
from dqmq_env.quality.batches import Batch, MixedQualityBatches
from dqmq_env.quality.mixture import Mixture
from dqmq_env.randomness import derive_seed

SEEN, UNSEEN, UNSEEN_SEVERITIES = "seen", "unseen", "unseen severities"
DEALT, DEALT_GRIDS = "bits of another image", "grids of another image"
WRONG, HIDDEN = "wrong descriptor", "hidden descriptor"
_BATCH = 250


@dataclass(frozen=True)
class Row:
    """What came of the images that were seen under one condition.

    Attributes:
        condition: its text.
        images: how many there were.
        correct: how many of them were classified correctly.
        cost: mean BOPs as a fraction of those at 8 bits.
        bits: mean bits of each layer, in forward order.
        spread: standard deviation of these bits over images.
    """

    condition: str
    images: int
    correct: int
    cost: float
    bits: tuple[float, ...]
    spread: tuple[float, ...]


def judge(study: Study, network: Deployed) -> dict[str, list[Row]]:
    """Rows under the mixture that was trained on, and under those that were not.

    The images and what is done to them depend on the study alone, so that all methods, budgets and
    seeds are judged on the same.

    Returns:
        ``seen``; where the study has them ``unseen`` and ``unseen severities``; where bits follow
        the image, ``seen`` once more with what :mod:`~agents.experiments.probes` makes of it.
    """
    images, passes = study.judged, study.test_passes
    found = judge_under(network, images, study.mixture, passes, _probes(network))
    for name, mixture in ((UNSEEN, study.unseen), (UNSEEN_SEVERITIES, study.unseen_severities)):
        if mixture is not None:
            found[name] = judge_under(network, images, mixture)[SEEN]
    return found


def _probes(network: Deployed) -> dict[str, Probe]:
    if not isinstance(network, DynamicNetwork) or network.granularity != "image":
        return {}
    probes: dict[str, Probe] = {DEALT: DealtBits(network)}
    if network.policy.grids.follow:
        probes[DEALT_GRIDS] = DealtGrids(network)
    if "quality" in network.policy.view.sees:
        probes[WRONG] = WrongQuality(network, hidden=False)
        probes[HIDDEN] = WrongQuality(network, hidden=True)
    return probes


@torch.no_grad()
def judge_under(
    network: Deployed,
    images: ImageSplit,
    mixture: Mixture,
    passes: int = 1,
    probes: Mapping[str, Probe] = MappingProxyType({}),
) -> dict[str, list[Row]]:
    """Rows of a network, and of it with a policy that is misled, on the same images.

    Args:
        network: what is judged.
        images: each of them is looked at ``passes`` times (but for a last incomplete batch), each
            time under a condition of its own.
        mixture: what conditions are drawn from.
        passes: see ``images``.
        probes: by the names that their rows get.

    Returns:
        ``seen`` and one for each probe: a row for each condition that any image was drawn to.
    """
    seed = derive_seed("judge", str(mixture.to_dict())) % 2**31
    size = min(_BATCH, len(images))
    batches = MixedQualityBatches(images, mixture, size, seed, shift=0)
    tallies = {name: _Tally(mixture) for name in (SEEN, *probes)}
    for step in range(passes * batches.steps_per_epoch):
        batch = batches.at(step)
        own = network(batch.images)
        tallies[SEEN].add(batch, own)
        for name, probe in probes.items():
            tallies[name].add(batch, probe(batch.images, own))
    return {name: tally.rows() for name, tally in tallies.items()}


class _Tally:
    """What was said of each image, by condition."""

    def __init__(self, mixture: Mixture) -> None:
        self._found: dict[str, list[tuple[bool, float, list[int]]]] = {
            str(condition): [] for condition in mixture.conditions
        }

    def add(self, batch: Batch, said: Prediction) -> None:
        correct = (said.logits.argmax(1) == batch.labels).tolist()
        of_images = zip(correct, said.cost.tolist(), said.bits.tolist(), strict=True)
        for condition, own in zip(batch.conditions, of_images, strict=True):
            self._found[str(condition)].append(own)

    def rows(self) -> list[Row]:
        return [_row(condition, own) for condition, own in self._found.items() if own]


def _row(condition: str, images: Iterable[tuple[bool, float, list[int]]]) -> Row:
    right, cost, bits = zip(*images, strict=True)
    widths = torch.tensor(bits, dtype=torch.float64)
    return Row(
        condition,
        len(right),
        sum(right),
        sum(cost) / len(cost),
        _rounded(widths.mean(0)),
        _rounded(widths.std(0, correction=0)),
    )


def _rounded(values: torch.Tensor) -> tuple[float, ...]:
    return tuple(round(value, 4) for value in values.tolist())
