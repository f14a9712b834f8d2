"""Documentation pages of the environments, made from their class docstrings.

``python -m dqmq_env.pages docs/environments`` writes one Markdown page for each id.
"""

import inspect
import sys
from dataclasses import fields
from importlib import import_module
from pathlib import Path

from dqmq_env.envs.settings import Setting, SettingEnv
from dqmq_env.files import atomic_write_text
from dqmq_env.registration import ALL_ENTRIES, Entry

_LINE = 100


def page(entry: Entry) -> str:
    """The Markdown page of an id: its class docstring and the arguments of its constructor."""
    module, _, name = entry.entry_point.partition(":")
    cls = getattr(import_module(module), name)
    description = inspect.getdoc(cls) or ""
    arguments = _arguments(cls.__init__)
    if issubclass(cls, SettingEnv):
        del arguments["setting"]
        arguments |= _setting_arguments(cls.setting_type, entry)
    bullets = "\n".join(f"* `{name}`: {meaning}" for name, meaning in arguments.items())
    defaults = ", ".join(f"`{key}={value!r}`" for key, value in entry.kwargs.items())
    made = f"Registered with {defaults}.\n\n" if defaults else ""
    given = [f'"dqmq_env:{entry.id}"', *(f"{key}={code}" for key, code in entry.needs.items())]
    call = f"env = gym.make({', '.join(given)})"
    if len(call) > _LINE:
        call = f"env = gym.make(\n    {', '.join(given)}\n)"
    example = f"import gymnasium as gym\n\n{call}"
    return (
        f"# {entry.id}\n\n~~~python\n{example}\n~~~\n\n"
        f"{description}\n\n## Arguments\n\n{made}{bullets}\n"
    ).replace("``", "`")


def _setting_arguments(setting_type: type[Setting], entry: Entry) -> dict[str, str]:
    """Name and default of each field, and its meaning: those of the class itself come first."""
    defaults = {field.name: field.default for field in fields(setting_type)} | dict(entry.kwargs)
    parts = [_arguments(cls) for cls in setting_type.__mro__ if issubclass(cls, Setting)]
    return {
        name if name in entry.needs else f"{name}={defaults[name]!r}": meaning
        for part in parts
        for name, meaning in part.items()
    }


def _arguments(documented: object) -> dict[str, str]:
    """Name and meaning of each argument in the ``Args`` section of a docstring."""
    text = (inspect.getdoc(documented) or "").partition("Args:\n")[2]
    found: dict[str, str] = {}
    for line in text.splitlines():
        if not line.startswith("    "):
            break
        if line.startswith("     "):
            found[list(found)[-1]] += " " + line.strip()
        else:
            name, _, meaning = line.strip().partition(":")
            found[name] = meaning.strip()
    return found


def write_pages(folder: Path) -> None:
    """Write ``<id>.md`` for every id of the suite."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry in ALL_ENTRIES:
        atomic_write_text(folder / f"{entry.id}.md", page(entry))


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
