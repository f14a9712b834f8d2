"""The page about exports says what is so."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from dqmq_env.export import pack, read, snapped, write
from dqmq_env.export.file_sizes import FileSizes, file_sizes
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quantization.assignment import LayerBits
from dqmq_env.quantization.scheme_names import SCHEMES
from dqmq_env.search.rule import Rule

PAGE = Path(__file__).parents[2] / "docs" / "export.md"


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = PAGE.read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    exec(compile(code, str(PAGE), "exec"), {})
    assert read("net.dqmq").about.name == "mine"


def test_the_table_is_of_the_form_on_the_page() -> None:
    table = file_sizes(FileSizes(("resnet8-fashion-mnist",), images=10)).splitlines()
    heading = "\n".join(table[:2])
    assert heading in PAGE.read_text(encoding="utf-8")
    kinds = [line.split(" | ")[1] for line in table[2:]]
    assert kinds == ["float32", "float32, gzip -9", "8", "4", "3", "2", "3 and 6"]
    sizes = [float(line.split(" | ")[2]) for line in table[2:]]
    assert sizes[0] > sizes[1] > sizes[2] > sizes[3] > sizes[4] > sizes[5]
    assert sizes[2] > sizes[6] > sizes[4]


@pytest.mark.parametrize("name", ["lsq", "dorefa"])
def test_a_reader_of_the_page_can_read_a_file(
    tiny_problem: NetworkProblem, tmp_path: Path, name: str
) -> None:
    """By what the page says alone, without a line of the package."""
    low, high = tiny_problem.uniform(2), tiny_problem.uniform(8)
    rule = Rule({"clean": low, "jpeg/5": high})
    network = snapped(tiny_problem.trainable(SCHEMES[name]), rule)
    write(tmp_path / "net.dqmq", pack(network, rule, tiny_problem.normalize))
    data = (tmp_path / "net.dqmq").read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    table = json.loads(data[8:end])
    envelope = json.loads(table.pop("__metadata__")["dqmq"])
    header = envelope["header"]
    digest = json.dumps({"header": header, "tensors": table}, sort_keys=True)
    assert envelope["sha256"] == {
        "header": hashlib.sha256(digest.encode()).hexdigest(),
        "payload": hashlib.sha256(data[end:]).hexdigest(),
    }

    def tensor(own: str, kind: type[np.generic]) -> list[np.generic]:
        first, last = table[own]["data_offsets"]
        return list(np.frombuffer(data[end + first : end + last], kind))

    codes, steps = tensor("codes", np.uint8), tensor("steps", np.float32)

    def take(row: list[np.generic], count: int) -> np.ndarray:
        taken = np.array(row[:count])
        del row[:count]
        return taken

    for entry, layer in zip(header["layers"], network.layers, strict=True):
        spec = dict(zip(header["spec"], entry["spec"], strict=True))
        rows, weights = spec["out_channels"], spec["weights"]
        widths = sorted({pair[0] for pair in entry["bits"]})
        widest = widths[-1]
        assert entry.get("stored", [widest]) == [widest]
        stream = np.unpackbits(take(codes, -(-weights * widest // 8)), bitorder="little")
        powers = 2 ** np.arange(widest)
        wide = stream[: weights * widest].reshape(-1, widest) @ powers - 2 ** (widest - 1)
        wide = wide.reshape(rows, -1)
        lengths = entry.get("steps", [rows])
        known = [take(steps, length)[:, None] for length in lengths]
        places = entry.get("step", [0])
        assert len(places) == len(entry["bits"]) + (len(widths) if len(widths) > 1 else 0)
        offset = 0.5 if name == "dorefa" else 0.0
        for place, (width, activation) in enumerate(entry["bits"]):
            found = wide
            if width != widest:
                rounding = dict(zip(widths, places[len(entry["bits"]) :], strict=True))
                values = (wide + np.float32(offset)).astype(np.float32) * known[rounding[widest]]
                scaled = values * (np.float32(1) / known[rounding[width]]) - np.float32(offset)
                found = np.clip(np.round(scaled), -(2 ** (width - 1)), 2 ** (width - 1) - 1)
            expected = layer.weight_codes(width).flatten(1).numpy()
            assert np.array_equal(found, expected)
            step = np.broadcast_to(known[places[place]][:, 0], rows)
            scale = 1 if layer.output_scale is None else layer.output_scale.numpy()
            both = layer.weight_steps(LayerBits(width, activation)).numpy()
            assert np.array_equal(step * scale, both)
        if entry.get("scale"):
            assert layer.output_scale is not None
            assert np.array_equal(take(steps, rows), layer.output_scale.numpy())
        of_input = list(layer.activation_candidates)
        assert np.array_equal(take(steps, len(of_input)), layer.activation_log_step.numpy())
        assert take(steps, 1)[0] == float(layer.activation_range)
    assert not codes
    assert not steps
