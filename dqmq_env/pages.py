"""Documentation pages of the environments, made from their class docstrings.

``python -m dqmq_env.pages docs/environments`` writes one Markdown page for each id.
"""

import inspect
import sys
from importlib import import_module
from pathlib import Path

from dqmq_env.files import atomic_write_text
from dqmq_env.registration import ENTRIES, Entry


def page(entry: Entry) -> str:
    """The Markdown page of an id: its class docstring and the arguments of its constructor."""
    module, _, name = entry.entry_point.partition(":")
    cls = getattr(import_module(module), name)
    description = inspect.getdoc(cls) or ""
    arguments = inspect.getdoc(cls.__init__) or ""
    _, _, listed = arguments.partition("Args:\n")
    rows = [line.strip() for line in listed.splitlines() if line.strip()]
    bullets = "\n".join(f"* `{row.partition(':')[0]}`:{row.partition(':')[2]}" for row in rows)
    defaults = ", ".join(f"`{key}={value!r}`" for key, value in entry.kwargs.items())
    return (
        f"# {entry.id}\n\n"
        f'~~~python\nimport gymnasium as gym\n\nenv = gym.make("dqmq_env:{entry.id}")\n~~~\n\n'
        f"{description}\n\n## Arguments\n\nRegistered with {defaults}.\n\n{bullets}\n"
    ).replace("``", "`")


def write_pages(folder: Path) -> None:
    """Write ``<id>.md`` for every id of the suite."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry in ENTRIES:
        atomic_write_text(folder / f"{entry.id}.md", page(entry))


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
