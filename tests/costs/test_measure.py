"""Latency tables that are measured here, and the commands around them."""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from dqmq_env.cli import main  # noqa: E402
from dqmq_env.costs import LatencyTable, Timing, fraction  # noqa: E402
from dqmq_env.costs.layer_model import Shape, layer_model  # noqa: E402
from dqmq_env.costs.measure import measure  # noqa: E402
from dqmq_env.costs.measuring import Measuring  # noqa: E402
from dqmq_env.errors import SettingError  # noqa: E402
from dqmq_env.quantization.assignment import BitAssignment, LayerBits  # noqa: E402
from dqmq_env.quantization.spec import LayerSpec  # noqa: E402
from dqmq_env.quantization.tracing import trace_layers  # noqa: E402

WIDTHS = (3, 4, 8)
DOCS = Path(__file__).parents[2] / "docs" / "costs.md"
BRIEF = Measuring(bits=WIDTHS, repeats=3, warm_up=1)


class Net(nn.Module):
    """Layers of many kinds: strided, dilated, depthwise, padded by a word; one is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, (3, 5), stride=2, padding=(1, 2))
        self.wide = nn.Conv2d(8, 8, 3, padding="same", dilation=2)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.alike = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.twice = nn.Conv2d(8, 8, 1, padding="valid")
        self.last = nn.Linear(8 * 64, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.alike(self.deep(self.wide(self.first(x))))
        out: Tensor = self.last(self.twice(self.twice(x)).flatten(1))
        return out


EXAMPLE = torch.zeros(1, 3, 16, 16)


def specs() -> dict[str, LayerSpec]:
    return {spec.name: spec for spec in trace_layers(Net().eval(), EXAMPLE)}


@pytest.fixture(scope="module")
def table() -> LatencyTable:
    return measure(Net().eval(), EXAMPLE, BRIEF, shown=False)


def run(shape: Shape, weight: int, activation: int, batch: int = 1) -> Any:
    model, value = layer_model(shape, weight, activation, batch)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options).run(None, {"x": value})[0]


@pytest.mark.parametrize("name", list(specs()))
@pytest.mark.parametrize(
    ("weight", "activation", "received"),
    [(32, 32, 1.0), (4, 32, 1.0), (4, 8, 1.0), (2, 2, 3 * 0.05), (8, 8, 0.05)],
)
def test_a_model_computes_what_the_layer_does(
    name: str, weight: int, activation: int, received: float
) -> None:
    """Weights are 0.01. 1 is put in: 2 bits of step 0.05 cut it; to integers it is a code."""
    module = Net().eval().get_submodule(name)
    shape = Shape.of(specs()[name], module)  # type: ignore[arg-type]
    found = run(shape, weight, activation, batch=2)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(0.01 if parameter.dim() > 1 else 0)
        expected = module(torch.full(shape.rows(2), received)).numpy()
    assert found.shape == expected.shape
    if weight == activation == 8:
        assert np.abs(found - np.rint(expected / 0.05)).max() <= 1
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_every_layer_and_pair_is_in_the_table(table: LatencyTable) -> None:
    own = specs()
    assert list(table.layers) == list(own)
    pairs = {(w, a) for w in WIDTHS for a in (*WIDTHS, 32)} | {(32, 32)}
    for name, spec in own.items():
        assert {timing.bits for timing in table.timings if timing.layer == name} == pairs
        for bits in pairs:
            timing = table.timing(spec, LayerBits(*bits))
            assert 0 < timing.low <= timing.milliseconds <= timing.high  # type: ignore[operator]
            assert timing.macs == spec.macs
    assert table.joint_widths == WIDTHS
    assert fraction(table, list(own.values()), BitAssignment.uniform(own, 8)) == 1


def test_layers_of_one_shape_share_their_times(table: LatencyTable) -> None:
    own = specs()
    deep, alike = (table.timing(own[name], LayerBits(8, 8)) for name in ("deep", "alike"))
    assert deep.milliseconds == alike.milliseconds


def test_bits_of_one_type_share_their_times(table: LatencyTable) -> None:
    for spec in specs().values():
        assert table.of(spec, LayerBits(3, 8)) == table.of(spec, LayerBits(4, 8))
        assert table.of(spec, LayerBits(3, 3)) == table.of(spec, LayerBits(4, 4))


def test_what_ran_is_said(table: LatencyTable) -> None:
    own = specs()
    forms = {bits: table.timing(own["wide"], LayerBits(*bits)).form for bits in ((8, 8), (4, 4))}
    assert "int8 x uint8" in forms[8, 8]
    assert "QLinearConv" in forms[8, 8]
    assert "emulated" not in forms[8, 8]
    assert forms[4, 4].startswith("int4 x uint4, emulated in float:")
    assert "QGemm" in table.timing(own["last"], LayerBits(8, 8)).form
    assert table.timing(own["last"], LayerBits(4, 32)).form == "int4 x float32: MatMulNBits"
    assert table.timing(own["wide"], LayerBits(32, 32)).form.startswith("float32: ")
    about = dict(table.about)
    assert about["threads"] == "1"
    assert ort.__version__ in about["runtime"]
    assert about["rounds"].startswith("3 after 1 calls to warm up")
    assert about["types"].startswith("bits 3, 4 in int4; 8 in int8")
    assert {"machine", "load", "batch", "layers", "overhead"} < set(about)


def test_all_bits_may_be_held_in_bytes() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3))
    how = Measuring(bits=(2,), types=(8,), repeats=1, warm_up=1, batch=2, threads=2)
    table = measure(network, torch.zeros(1, 1, 8, 8), how, shown=False)
    (spec,) = trace_layers(network, torch.zeros(1, 1, 8, 8))
    assert table.of(spec, LayerBits(2, 2)) == table.of(spec, LayerBits(8, 8))
    assert "int8 x uint8" in table.timing(spec, LayerBits(2, 2)).form
    assert dict(table.about)["batch"].startswith("2,")


def test_all_may_be_computed_in_float() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3))
    how = Measuring(bits=(4,), kernels="float", repeats=1, warm_up=1)
    table = measure(network, torch.zeros(1, 1, 8, 8), how, shown=False)
    for timing in table.timings:
        assert ("emulated in float" in timing.form) == (timing.weight < 32)
        assert timing.form.count("DequantizeLinear") == (timing.activation < 32)
    assert "disable_quant_qdq" in dict(table.about)["runtime"]


@pytest.mark.parametrize(
    "changes",
    [
        {"repeats": 0},
        {"warm_up": 0},
        {"batch": 0},
        {"threads": 0},
        {"bits": ()},
        {"bits": (0,)},
        {"bits": (9,)},
        {"types": (4,)},
        {"types": (8, 3)},
        {"kernels": "gpu"},
    ],
)
def test_wrong_numbers_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=f"{next(iter(changes))}: got"):
        Measuring(**changes)


# The commands.

MODULE = """
from torch import nn


def make():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 5))


def number():
    return 1
"""
BY_HAND = ["--bits", "4", "8", "--repeats", "2", "--warm-up", "1"]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Words that name a network of one's own, in the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine_latency.py").write_text(MODULE)
    monkeypatch.delitem(sys.modules, "mine_latency", raising=False)
    return ["--network", "mine_latency:make", "--input-shape", "1", "8", "8"]


def test_measure_then_show(own: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["cost", "measure", "--to", "t.csv", *own]
    main([*words, *BY_HAND])
    assert "written: t.csv" in capsys.readouterr().out
    first = LatencyTable.from_csv("t.csv")
    assert first.layers == ("0", "2")
    assert first.joint_widths == (4, 8)
    main(["cost", "show", "--table", "t.csv"])
    shown = capsys.readouterr().out
    for part in ("onnxruntime", "8/8", "4/4", "float", "sum", "QLinearConv", "bits=(4, 8)"):
        assert part in shown
    main(["cost", "show", "--table", "t.csv", "--pairs", "4/32"])
    assert "MatMulNBits" not in shown
    assert "4/32" in capsys.readouterr().out
    before = Path("t.csv").read_bytes()
    with pytest.raises(SystemExit):
        main([*words, *BY_HAND])
    assert Path("t.csv").read_bytes() == before
    capsys.readouterr()
    main([*words, *BY_HAND, "--force"])
    assert Path("t.csv").is_file()


def test_a_table_from_elsewhere(own: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    phone = LatencyTable(
        (Timing("0", 8, 8, 1.0), Timing("2", 8, 8, 2.0), Timing("2", 4, 4, 1.5)),
        (("machine", "a phone"),),
    )
    phone.to_csv("phone.csv")
    main(["cost", "measure", "--to", "t.csv", "--from", "phone.csv", *own])
    found = LatencyTable.from_csv("t.csv")
    assert found.about == phone.about
    assert [timing.macs for timing in found.timings] == [4 * 9 * 36, 720, 720]
    assert [timing.milliseconds for timing in found.timings] == [1.0, 2.0, 1.5]
    np.save("haq.npy", np.arange(128.0).reshape(2, 8, 8))
    main(["cost", "measure", "--to", "u.csv", "--from", "haq.npy", "--unit", "ms", *own])
    array = LatencyTable.from_csv("u.csv")
    assert len(array.timings) == 128
    assert array.timings[-1] == Timing("2", 8, 8, 127.0, macs=720)
    assert "a phone" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["measure", "--to", "nowhere/t.csv"], "no folder nowhere"),
        (["measure", "--to", "mine_latency.py"], "allowed with --force"),
        (["measure", "--to", "t.csv", "--network", "mine_latency:make"], "input_shape: got ()"),
        (["measure", "--to", "t.csv", "--checkpoint", "bogus"], "no checkpoint 'bogus'"),
        (["measure", "--to", "t.csv", "--bits", "9"], "bits: got [9]"),
        (["show", "--table", "none.csv"], "cannot read none.csv"),
        (["--weight-memory", "tape"], "weight_memory: got 'tape'"),
        *(
            (
                ["measure", "--to", "t.csv", "--network", name, "--input-shape", "1", "8", "8"],
                "network:",
            )
            for name in ("none:make", "mine_latency:none", "mine_latency", "mine_latency:number")
        ),
    ],
)
@pytest.mark.usefixtures("own")
def test_what_is_wrong_gives_one_line(
    words: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path("mine_latency.py").read_text()
    with pytest.raises(SystemExit) as stop:
        main(["cost", *words])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert part in line
    assert not Path("t.csv").exists()
    assert Path("mine_latency.py").read_text() == before


@pytest.mark.parametrize(
    ("timings", "part"),
    [
        ((Timing("0", 8, 8, 1.0),), "no layer '2'"),
        ((Timing("0", 8, 8, 1.0), Timing("2", 4, 4, 1.0)), "2 was not measured at 8/8"),
        ((Timing("0", 8, 8, 1.0), Timing("2", 8, 8, 1.0, macs=7)), "has 7 MACs"),
        (tuple(Timing(name, 8, 8, 1.0) for name in "023"), "the network has not: ['3']"),
    ],
)
def test_a_table_of_another_network_is_refused(
    own: list[str],
    timings: tuple[Timing, ...],
    part: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    LatencyTable(timings).to_csv("phone.csv")
    with pytest.raises(SystemExit):
        main(["cost", "measure", "--to", "t.csv", "--from", "phone.csv", *own])
    assert part in capsys.readouterr().err
    assert not Path("t.csv").exists()


def test_an_array_without_a_unit_is_refused(
    own: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("haq.npy", np.ones((2, 8, 8)))
    with pytest.raises(SystemExit):
        main(["cost", "measure", "--to", "t.csv", "--from", "haq.npy", *own])
    assert "unit: got none" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--help"], ["measure", "--help"], ["show", "--help"]])
def test_help_teaches(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["cost", *words])
    assert stop.value.code == 0
    assert "Examples" in capsys.readouterr().out


def test_the_documented_numbers_are_those_printed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["cost"])
    shown = [re.findall(r"[\w.]+", line) for line in capsys.readouterr().out.splitlines()]
    documented = re.findall(r"^\| (float|\d) ?(?:bits)? \|(.*)\|$", DOCS.read_text(), re.MULTILINE)
    assert len(documented) == 4
    for bits, numbers in documented:
        assert [bits, *numbers.replace("|", " ").split()] in shown


def test_the_documented_file_is_read(tmp_path: Path) -> None:
    text = DOCS.read_text().partition("    # unit: ms\n")
    rows = (text[1] + text[2].partition("\n\n")[0]).replace("    ", "")
    (tmp_path / "t.csv").write_text(rows)
    assert LatencyTable.load(tmp_path / "t.csv").joint_widths == (4, 8)


def test_the_formulas_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    main(["cost", "--checkpoint", "resnet8-fashion-mnist"])
    shown = capsys.readouterr().out
    for heading in ("size, KiB", "BOPs, G", "energy, uJ", "memory, KiB"):
        assert heading in shown
