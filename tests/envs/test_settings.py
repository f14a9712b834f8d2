"""What holds for every environment that is made from plain values."""

from dataclasses import FrozenInstanceError, fields
from importlib import import_module
from typing import Any

import pytest

from dqmq_env.costs import Size
from dqmq_env.envs.imagenet import TorchvisionSetting
from dqmq_env.envs.mobilenet import MobileNetV2Setting
from dqmq_env.envs.network_setting import NetworkSetting
from dqmq_env.envs.own import OwnSetting
from dqmq_env.envs.settings import Setting
from dqmq_env.envs.tabular import TabularSetting
from dqmq_env.envs.zoo import ZooSetting
from dqmq_env.errors import DQMQError, SettingError
from dqmq_env.pages import page
from dqmq_env.problem.table import table_names
from dqmq_env.registration import (
    ALL_ENTRIES,
    ENTRIES,
    LIVE_ENTRIES,
    OWN_NETWORK_ENTRIES,
    OWN_PROBLEM,
    TABULAR_ENTRIES,
    TORCHVISION_ENTRIES,
    Entry,
)
from dqmq_env.task.decisions import SeparateDecisions
from dqmq_env.task.reward import WeightedReward
from dqmq_env.zoo.checkpoints import checkpoint_names

LIVE = [ZooSetting, MobileNetV2Setting, TorchvisionSetting, OwnSetting]
MADE = [entry for entry in ALL_ENTRIES if entry is not OWN_PROBLEM]


def load(entry_point: str) -> Any:
    module, _, name = entry_point.partition(":")
    return getattr(import_module(module), name)


def test_ids_are_told_apart_by_what_they_need() -> None:
    assert len({entry.id for entry in ALL_ENTRIES}) == len(ALL_ENTRIES) == 22
    assert all(not entry.needs for entry in ENTRIES)
    assert all(set(entry.needs) == {"data"} for entry in TORCHVISION_ENTRIES)
    assert all({"network", "data"} < set(entry.needs) for entry in OWN_NETWORK_ENTRIES)
    assert set(OWN_PROBLEM.needs) == {"problem"}


@pytest.mark.parametrize("entry", MADE, ids=lambda entry: entry.id)
def test_both_forms_of_an_id_have_one_setting_that_knows_its_arguments(entry: Entry) -> None:
    single, vector = load(entry.entry_point), load(entry.vector_entry_point)
    assert single.setting_type is vector.setting_type
    made = single.setting_type.of({k: v for k, v in entry.kwargs.items() if k != "actions"})
    documented = page(entry).partition("## Arguments")[2]
    for field in fields(made):
        default = "" if field.name in entry.needs else f"={getattr(made, field.name)!r}"
        assert f"* `{field.name}{default}`: " in documented


def test_a_class_is_about_the_network_of_its_name() -> None:
    by_default = {entry.entry_point: entry for entry in reversed(LIVE_ENTRIES)}
    for entry_point, entry in by_default.items():
        assert load(entry_point).setting_type().checkpoint == entry.kwargs["checkpoint"]
    assert {entry.kwargs["checkpoint"] for entry in LIVE_ENTRIES} <= set(checkpoint_names())


def test_shipped_tables_are_those_of_the_ids() -> None:
    assert {entry.kwargs["table"] for entry in TABULAR_ENTRIES} == set(table_names())


@pytest.mark.parametrize("kind", LIVE)
def test_a_setting_is_plain_values(kind: type[NetworkSetting]) -> None:
    setting = kind.of({"bits": [2, 4], "weight": 0.5, "cost": "size", "decisions": "separate"})
    assert setting == kind(bits=[2, 4], weight=0.5, cost="size", decisions="separate")
    with pytest.raises(FrozenInstanceError):
        setting.bits = (2,)  # type: ignore[misc]
    task = setting.task()
    assert task.reward == WeightedReward("size", 0.5)
    assert isinstance(task.budget.cost, Size)
    assert isinstance(task.decisions, SeparateDecisions)


@pytest.mark.parametrize("kind", [*LIVE, TabularSetting])
def test_unknown_arguments_are_named(kind: type[Setting]) -> None:
    with pytest.raises(SettingError, match=r"^bit: unknown argument, allowed are .*'budget'"):
        kind.of({"bit": 3})


@pytest.mark.parametrize(
    ("changes", "name"),
    [({"cost": "joules"}, "cost"), ({"weight": 2}, "weight"), ({"decisions": "x"}, "decisions")],
)
def test_a_wrong_task_is_refused(changes: dict[str, Any], name: str) -> None:
    with pytest.raises(DQMQError, match=f"^{name}: got"):
        ZooSetting.of(changes).task()


def test_a_setting_without_a_problem_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Setting()  # type: ignore[abstract]


def test_fewer_search_images_are_the_first_of_all() -> None:
    setting = {"checkpoint": "resnet8-fashion-mnist", "post_training": "steps"}
    few = ZooSetting.of({**setting, "search_images": 100, "batch_size": 50}).problem()
    every = ZooSetting.of({**setting, "batch_size": 50}).problem()
    assert (few.batches, every.batches) == (2, 40)
    assert (few.data.search.images == every.data.search.images[:100]).all()
    with pytest.raises(DQMQError, match="search_images: got 9999"):
        ZooSetting.of({**setting, "search_images": 9999}).problem()
