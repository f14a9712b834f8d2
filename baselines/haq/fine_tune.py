"""Rewards of networks that were trained at their bits first, as HAQ has them."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dqmq_env.evaluation.deployed import Deployed
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.problem.protocol import Outcome
from dqmq_env.quality.condition import Condition
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.search.live import live_network
from dqmq_env.search.meter import MeteredProblem, Spent
from dqmq_env.search.target import Answer, Target
from dqmq_env.training.fine_tune import fine_tune
from dqmq_env.training.loop import Schedule

_IMAGES_AT_ONCE = 250


@dataclass(frozen=True, eq=False)
class FineTuned(Target):
    """A target whose network is trained at each assignment before it is looked at.

    Every assignment begins with the pretrained weights, calibrated anew, and sees the same training
    images in the same order. They are of the problem's whole mixture, whatever the target's.

    Attributes:
        schedule: of the training.
    """

    schedule: Schedule

    def look(self, assignment: BitAssignment) -> Answer:
        """See :class:`~dqmq_env.search.target.Target`; counts the images trained too."""
        live = live_network(self.problem, "fine-tuning")
        network = fine_tune(live, assignment, self.schedule)
        self.problem.count(Spent(images_trained=self.schedule.trained_images))
        trained = _Trained(self.problem, live, network)
        return Target(trained, self.task, self.mixture).look(assignment)


class _Trained(MeteredProblem):
    """A problem whose answers are those of a trained network, counted by another meter."""

    def __init__(self, meter: MeteredProblem, live: NetworkProblem, network: Deployed) -> None:
        super().__init__(live)
        self._meter, self._live, self._network = meter, live, network

    def evaluate(
        self, assignment: BitAssignment, condition: Condition | str, split: str = "search"
    ) -> Outcome:
        """How the trained network does on the ``search`` images, arrays of shape (1,)."""
        condition = Condition.parse(condition)
        count = self.batches * self.batch_images
        images = self._live.search.under(condition)[:count]
        labels = self._live.data.search.labels[:count]
        logits = torch.cat([self._network(part).logits for part in images.split(_IMAGES_AT_ONCE)])
        right = self._by_batch(logits.argmax(1) == labels)
        losses = self._by_batch(F.cross_entropy(logits.double(), labels, reduction="none"))
        outcome = Outcome(right.numpy(), losses.numpy())
        self._meter.finish([condition] * self.batches, [assignment] * self.batches, outcome)
        return Outcome(np.array([outcome.accuracy.mean()]), np.array([outcome.loss.mean()]))

    def _by_batch(self, values: Tensor) -> Tensor:
        """Means over the images of each batch, shape (batches,)."""
        return values.double().view(self.batches, self.batch_images).mean(1)
