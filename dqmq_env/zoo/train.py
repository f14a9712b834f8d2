"""Train a float network of the zoo on images of mixed quality.

Run it as ``python -m dqmq_env.zoo.train --architecture resnet20 --data FOLDER``. A run that was
killed goes on where its last epoch ended when the same command is given again.
"""

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor, nn

from dqmq_env.data import ImageData, load_fashion_mnist
from dqmq_env.data.folder import load_image_folder
from dqmq_env.errors import CheckpointError, SettingError
from dqmq_env.evaluation.accuracy import accuracy_under
from dqmq_env.evaluation.normalize import Normalize
from dqmq_env.progress import progress
from dqmq_env.quality.batches import MixedQualityBatches
from dqmq_env.quality.condition import CLEAN, DEFAULT_CONDITIONS
from dqmq_env.quality.conditioned import ConditionedImages
from dqmq_env.quality.mixture import DEFAULT_MIXTURE, Mixture
from dqmq_env.training.state import load_state, save_state
from dqmq_env.zoo.architectures import build
from dqmq_env.zoo.checkpoints import SHIPPED, Card, save_checkpoint


@dataclass(frozen=True)
class ZooTraining:
    """Settings of a float training.

    Attributes:
        architecture: ``resnet8``, ``resnet20`` or ``mobilenetv2``.
        width: channels of the first stage of a ResNet; those of its paper when left out.
        data: folder of the full Fashion-MNIST files; the embedded subset when left out.
        folder: in place of Fashion-MNIST, a folder of small colour images of one shape,
            ``train/<class>/`` and ``test/<class>/``.
        epochs: passes over the train split.
        batch: images in a batch.
        learning_rate: peak of the one-cycle schedule of SGD with Nesterov momentum 0.9.
        weight_decay: L2 penalty on all parameters.
        clean: share of training images left clean; the rest is the default mixture.
        seed: of weights, order, augmentation and noise.
        bfloat16: compute convolutions in bfloat16; faster on processors that have it.
        run: folder of the resumable state; by default ``runs/zoo/<name>``.
        output: folder that gets the checkpoint and its card.
    """

    architecture: str = "resnet20"
    width: int | None = None
    data: Path | None = None
    folder: Path | None = None
    epochs: int = 24
    batch: int = 128
    learning_rate: float = 0.1
    weight_decay: float = 5e-4
    clean: float = 0.3
    seed: int = 0
    bfloat16: bool = False
    run: Path | None = None
    output: Path = SHIPPED

    def __post_init__(self) -> None:
        if self.data is not None and self.folder is not None:
            raise SettingError("folder: got one beside data, allowed is one of the two")

    @property
    def name(self) -> str:
        """Name of the checkpoint."""
        width = "" if self.width is None else f"-width{self.width}"
        images = "fashion-mnist" if self.folder is None else self.folder.resolve().name
        return f"{self.architecture}{width}-{images}"


def train(settings: ZooTraining) -> Card:
    """Train, evaluate on the full test split, write the checkpoint and its card."""
    data = _images(settings)
    torch.manual_seed(settings.seed)
    shape = {"in_channels": len(data.mean), "classes": len(data.classes)}
    if settings.width is not None:
        shape["width"] = settings.width
    network = build(settings.architecture, **shape).to(memory_format=torch.channels_last)
    _fit(settings, data, network)
    images = ConditionedImages(data.test)
    model = nn.Sequential(Normalize(data.mean, data.std), network).eval()
    accuracy = {
        str(condition): accuracy_under(model, images, condition) for condition in DEFAULT_CONDITIONS
    }
    recipe = {
        key: str(value) if isinstance(value, Path) else value
        for key, value in asdict(settings).items()
        if key not in ("data", "folder", "run", "output")
    }
    recipe |= {
        "command": "python -m dqmq_env.zoo.train",
        "train_images": len(data.train),
        "test_images": len(data.test),
    }
    versions = {"python": platform.python_version(), "torch": version("torch")}
    card = Card(
        settings.name,
        {"name": settings.architecture, **shape},
        data.name,
        list(data.mean),
        list(data.std),
        recipe,
        accuracy,
        "",
        versions,
    )
    return save_checkpoint(settings.output, card, network)


def _images(settings: ZooTraining) -> ImageData:
    """The images that are trained on; the normalisation of a folder is that of its own."""
    if settings.folder is None:
        return load_fashion_mnist(settings.data)
    data = load_small_images(settings.folder)
    pixels = data.train.images.flatten(2).double() / 255
    mean, std = pixels.mean((0, 2)).tolist(), pixels.std((0, 2)).tolist()
    return replace(data, mean=tuple(mean), std=tuple(std))


def load_small_images(
    folder: Path, mean: Sequence[float] = (0.5, 0.5, 0.5), std: Sequence[float] = (0.25, 0.25, 0.25)
) -> ImageData:
    """All images of a folder of small colour images of one shape; 2,000 are for ``search``.

    Args:
        folder: with ``train/<class>/`` and ``test/<class>/``.
        mean: of the normalisation, per channel.
        std: of the same.

    Raises:
        DataError: see :func:`~dqmq_env.data.folder.load_image_folder`.
    """
    everything = 10**9
    return load_image_folder(
        folder,
        side=None,
        resize=None,
        train_images=everything,
        test_images=everything,
        mean=mean,
        std=std,
    )


def _fit(settings: ZooTraining, data: ImageData, network: nn.Module) -> None:
    batches = MixedQualityBatches(
        data.train, _mixture(settings.clean), settings.batch, settings.seed
    )
    steps = settings.epochs * batches.steps_per_epoch
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=settings.learning_rate,
        momentum=0.9,
        nesterov=True,
        weight_decay=settings.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=steps, pct_start=0.15, cycle_momentum=False
    )
    normalize = Normalize(data.mean, data.std)
    path = (settings.run or Path("runs/zoo") / settings.name) / "state.dqmq"
    identity = {k: str(v) for k, v in asdict(settings).items() if k not in ("run", "output")}
    first = 0
    if path.is_file():
        state = load_state(path)
        if state["settings"] != identity:
            raise CheckpointError(f"run: {path} belongs to other settings; choose another folder")
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        first = state["step"]
    with progress(steps, settings.name, "step", first) as bar:
        for step in range(first, steps):
            batch = batches.at(step)
            loss = _step(network, normalize(batch.images), batch.labels, settings.bfloat16)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            bar.update()
            if (step + 1) % batches.steps_per_epoch == 0:
                bar.set_postfix(loss=f"{loss:.3f}")
                state = {
                    "settings": identity,
                    "step": step + 1,
                    "network": network.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "schedule": {k: v for k, v in schedule.state_dict().items() if not callable(v)},
                }
                save_state(path, state)


def _step(network: nn.Module, images: Tensor, labels: Tensor, bfloat16: bool) -> float:
    network.train()
    images = images.contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        loss = F.cross_entropy(network(images), labels)
    loss.backward()
    return loss.item()


def _mixture(clean: float) -> Mixture:
    pairs = zip(DEFAULT_MIXTURE.conditions, DEFAULT_MIXTURE.probabilities, strict=True)
    corrupted = {condition: p for condition, p in pairs if condition != CLEAN}
    share = (1 - clean) / sum(corrupted.values())
    return Mixture({CLEAN: clean, **{condition: share * p for condition, p in corrupted.items()}})


def main() -> None:
    """Entry point of ``python -m dqmq_env.zoo.train``."""
    card = train(tyro.cli(ZooTraining, description=__doc__))
    for condition, accuracy in card.accuracy.items():
        print(f"{condition:20s} {100 * accuracy:6.2f} %")


if __name__ == "__main__":
    main()
