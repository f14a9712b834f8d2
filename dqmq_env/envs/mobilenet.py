"""``DQMQ-MobileNetV2-v0``: the bits of a network with depthwise layers."""

from dataclasses import dataclass

from dqmq_env.envs.settings import SettingEnv, SettingVectorEnv
from dqmq_env.envs.zoo import ZooSetting


@dataclass(frozen=True)
class MobileNetV2Setting(ZooSetting):
    """The values of :class:`~dqmq_env.envs.zoo.ZooSetting`, by default over MobileNetV2."""

    checkpoint: str = "mobilenetv2-fashion-mnist"


class MobileNetV2Env(SettingEnv):
    """Decide how many bits each layer of a MobileNetV2 gets, depthwise layers among them.

    ## Description

    The network is a small MobileNetV2 (Sandler et al. 2018) for images of 28 pixels, trained in
    float on Fashion-MNIST with images of mixed quality: 26 layers, of which the agent decides 24;
    the first and the last have 8 bits. Eight of them are depthwise convolutions, one filter of 3 x 3
    for each channel, with 8% of the weights and 10% of the MACs. Such layers are what breaks where
    a whole tensor shares one step (Sheng et al. 2018); here weights have a step for each channel.

    Bits still matter more than in a ResNet: at 2 bits in all decided layers the network classifies
    about two of three clean images correctly, where ResNet-20 manages nine of ten, and with
    ``post_training="steps"`` it falls to chance ([accuracy at each
    width](../../benchmarks/POST_TRAINING.md), with the command that measures it). How an episode goes, and what ``decisions``,
    ``activation_bits``, ``weight_bits`` and ``granularity`` change, is as in [DQMQ-ResNet-v0](DQMQ-ResNet-v0.md).

    ## Action space

    | id ends in | space | meaning |
    |---|---|---|
    | ``-v0`` | ``Discrete(7)`` | index into the candidate bits 2, 3, 4, 5, 6, 7, 8 |
    | ``-Continuous-v0`` | ``Box(-1, 1, (1,), float32)`` | HAQ's mapping to 2 to 8 bits |
    | ``-OneShot-v0`` | ``MultiDiscrete([7] * 24)`` | an index for each decision; the episode is one step |

    ## Observation space

    ``Box(0, 1, (31,), float32)``, with the features of [DQMQ-ResNet-v0](DQMQ-ResNet-v0.md) at the
    same places; place 10, ``layer.depthwise``, is 1 at a depthwise layer.

    ## Reward

    0 until the last step, then ``(1 - weight) * accuracy + weight * (1 - cost)``, where ``cost`` is
    what the argument ``cost`` names (BOPs by default) as a fraction of that at 8 bits. It lies in [0, 1].

    ## Start and end

    ``reset`` draws a condition from the mixture and a batch; ``options={"condition":
    "gaussian_noise/3", "batch": 2}`` fixes them. The episode terminates after the last decision (24
    steps, 48 with separate decisions, 1 in the one-shot form) and is never truncated.

    ## Version history

    * v0: first version.
    """

    setting_type = MobileNetV2Setting


class MobileNetV2VectorEnv(SettingVectorEnv):
    """Many episodes of ``MobileNetV2Env`` at once; those that agree so far share computation."""

    setting_type = MobileNetV2Setting
