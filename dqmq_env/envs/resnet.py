"""``DQMQ-ResNet-v0``: the bits of a ResNet-20 for images of the quality at hand."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from dqmq_env.costs import cost_by_name
from dqmq_env.data import load_fashion_mnist
from dqmq_env.envs.core import Task
from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quality.mixture import DEFAULT_MIXTURE, Mixture
from dqmq_env.task.budget import Budget
from dqmq_env.task.reward import WeightedReward
from dqmq_env.zoo.checkpoints import load_checkpoint


class ResNetEnv(BitWidthEnv):
    """Decide how many bits each layer of a trained ResNet gets, for images of the quality at hand.

    ## Description

    The network is the ResNet-20 of He et al. 2016 for small images, trained in float on
    Fashion-MNIST with images of mixed quality. An episode begins with a batch of ``search`` images
    under one condition (a corruption and its severity, or ``clean``). Each step gives one layer its
    bits, for weights and activations jointly, in forward order: the agent sees the quality of the
    images and what the layers before made of them at the bits already chosen. The first and the
    last layer have 8 bits and are not decided. After the last decision the network's accuracy on
    the batch is measured. Weights are quantised after training, without fine-tuning.

    ## Action space

    ``Discrete(7)``: the index into the candidate bits 2, 3, 4, 5, 6, 7, 8.

    ## Observation space

    ``Box(0, 1, (30,), float32)``. All features lie in [0, 1].

    | place | name | meaning |
    |---|---|---|
    | 0-5 | ``quality.*`` | mean over the batch of the no-reference descriptor: noise, sharpness, contrast, luminance, entropy, blockiness |
    | 6-9 | ``activation.*`` | what the layer is about to receive: mean magnitude, root mean square, share of non-zeros, half the peak; all but the third as fractions of the largest magnitude in calibration |
    | 10-16 | ``layer.*`` | whether it is depthwise; in channels, out channels, stride, kernel side, weights, input height x width as fractions of the largest among the layers |
    | 17-18 | ``layer.size_share``, ``layer.bops_share`` | its share of the network's size and BOPs at uniform bits |
    | 19-25 | ``error.*`` | root of the relative squared error of its weights at each candidate |
    | 26 | ``progress.index`` | decisions taken, as a fraction |
    | 27 | ``progress.spent`` | cost of the layers so far, as a fraction of the network's cost at 8 bits |
    | 28 | ``progress.slack`` | 0 where the budget leaves only the lowest bits, 1 where it leaves all |
    | 29 | ``progress.previous`` | bits of the previous decision over 8 |

    ## Reward

    0 until the last step, then ``(1 - weight) * accuracy + weight * (1 - cost)``, where ``cost`` is
    the network's BOPs as a fraction of its BOPs at 8 bits. It lies in [0, 1].

    ## Start and end

    ``reset`` draws a condition from the mixture and a batch; ``options={"condition":
    "gaussian_noise/3", "batch": 2}`` fixes them. The episode terminates after the last decision (18
    steps) and is never truncated. ``info`` at the end holds the executed assignment, accuracy, loss,
    costs and how many actions the budget lowered.

    ## Budget

    With ``budget`` below 1 no finished episode costs more than that fraction of the cost at 8 bits:
    ``action_masks()`` tells which actions leave it reachable, and an action that does not is lowered
    to the nearest that does.

    ## Version history

    * v0: first version.
    """

    def __init__(
        self,
        checkpoint: str = "resnet20-fashion-mnist",
        data: str | None = None,
        bits: Sequence[int] = (2, 3, 4, 5, 6, 7, 8),
        first: int | None = 8,
        last: int | None = 8,
        mixture: Mapping[str, float] | None = None,
        batch_size: int = 250,
        cost: str = "bops",
        weight: float = 0.2,
        budget: float = 1.0,
        render_mode: str | None = None,
    ) -> None:
        """Load the network and calibrate its quantisers; about a second.

        Args:
            checkpoint: name of a shipped checkpoint.
            data: folder of the full Fashion-MNIST files; the embedded subset when left out.
            bits: candidate bits of the layers that are decided.
            first: bits of the first layer; ``None`` makes it one of the others.
            last: bits of the last layer; ``None`` makes it one of the others.
            mixture: condition to weight; the default mixture when left out.
            batch_size: images of an episode.
            cost: ``bops`` or ``size``: what is rewarded and budgeted.
            weight: of compression in the reward, 0 to 1.
            budget: bound on the cost, as a fraction of that at 8 bits.
            render_mode: ``None``, ``"rgb_array"`` or ``"ansi"``.
        """
        network, _ = load_checkpoint(checkpoint)
        problem = NetworkProblem(
            network,
            load_fashion_mnist(None if data is None else Path(data)),
            bits=bits,
            first=first,
            last=last,
            mixture=DEFAULT_MIXTURE if mixture is None else Mixture(mixture),
            batch_size=batch_size,
        )
        task = Task(WeightedReward(cost, weight), Budget(cost_by_name(cost), budget))
        super().__init__(problem, task, render_mode)
