import re
from pathlib import Path

import pytest

from dqmq_env.pages import page
from dqmq_env.registration import ALL_ENTRIES, Entry

FOLDER = Path(__file__).parent.parent / "docs" / "environments"
by_id = {entry.id: entry for entry in ALL_ENTRIES}


@pytest.mark.parametrize("entry", ALL_ENTRIES, ids=lambda entry: entry.id)
def test_the_page_of_each_id_is_up_to_date(entry: Entry) -> None:
    """If it is not: python -m dqmq_env.pages docs/environments."""
    text = (FOLDER / f"{entry.id}.md").read_text(encoding="utf-8")
    assert text == page(entry)
    for section in ("Action space", "Observation space", "Reward", "Start and end", "Arguments"):
        assert f"## {section}\n" in text


def test_no_page_is_left_over() -> None:
    assert {path.stem for path in FOLDER.glob("*.md")} == {e.id for e in ALL_ENTRIES}


def test_a_page_lists_the_arguments_of_its_own_setting() -> None:
    shipped, folder = (page(by_id[name]) for name in ("DQMQ-ResNet-v0", "DQMQ-ResNet18-v0"))
    for text in (shipped, folder):
        assert "* `granularity='batch'`: " in text
        assert "* `setting" not in text
        assert text.count("\n* `actions`: ") == 1
    assert "* `checkpoint=" in shipped
    assert "* `checkpoint=" not in folder
    assert "* `weights='IMAGENET1K_V1'`: " in folder
    assert "* `batch_size=50`: " in folder


def test_the_example_gives_what_must_be_given() -> None:
    assert 'gym.make("dqmq_env:DQMQ-ResNet18-v0", data="imagenet")' in page(
        by_id["DQMQ-ResNet18-v0"]
    )
    assert 'gym.make("dqmq_env:DQMQ-v0", problem=problem)' in page(by_id["DQMQ-v0"])
    assert 'gym.make("dqmq_env:DQMQ-ResNet-v0")' in page(by_id["DQMQ-ResNet-v0"])


@pytest.mark.parametrize("entry", ALL_ENTRIES, ids=lambda entry: entry.id)
def test_links_between_pages_lead_somewhere(entry: Entry) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page(entry)):
        assert (FOLDER / target).is_file()
