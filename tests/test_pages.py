from pathlib import Path

import pytest

from dqmq_env.pages import page
from dqmq_env.registration import ENTRIES, OWN_PROBLEM

FOLDER = Path(__file__).parent.parent / "docs" / "environments"


@pytest.mark.parametrize("entry", [*ENTRIES, OWN_PROBLEM], ids=lambda entry: entry.id)
def test_the_page_of_each_id_is_up_to_date(entry: object) -> None:
    """If it is not: python -m dqmq_env.pages docs/environments."""
    text = (FOLDER / f"{entry.id}.md").read_text(encoding="utf-8")  # type: ignore[attr-defined]
    assert text == page(entry)  # type: ignore[arg-type]
    for section in ("Action space", "Observation space", "Reward", "Start and end", "Arguments"):
        assert f"## {section}\n" in text


def test_no_page_is_left_over() -> None:
    assert {path.stem for path in FOLDER.glob("*.md")} == {e.id for e in (*ENTRIES, OWN_PROBLEM)}
