"""``DQMQ-ResNet18-v0`` and ``DQMQ-ResNet50-v0``: torchvision's ResNets over a folder of images."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models import get_model, get_model_weights

from dqmq_env.data.folder import folder_classes, load_image_folder
from dqmq_env.envs.network_setting import NetworkSetting
from dqmq_env.envs.settings import SettingEnv, SettingVectorEnv
from dqmq_env.errors import CheckpointError, DataError, SettingError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.zoo.own import fill, read_state, state_of

ARCHITECTURES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")


@dataclass(frozen=True)
class TorchvisionSetting(NetworkSetting):
    """Plain values that say what an environment over a torchvision network is about.

    Args:
        data: folder of ``train/<class>/`` and ``val/<class>/`` (or ``test/<class>/``) with images,
            such as torchvision's ``ImageNet`` unpacks; must be given.
        weights: name of torchvision's weights, which are downloaded once, or path of a file with a
            state dict: ``.safetensors``, or what ``torch.save`` wrote. The network has as many
            classes as its ``fc.weight`` has rows.
        architecture: ``resnet18``, ``resnet34``, ``resnet50``, ``resnet101`` or ``resnet152``.
        classes: names of the class folders in the order of the network's outputs, where ``data``
            has only some of them; by default those of ``data``, sorted.
        side: images are cut to squares of this side, from the centre.
        resize: side to which the shorter edge is brought first.
        train_images: images that quantisers are calibrated on and weights may be tuned on.
        search_images: images that rewards are measured on, also from the folder ``train``. They
            stay in memory under each condition that has occurred, ``3 * side**2`` bytes each.
        test_images: images of a final report, from the folder ``val``; 0 loads none.
    """

    data: str | None = None
    weights: str = "IMAGENET1K_V1"
    architecture: str = "resnet18"
    classes: Sequence[str] | None = None
    side: int = 224
    resize: int = 256
    train_images: int = 1_000
    search_images: int = 500
    test_images: int = 2_000
    batch_size: int = 50

    def problem(self) -> NetworkProblem:
        """Load the network and the images, and calibrate the quantisers.

        Raises:
            SettingError: ``data`` is missing, or there is no such architecture.
            CheckpointError: the weights cannot be had, or do not fit.
            DataError: the folder or its number of classes does not fit.
        """
        if self.data is None:
            raise SettingError(
                "data: got None, allowed is the path of a folder with train/<class>/ and "
                'val/<class>/, for example gym.make(..., data="imagenet")'
            )
        present = folder_classes(self.data)
        network = load_resnet(self.architecture, self.weights)
        outputs = network.get_submodule("fc").out_features
        if len(self.classes or present) != outputs:
            given = f"data: {self.data} has {len(present)}"
            if self.classes is not None:
                given = f"classes: got {len(self.classes)}"
            raise DataError(
                f"{given} classes, allowed are {outputs}, as many as the network has outputs; for "
                "images of some of its classes give classes=[...], the folder names of all outputs "
                "in order (of ImageNet: its 1000 WordNet ids, sorted)"
            )
        data = load_image_folder(
            self.data,
            side=self.side,
            resize=self.resize,
            train_images=self.train_images,
            search_images=self.search_images,
            test_images=self.test_images,
            classes=self.classes,
        )
        return self._over(network, data)


def load_resnet(architecture: str, weights: str) -> nn.Module:
    """A torchvision ResNet with trained weights, in eval mode.

    Args:
        architecture: one of ``ARCHITECTURES``.
        weights: see :class:`TorchvisionSetting`; of a file, see
            :func:`~dqmq_env.zoo.own.read_state`.

    Raises:
        SettingError: there is no such architecture.
        CheckpointError: there are no such weights, or they are damaged, of another network, not
            tensors alone, or cannot be downloaded.
    """
    if architecture not in ARCHITECTURES:
        raise SettingError(f"architecture: got {architecture!r}, allowed are {ARCHITECTURES}")
    names = get_model_weights(architecture).__members__
    text = isinstance(weights, str | PathLike)
    if text and weights in names:
        state = state_of(_download(names[weights]), weights)
    elif text and Path(weights).is_file():
        state = read_state(Path(weights))
    else:
        raise CheckpointError(
            f"weights: got {weights!r}, which is no file; allowed are {list(names)} or the path of "
            "a file"
        )
    last = state.get("fc.weight", torch.empty(0))
    if last.ndim != 2:
        raise CheckpointError(f"weights: {weights} has no matrix 'fc.weight', as a ResNet has")
    network: nn.Module = get_model(architecture, weights=None, num_classes=len(last))
    fill(network, state, weights, architecture)
    return network.eval()


def _download(weights: Any) -> Any:
    try:
        return weights.get_state_dict(check_hash=True, map_location="cpu", weights_only=True)
    except Exception as error:  # of the network, of the disk, or as in read_state
        raise CheckpointError(
            f"weights: {weights.name} cannot be had from {weights.url}: {error}; fetch the file by "
            "other means and give its path"
        ) from error


class TorchvisionResNetEnv(SettingEnv):
    """Decide the bits of each layer of torchvision's ResNet-18 or ResNet-50 over a folder of images.

    ## Description

    The network is torchvision's ResNet with 18 or 50 layers, with the weights trained on ImageNet or
    with those of a file, such as a network fine-tuned on a small folder. The images are yours:
    ``data`` is a folder with ``train/<class>/`` and ``val/<class>/``. How an episode goes, and what
    ``decisions``, ``activation_bits``, ``weight_bits`` and ``granularity`` change, is as in
    [DQMQ-ResNet-v0](DQMQ-ResNet-v0.md); its shortcuts with a convolution count as layers, so there
    are 21 and 54. ``train`` and ``search`` are both drawn from the folder ``train``: weights that
    were trained on that folder are more accurate on ``search`` than on ``test``.

    Images are read when the environment is made and kept as 8-bit squares of ``side`` pixels. On a
    CPU begin with few of them, and without the search for the best rounding, which takes minutes:
    ``side=64, resize=72, search_images=100, test_images=0, post_training="steps"``.

    ## Action space

    | id ends in | space | meaning |
    |---|---|---|
    | ``-v0`` | ``Discrete(7)`` | index into the candidate bits 2, 3, 4, 5, 6, 7, 8 |
    | ``-Continuous-v0`` | ``Box(-1, 1, (1,), float32)`` | HAQ's mapping to 2 to 8 bits |
    | ``-OneShot-v0`` | ``MultiDiscrete([7, ...])`` | an index for each decision, 19 of ResNet-18 and 52 of ResNet-50; the episode is one step |

    ## Observation space

    ``Box(0, 1, (31,), float32)``, with the features of [DQMQ-ResNet-v0](DQMQ-ResNet-v0.md) at the
    same places.

    ## Reward

    0 until the last step, then ``(1 - weight) * accuracy + weight * (1 - cost)``, where ``cost`` is
    what the argument ``cost`` names (BOPs by default) as a fraction of that at 8 bits. It lies in [0, 1].

    ## Start and end

    ``reset`` draws a condition from the mixture and a batch; ``options={"condition":
    "gaussian_noise/3", "batch": 2}`` fixes them. The episode terminates after the last decision (19
    steps with 18 layers, 52 with 50, twice as many with separate decisions, 1 in the one-shot form)
    and is never truncated.

    ## Version history

    * v0: first version.
    """

    setting_type = TorchvisionSetting


class TorchvisionResNetVectorEnv(SettingVectorEnv):
    """Many episodes of ``TorchvisionResNetEnv`` at once; those that agree share computation."""

    setting_type = TorchvisionSetting
