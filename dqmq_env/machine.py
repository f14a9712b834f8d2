"""The machine that numbers were measured on."""

import platform
from pathlib import Path


def processor_name() -> str:
    """The name of the processor's model."""
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
