"""Quantised networks as files: packed ones of our own, ONNX, and the integers behind them.

The names below are loaded, and torch with them, when they are first used.
"""

from typing import TYPE_CHECKING

from dqmq_env.lazy import lazy_names

if TYPE_CHECKING:
    from dqmq_env.export.contents import About, Packed, Policy
    from dqmq_env.export.integer_reference import integer_output
    from dqmq_env.export.onnx_dynamic import OnnxDynamic
    from dqmq_env.export.onnx_exporter import OnnxExporter
    from dqmq_env.export.onnx_runner import OnnxFolder, OnnxNetwork, OnnxRunner
    from dqmq_env.export.packed import load, pack, read, save, snapped, snapped_rule, write
    from dqmq_env.export.restoring import restore
    from dqmq_env.export.sizes import size_table

__all__ = [
    "About",
    "OnnxDynamic",
    "OnnxExporter",
    "OnnxFolder",
    "OnnxNetwork",
    "OnnxRunner",
    "Packed",
    "Policy",
    "integer_output",
    "load",
    "pack",
    "read",
    "restore",
    "save",
    "size_table",
    "snapped",
    "snapped_rule",
    "write",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "About": "dqmq_env.export.contents",
        "OnnxDynamic": "dqmq_env.export.onnx_dynamic",
        "OnnxExporter": "dqmq_env.export.onnx_exporter",
        "OnnxFolder": "dqmq_env.export.onnx_runner",
        "OnnxNetwork": "dqmq_env.export.onnx_runner",
        "OnnxRunner": "dqmq_env.export.onnx_runner",
        "Packed": "dqmq_env.export.contents",
        "Policy": "dqmq_env.export.contents",
        "integer_output": "dqmq_env.export.integer_reference",
        "load": "dqmq_env.export.packed",
        "pack": "dqmq_env.export.packed",
        "read": "dqmq_env.export.packed",
        "restore": "dqmq_env.export.restoring",
        "save": "dqmq_env.export.packed",
        "size_table": "dqmq_env.export.sizes",
        "snapped": "dqmq_env.export.packed",
        "snapped_rule": "dqmq_env.export.packed",
        "write": "dqmq_env.export.packed",
    },
)
