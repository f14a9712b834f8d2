"""``DQMQ-Own-v0``: a network and a folder of images that the user brings, said in plain values."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dqmq_env.data.folder import load_image_folder
from dqmq_env.envs.network_setting import NetworkSetting
from dqmq_env.envs.settings import SettingEnv, SettingVectorEnv
from dqmq_env.errors import SettingError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.zoo.own import load_own


@dataclass(frozen=True)
class OwnSetting(NetworkSetting):
    """Plain values that say what an environment over a user's network and images is about.

    Args:
        network: ``module:function`` of a function without arguments that gives an ``nn.Module``,
            such as ``mynet:make``; modules in the working folder are found. Must be given.
        data: folder of images, ``train/<class>/`` and ``val/<class>/`` (or ``test/<class>/``), or
            ``<class>/`` alone, of which a fifth is for ``search`` and a fifth for ``test``; must be
            given.
        weights: path of a file with the network's state dict: ``.safetensors``, or what
            ``torch.save`` wrote; left out where the function loads them.
        classes: names of the class folders in the order of the network's outputs; by default those
            of ``data``, sorted.
        side: images are cut to squares of this side, from the centre; they stay as they are when
            left out, and must then be of one shape.
        resize: side to which the shorter edge is brought first; it stays when left out.
        mean: of the normalisation that the network was trained with, per channel, on the [0, 1]
            scale; a single value reads images in grey.
        std: of the same.
        train_images: images that quantisers are calibrated on and weights may be tuned on.
        search_images: images that rewards are measured on; a batch is at most all of them.
        test_images: images of a final report; 0 loads none.
        calibration_images: ``train`` images that quantisers are calibrated on; fewer where there
            are fewer.
    """

    network: str | None = None
    data: str | None = None
    weights: str | None = None
    classes: Sequence[str] | None = None
    side: int | None = None
    resize: int | None = None
    mean: Sequence[float] = (0.485, 0.456, 0.406)
    std: Sequence[float] = (0.229, 0.224, 0.225)
    train_images: int = 500
    search_images: int = 500
    test_images: int = 0
    calibration_images: int = 500

    def problem(self) -> NetworkProblem:
        """Load the network and the images, and calibrate the quantisers.

        Raises:
            SettingError: ``network`` or ``data`` is missing.
            NetworkError: the network cannot be made, or does not fit the images.
            CheckpointError: the weights cannot be read, or do not fit.
            DataError: the folder does not fit.
        """
        if self.network is None:
            raise SettingError(
                "network: got None, allowed is module:function of a function that gives an "
                'nn.Module, for example network="mynet:make"'
            )
        if self.data is None:
            raise SettingError(
                "data: got None, allowed is the path of a folder with train/<class>/ and "
                'val/<class>/, or with <class>/ alone, for example data="photos"'
            )
        network = load_own(self.network, self.weights)
        data = load_image_folder(
            self.data,
            side=self.side,
            resize=self.resize,
            train_images=self.train_images,
            search_images=self.search_images,
            test_images=self.test_images,
            classes=self.classes,
            mean=self.mean,
            std=self.std,
        )
        fitting = replace(self, batch_size=min(self.batch_size, len(data.search)))
        count = min(self.calibration_images, len(data.train))
        return fitting._over(network, data, calibration_images=count)


class OwnNetworkEnv(SettingEnv):
    """Decide the bits of each layer of a network of your own, for the images of your own folder.

    ## Description

    The network is what a function of yours gives, with the weights of a file of yours; the images
    are those of a folder. Everything is said in plain values, so that ``dqmq search``, ``dqmq
    train``, ``dqmq bench`` and ``dqmq export`` take the same network;
    [the engineer's path](../engineer.md) shows how. Over objects rather than plain values there is
    [DQMQ-v0](DQMQ-v0.md). How an episode goes, and what ``decisions``, ``activation_bits``,
    ``weight_bits`` and ``granularity`` change, is as in [DQMQ-ResNet-v0](DQMQ-ResNet-v0.md). ``train`` and ``search``
    are images that the network may have been trained on: then it is more accurate on ``search``
    than on ``test``.

    No code of the weights' file is run; the function's own code is.

    ## Action space

    With ``D`` layers but the first and the last:

    | id ends in | space | meaning |
    |---|---|---|
    | ``-v0`` | ``Discrete(7)`` | index into the candidate bits 2, 3, 4, 5, 6, 7, 8 |
    | ``-Continuous-v0`` | ``Box(-1, 1, (1,), float32)`` | HAQ's mapping to 2 to 8 bits |
    | ``-OneShot-v0`` | ``MultiDiscrete([7] * D)`` | an index for each decision; the episode is one step |

    ## Observation space

    ``Box(0, 1, (31,), float32)``, with the features of [DQMQ-ResNet-v0](DQMQ-ResNet-v0.md) at the
    same places.

    ## Reward

    0 until the last step, then ``(1 - weight) * accuracy + weight * (1 - cost)``, where ``cost`` is
    what the argument ``cost`` names (BOPs by default) as a fraction of that at 8 bits. It lies in [0, 1].

    ## Start and end

    ``reset`` draws a condition from the mixture and a batch; ``options={"condition":
    "gaussian_noise/3", "batch": 1}`` fixes them. The episode terminates after the last decision
    (``D`` steps, twice as many with separate decisions, 1 in the one-shot form) and is never
    truncated.

    ## Version history

    * v0: first version.
    """

    setting_type = OwnSetting


class OwnNetworkVectorEnv(SettingVectorEnv):
    """Many episodes of ``OwnNetworkEnv`` at once; those that agree share computation."""

    setting_type = OwnSetting
