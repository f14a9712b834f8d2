"""How a network at work does on images of mixed quality that it was not trained on."""

from dataclasses import dataclass
from typing import Any

import torch

from agents.experiments.probes import DealtBits, DealtGrids, WrongQuality
from agents.experiments.study import Study
from agents.hybrid.deployed import DynamicNetwork
from dqmq_env.data import ImageSplit
from dqmq_env.evaluation.deployed import Deployed
from dqmq_env.quality.batches import MixedQualityBatches
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
    images, seen = study.judged, study.mixture
    found = {SEEN: judge_under(network, images, seen, study.test_passes)}
    for name, mixture in ((UNSEEN, study.unseen), (UNSEEN_SEVERITIES, study.unseen_severities)):
        if mixture is not None:
            found[name] = judge_under(network, images, mixture)
    if isinstance(network, DynamicNetwork) and network.granularity == "image":
        probes: dict[str, Deployed] = {DEALT: DealtBits(network)}
        if network.policy.modulation is not None:
            probes[DEALT_GRIDS] = DealtGrids(network)
        if "quality" in network.policy.view.sees:
            probes[WRONG] = WrongQuality(network, hidden=False)
            probes[HIDDEN] = WrongQuality(network, hidden=True)
        for name, probe in probes.items():  # on the same images, to be compared
            found[name] = judge_under(probe, images, seen, study.test_passes)
    return found


@torch.no_grad()
def judge_under(
    network: Deployed, images: ImageSplit, mixture: Mixture, passes: int = 1
) -> list[Row]:
    """A row for each condition of a mixture that any image was drawn to.

    Args:
        network: what is judged.
        images: each of them is looked at ``passes`` times (but for a last incomplete batch), each
            time under a condition of its own.
        mixture: what conditions are drawn from.
        passes: see ``images``.
    """
    seed = derive_seed("judge", str(mixture.to_dict())) % 2**31
    size = min(_BATCH, len(images))
    batches = MixedQualityBatches(images, mixture, size, seed, shift=0)
    found: dict[str, list[Any]] = {str(condition): [] for condition in mixture.conditions}
    for step in range(passes * batches.steps_per_epoch):
        batch = batches.at(step)
        said = network(batch.images)
        correct = (said.logits.argmax(1) == batch.labels).tolist()
        rows = zip(batch.conditions, correct, said.cost.tolist(), said.bits.tolist(), strict=True)
        for condition, right, cost, bits in rows:
            found[str(condition)].append((right, cost, bits))
    return [_row(condition, own) for condition, own in found.items() if own]


def _row(condition: str, images: list[Any]) -> Row:
    right, cost, bits = zip(*images, strict=True)
    widths = torch.tensor(bits, dtype=torch.float64)
    return Row(
        condition,
        len(images),
        sum(right),
        sum(cost) / len(cost),
        _rounded(widths.mean(0)),
        _rounded(widths.std(0, correction=0)),
    )


def _rounded(values: torch.Tensor) -> tuple[float, ...]:
    return tuple(round(value, 4) for value in values.tolist())
