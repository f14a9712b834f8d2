"""The machine that numbers were measured on."""

import platform
from pathlib import Path


def processor_name() -> str:
    """The processor's model, with family and stepping: names alone stand for several kinds."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return platform.processor() or platform.machine()
    first = path.read_text(encoding="utf-8").partition("\n\n")[0]
    fields = dict(
        line.replace("\t", "").split(":", 1) for line in first.splitlines() if ":" in line
    )
    name = fields.get("model name", platform.machine()).strip()
    kind = [fields[key].strip() for key in ("cpu family", "model", "stepping") if key in fields]
    return f"{name} ({'/'.join(kind)})" if kind else name
