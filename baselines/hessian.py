"""Hessian traces and an integer programme, as HAWQ-V2 and HAWQ-V3 have it."""

from dataclasses import dataclass

import numpy as np

from baselines.budget_sweep import propose_each, sweep
from baselines.exchange import Rows
from baselines.traces import Precision, Traces, hessian_traces
from dqmq_env.errors import SettingError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quality.batches import MixedQualityBatches
from dqmq_env.quality.mixture import Mixture
from dqmq_env.quantization.assignment import LayerBits
from dqmq_env.quantization.folding import fold_batch_norm
from dqmq_env.search.live import live_network
from dqmq_env.search.meter import MeteredProblem, Spent
from dqmq_env.search.proposals import run_proposals
from dqmq_env.search.rule import RuleAgent
from dqmq_env.search.space import Space
from dqmq_env.search.target import targets_of
from dqmq_env.task.task import Task


@dataclass(frozen=True)
class HessianILP:
    """Takes second derivatives for sensitivities and chooses bits by an integer programme.

    The harm of giving a layer weights of ``b`` bits is ``trace / n * |Q(w, b) - w|^2``, with the
    trace of the Hessian of the loss by its ``n`` weights ``w`` (the metric Omega of HAWQ-V2, Dong
    et al. 2020), on images from the ``train`` split under the conditions that a target is about.
    The least harm under a budget is found exactly (:func:`~baselines.ilp.solve`; HAWQ-V3, Yao et
    al. 2021). As a task may reward compression as well, that is done under the task's budget and
    under smaller ones (:func:`~baselines.budget_sweep.sweep`), the largest first, and evaluations
    decide.

    The measure is about weights alone. Where weights and activations are decided separately, only
    pairs of the same bits are considered, as in HAWQ-V3. A trace below zero, which a network that
    is not at a minimum can have, is taken for zero.

    Attributes:
        scope: ``all`` for a single assignment for all conditions, ``condition`` for one for each,
            which takes traces for each.
        images: number of ``train`` images that the loss is the mean over.
        probes: see :class:`~baselines.traces.Precision`.
        tolerance: see :class:`~baselines.traces.Precision`.
        budgets: number of budgets that the programme is solved under.

    Raises:
        SettingError: a setting is not allowed.
    """

    scope: str = "all"
    images: int = 100
    probes: int = 100
    tolerance: float = 0.05
    budgets: int = 16

    def __post_init__(self) -> None:
        for name, value in (("images", self.images), ("budgets", self.budgets)):
            if value < 1:
                raise SettingError(f"{name}: got {value}, allowed are 1 and more")
        Precision(self.tolerance, self.probes)

    def search(self, problem: MeteredProblem, task: Task, evaluations: int, seed: int) -> RuleAgent:
        """See :class:`~dqmq_env.search.protocol.Searcher`.

        Images are counted as trained once for each gradient: one for each random vector of each
        layer, and one more for every eight.

        Raises:
            SettingError: the problem is no live network, has fewer images, or decides about
                activations alone.
        """
        live = live_network(problem, "HessianILP")
        space = Space(problem, task)
        if any(len(live.candidates[name]) == 1 for name in space.names):
            raise SettingError(
                "weight_bits: got one width; traces say what rounding weights costs, allowed are "
                "problems that decide about weights"
            )
        precision = Precision(self.tolerance, self.probes)
        searches = []
        for target in targets_of(self.scope, problem, task):
            traces = measure_traces(live, space, target.mixture, self.images, precision, seed)
            problem.count(Spent(images_trained=self.images * traces.gradients))
            found = sweep(space, sensitivities(live, space, traces), self.budgets)
            searches.append((target, propose_each(space, found)))
        return RuleAgent(run_proposals(searches), problem, task)


def measure_traces(
    problem: NetworkProblem,
    space: Space,
    mixture: Mixture,
    images: int,
    precision: Precision,
    seed: int,
) -> Traces:
    """The traces of the Hessian of the loss by the weights of each decided layer.

    The weights are those that are quantised: batch normalisation is folded into them.

    Args:
        problem: gives network and images.
        space: names the decided layers.
        mixture: the conditions of the images.
        images: number of ``train`` images.
        precision: when to stop.
        seed: of images, their conditions, and the random vectors.

    Raises:
        SettingError: there are fewer images.
    """
    if images > len(problem.data.train):
        raise SettingError(f"images: got {images}, allowed are 1 to {len(problem.data.train)}")
    batch = MixedQualityBatches(problem.data.train, mixture, images, seed, shift=0).at(0)
    network = fold_batch_norm(problem.network)
    x = problem.normalize(batch.images)
    return hessian_traces(network, space.names, x, batch.labels, precision, seed)


def sensitivities(problem: NetworkProblem, space: Space, traces: Traces) -> Rows:
    """HAWQ-V2's measure for each option of each decided layer, in nats.

    Infinite for options that are not considered.

    Args:
        problem: gives weights and their errors.
        space: gives the options.
        traces: of the decided layers.
    """
    layers = {layer.spec.name: layer for layer in problem.quantized.layers}
    rows = []
    for name, options, trace in zip(space.names, space.options, traces.mean.tolist(), strict=True):
        layer = layers[name]
        weight = layer.inner.weight.detach().double()
        errors = problem.weight_error(name) ** 2 * float((weight**2).sum())
        harm = max(trace, 0.0) / weight.numel() * errors
        rows.append(
            np.array(
                [
                    np.inf if _uneven(own, options) else harm[layer.candidates.index(own.weight)]
                    for own in options
                ]
            )
        )
    return rows


def _uneven(own: LayerBits, options: tuple[LayerBits, ...]) -> bool:
    """Whether there is a choice of activations, and it is not that of the weights' bits."""
    return own.activation != own.weight and LayerBits(own.weight, own.weight) in options
