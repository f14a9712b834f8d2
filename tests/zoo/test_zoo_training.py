"""The training script of the zoo, on a tiny data set in the files of Fashion-MNIST."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import dqmq_env.zoo.train as script
from dqmq_env.errors import CheckpointError, SettingError
from dqmq_env.zoo.checkpoints import load_checkpoint
from tests.official_files import write_official


@pytest.fixture
def settings(tmp_path: Path) -> script.ZooTraining:
    rng = np.random.default_rng(0)
    train, test = (
        (
            rng.integers(0, 256, (count, 28, 28), np.uint8),
            (np.arange(count) % 10).astype(np.uint8),
        )
        for count in (330, 40)
    )
    folder = write_official(tmp_path / "data", train, test)
    return script.ZooTraining(
        architecture="resnet8",
        data=folder,
        epochs=2,
        batch=64,
        run=tmp_path / "run",
        output=tmp_path / "whole",
    )


class InterruptedTrainingError(Exception):
    pass


def test_an_interrupted_training_ends_with_the_same_weights(
    settings: script.ZooTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = script.train(replace(settings, run=tmp_path / "other"))
    original, calls = script._step, 0

    def stop_in_the_second_epoch(*arguments: object) -> float:
        nonlocal calls
        calls += 1
        if calls == 7:
            raise InterruptedTrainingError
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(script, "_step", stop_in_the_second_epoch)
    output = tmp_path / "resumed"
    with pytest.raises(InterruptedTrainingError):
        script.train(replace(settings, output=output))
    assert not output.exists()
    card = script.train(replace(settings, output=output))
    assert card.sha256 == expected.sha256
    assert card.accuracy == expected.accuracy
    network, loaded = load_checkpoint("resnet8-fashion-mnist", output)
    assert loaded == card
    assert not network.training


def test_other_settings_in_the_same_run_are_refused(settings: script.ZooTraining) -> None:
    script.train(settings)
    with pytest.raises(CheckpointError, match="other settings"):
        script.train(replace(settings, seed=1))


def test_an_unknown_architecture_names_those_there_are(settings: script.ZooTraining) -> None:
    with pytest.raises(SettingError, match="mobilenetv2"):
        script.train(replace(settings, architecture="vgg"))


def test_a_folder_of_small_images_is_trained_on_with_its_own_normalisation(
    settings: script.ZooTraining, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for part, count in (("train", 60), ("test", 8)):
        for name in ("cat", "dog"):
            folder = tmp_path / "pets" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 128, (16, 16, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    output = tmp_path / "checkpoints"
    own = replace(settings, data=None, folder=tmp_path / "pets", batch=32, epochs=1, output=output)
    card = script.train(own)
    assert card.name == "resnet8-pets"
    assert card.architecture["in_channels"] == 3
    assert card.architecture["classes"] == 2
    assert card.mean == pytest.approx([0.25] * 3, abs=0.01)  # half of the range
    data = script.load_small_images(tmp_path / "pets", card.mean, card.std)
    assert data.mean == tuple(card.mean)
    assert (len(data.train), len(data.search), len(data.test)) == (96, 24, 16)
    network, _ = load_checkpoint("resnet8-pets", output)
    assert network(torch.zeros(2, 3, 16, 16)).shape == (2, 2)


def test_a_folder_beside_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="folder: got one beside data"):
        script.ZooTraining(data=tmp_path, folder=tmp_path)
