"""``DQMQ-ResNet-v0``: the bits of a ResNet for images of the quality at hand."""

from dqmq_env.envs.settings import SettingEnv, SettingVectorEnv
from dqmq_env.envs.zoo import ZooSetting


class ResNetEnv(SettingEnv):
    """Decide how many bits each layer of a trained ResNet gets, for images of the quality at hand.

    ## Description

    The network is a ResNet of He et al. 2016 for small images (20 layers in ``DQMQ-ResNet-v0``, 8 in
    ``DQMQ-ResNet8-v0``), trained in float on Fashion-MNIST with images of mixed quality. An episode
    begins with a batch of ``search`` images under one condition (a corruption and its severity, or
    ``clean``). Each step gives one layer its bits, for weights and activations jointly, in forward
    order: the agent sees the quality of the images and what the layers before made of them at the
    bits already chosen. The first and the last layer have 8 bits and are not decided. After the last
    decision the network's accuracy on the batch is measured. Weights are quantised after training,
    without fine-tuning.

    Four arguments change what is decided about. ``decisions="separate"`` takes two steps a layer,
    its weights and then the activation that it receives, as HAQ does. ``activation_bits=8`` fixes
    the activations instead, so that only weights are decided; ``weight_bits=2`` fixes the weights,
    so that only activations are. ``granularity="image"`` makes an episode about a single image:
    quality and activations are its own, the accuracy is 0 or 1.

    ## Action space

    | id ends in | space | meaning |
    |---|---|---|
    | ``-v0`` | ``Discrete(7)`` | index into the candidate bits 2, 3, 4, 5, 6, 7, 8 |
    | ``-Continuous-v0`` | ``Box(-1, 1, (1,), float32)`` | HAQ's mapping: with ``a`` the action moved to [0, 1], ``round(7 a + 1.5)`` bits, halves to even, cut to 2 to 8 |
    | ``-OneShot-v0`` | ``MultiDiscrete([7, ...])`` | an index for each decision; the episode is one step |

    ## Observation space

    ``Box(0, 1, (31,), float32)``. All features lie in [0, 1].

    | place | name | meaning |
    |---|---|---|
    | 0-5 | ``quality.*`` | mean over the batch of the no-reference descriptor: noise, sharpness, contrast, luminance, entropy, blockiness |
    | 6-9 | ``activation.*`` | what the layer is about to receive: mean magnitude, root mean square, share of non-zeros, half the peak; all but the third as fractions of the largest magnitude in calibration |
    | 10-16 | ``layer.*`` | whether it is depthwise; in channels, out channels, stride, kernel side, weights, input height x width as fractions of the largest among the layers |
    | 17-18 | ``layer.size_share``, ``layer.bops_share`` | its share of the network's size and BOPs at uniform bits |
    | 19-25 | ``error.*`` | root of the relative squared error, at each candidate, of what is decided: the weights, or the activation alone |
    | 26 | ``progress.index`` | decisions taken, as a fraction |
    | 27 | ``progress.spent`` | cost of the layers so far, as a fraction of the network's cost at 8 bits |
    | 28 | ``progress.slack`` | 0 where the budget leaves only the lowest bits, 1 where it leaves all |
    | 29 | ``progress.previous`` | bits of the previous decision over 8 |
    | 30 | ``progress.activation`` | 1 where the decision is about the activation alone (``decisions="separate"``), else 0 |

    ## Reward

    0 until the last step, then ``(1 - weight) * accuracy + weight * (1 - cost)``, where ``cost`` is
    what the argument ``cost`` names (BOPs by default) as a fraction of that at 8 bits. It lies in [0, 1].

    ## Start and end

    ``reset`` draws a condition from the mixture and a batch; ``options={"condition":
    "gaussian_noise/3", "batch": 2}`` fixes them. The episode terminates after the last decision (18
    steps, 6 with 8 layers, twice as many with separate decisions, 1 in the one-shot form) and is
    never truncated. ``info`` at the end holds the executed assignment, accuracy, loss, costs and how
    many actions the budget lowered.

    ## Budget

    With ``budget`` below 1 no finished episode costs more than that fraction of the cost at 8 bits:
    ``action_masks()`` tells which actions leave it reachable, and an action that does not is lowered
    to the nearest that does.

    ## Version history

    * v0: first version.
    """

    setting_type = ZooSetting


class ResNetVectorEnv(SettingVectorEnv):
    """Many episodes of ``ResNetEnv`` at once; those that agree so far share their computation."""

    setting_type = ZooSetting
