"""Latency tables: what they answer, as files, and what they refuse."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dqmq_env.costs import LatencyTable, Timing, fraction, layer_table, reference
from dqmq_env.errors import SettingError, TableError
from dqmq_env.quantization.assignment import BitAssignment, LayerBits
from dqmq_env.quantization.spec import LayerSpec


def spec(name: str, macs: int = 100) -> LayerSpec:
    return LayerSpec(name, "conv", 1, 1, 1, 1, 1, 10, macs, (1, 1, 10), (1, 1, 10))


SPECS = (spec("a"), spec("b", 300))
TIMES = {("a", 2): 5.0, ("a", 4): 3.0, ("a", 8): 2.0, ("b", 4): 4.0, ("b", 8): 6.0}
TABLE = LatencyTable(tuple(Timing(layer, b, b, ms) for (layer, b), ms in TIMES.items()))

words = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), min_size=1)
lines = st.lists(words, min_size=1, max_size=3).map(" ".join)
headings = words.map(lambda text: text.translate({ord(":"): "", ord("#"): ""}) or "x")
times = st.floats(0, 1e6)
bits = st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 32])


@st.composite
def tables(draw: st.DrawFn) -> LatencyTable:
    keys = st.tuples(lines, bits, bits)
    counts = st.dictionaries(keys, st.integers(0, 10**12), min_size=1, max_size=8)
    spreads = st.none() | times
    timings = [
        Timing(*key, draw(times), draw(spreads), draw(spreads), draw(lines | st.just("")), macs)
        for key, macs in draw(counts).items()
    ]
    first = timings[0]
    key = first.layer, first.weight, first.activation
    timings[0] = Timing(*key, first.milliseconds + 1e-3)
    about = draw(st.dictionaries(headings.filter(lambda own: own not in ("unit", "schema")), lines))
    return LatencyTable(tuple(timings), tuple(about.items()))


@settings(max_examples=40)
@given(table=tables())
def test_a_table_survives_its_file(tmp_path_factory: Any, table: LatencyTable) -> None:
    path = tmp_path_factory.mktemp("tables") / "t.csv"
    table.to_csv(path)
    again = LatencyTable.load(path)
    assert again == table
    assert hash(again) == hash(table)
    assert again.timings == table.timings
    assert again.about == table.about
    again.to_csv(path.with_name("u.csv"))
    assert path.with_name("u.csv").read_bytes() == path.read_bytes()


@settings(max_examples=20)
@given(
    values=st.integers(1, 3).flatmap(
        lambda count: st.lists(
            st.lists(st.lists(times, min_size=8, max_size=8), min_size=8, max_size=8),
            min_size=count,
            max_size=count,
        )
    )
)
def test_haqs_array_is_read_as_it_is_indexed(tmp_path_factory: Any, values: Any) -> None:
    array = np.array(values)
    array[0, 7, 7] += 1e-3
    layers = [f"layer{number}" for number in range(len(array))]
    path = tmp_path_factory.mktemp("arrays") / "t.npy"
    np.save(path, array)
    path.with_suffix(".json").write_text(json.dumps({"unit": "ms", "layers": layers, "on": 1}))
    table = LatencyTable.load(path)
    assert table == LatencyTable.from_npy(path, layers, "ms") == table
    assert dict(table.about) == {"on": "1"}
    for number, name in enumerate(layers):
        for weight, activation in ((1, 1), (3, 8), (8, 2)):
            found = table.of(spec(name), LayerBits(weight, activation))
            assert found == array[number, weight - 1, activation - 1]


def test_places_of_an_array_without_a_time_are_left_out() -> None:
    array = np.full((2, 8, 8), np.nan)
    array[:, 7, 7] = 2
    array[1, 3, 3] = 1
    table = LatencyTable.from_array(array, ["a", "b"])
    assert [timing.bits for timing in table.timings] == [(8, 8), (4, 4), (8, 8)]
    assert table.joint_widths == (8,)


def test_it_is_a_cost() -> None:
    assert reference(TABLE, SPECS) == 8
    assert fraction(TABLE, SPECS, BitAssignment({"a": (2, 2), "b": (4, 4)})) == 9 / 8
    options = {name: [LayerBits(4, 4), LayerBits(8, 8)] for name in "ab"}
    rows = layer_table(TABLE, SPECS, options)
    assert [row.tolist() for row in rows] == [[3 / 8, 2 / 8], [4 / 8, 6 / 8]]
    assert TABLE.layers == ("a", "b")
    assert TABLE.joint_widths == (4, 8)
    assert len(repr(TABLE)) < 100


def test_what_was_not_measured_is_refused_and_never_made_up() -> None:
    with pytest.raises(TableError, match=r"no layer 'c', there are a, b"):
        TABLE.of(spec("c"), LayerBits(8, 8))
    with pytest.raises(
        TableError, match=r"b was not measured at 2/2 .* there are 4/4, 8/8; .*4, 8"
    ):
        TABLE.of(SPECS[1], LayerBits(2, 2))
    with pytest.raises(TableError, match=r"a was not measured at 2/4 bits"):
        TABLE.of(SPECS[0], LayerBits(2, 4))
    without = LatencyTable((Timing("a", 4, 4, 1.0),))
    with pytest.raises(TableError, match="not measured at 8/8"):
        fraction(without, SPECS[:1], BitAssignment({"a": (4, 4)}))


def test_a_layer_of_the_same_name_in_another_network_is_told_apart() -> None:
    table = LatencyTable((Timing("a", 8, 8, 1.0, macs=300),))
    assert table.of(spec("a", 300), LayerBits(8, 8)) == 1
    with pytest.raises(TableError, match="has 300 MACs, this one has 100"):
        table.of(spec("a"), LayerBits(8, 8))


def test_nothing_can_be_a_fraction_of_no_time() -> None:
    table = LatencyTable((Timing("a", 8, 8, 0.0), Timing("a", 4, 4, 1.0)))
    with pytest.raises(SettingError, match="latency: it is 0"):
        fraction(table, SPECS[:1], BitAssignment({"a": (4, 4)}))


@pytest.mark.parametrize(
    ("timings", "part"),
    [
        ((), "no times above 0"),
        ((Timing("a", 8, 8, 0.0),), "no times above 0"),
        ((Timing("a", 8, 8, 1.0), Timing("a", 8, 8, 2.0)), "a has 2 times at 8/8"),
    ],
)
def test_tables_that_cannot_be(timings: tuple[Timing, ...], part: str) -> None:
    with pytest.raises(TableError, match=part):
        LatencyTable(timings)


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_times_that_cannot_be(value: float) -> None:
    with pytest.raises(TableError, match="a at 8/8 bits: milliseconds: got"):
        Timing("a", 8, 8, value)
    with pytest.raises(TableError, match="a at 8/8 bits: high: got"):
        Timing("a", 8, 8, 1.0, 1.0, value)
    array = np.ones((1, 8, 8))
    array[0, 7, 7] = value
    if not np.isnan(value):
        with pytest.raises(TableError, match="milliseconds: got"):
            LatencyTable.from_array(array, ["a"])


@pytest.mark.parametrize("width", [0, 9, 16, -1])
def test_bits_that_cannot_be(width: int) -> None:
    with pytest.raises(TableError, match=f"got {width} bits"):
        Timing("a", width, 8, 1.0)


@pytest.mark.parametrize("text", ["two\nlines", "two\rlines"])
def test_texts_of_several_lines_are_refused(text: str) -> None:
    with pytest.raises(TableError, match="single line"):
        Timing(text, 8, 8, 1.0)
    with pytest.raises(TableError, match="one line"):
        LatencyTable(TABLE.timings, (("machine", text),))


HEAD = "layer,weight_bits,activation_bits,milliseconds"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (f"{HEAD}\na,8,8,1\n", "unit: got None"),
        (f"# unit: us\n{HEAD}\na,8,8,1\n", "unit: got 'us', allowed is 'ms'"),
        (f"# schema: other/2\n# unit: ms\n{HEAD}\na,8,8,1\n", "schema is 'other/2'"),
        ("# unit: ms\nlayer,bits,ms\na,8,1\n", r"columns \['layer', 'bits', 'ms'\]"),
        (f"# unit: ms\n{HEAD},{HEAD}\n", "columns"),
        (f"# unit: ms\n{HEAD}\na,8,8\n", "line 3: got 3 cells, allowed are 4"),
        (f"# unit: ms\n{HEAD}\na,8,8,fast\n", "line 3: milliseconds: got 'fast'"),
        (f"# unit: ms\n{HEAD}\na,8.5,8,1\n", "line 3: weight_bits: got '8.5'"),
        (f"# unit: ms\n{HEAD}\na,8,8,\n", "line 3: milliseconds: got ''"),
        (f"# unit: ms\n{HEAD}\na,8,8,-1\n", "milliseconds: got -1"),
        (f"# unit: ms\n{HEAD}\na,8,8,nan\n", "milliseconds: got nan"),
        (f"# unit: ms\n{HEAD}\na,9,8,1\n", "got 9 bits"),
        (f"# unit: ms\n{HEAD}\n", "no times"),
        ("# unit: ms\n", "columns"),
        ("", "unit: got None"),
        ("# just a remark\n", "allowed is '# name: text'"),
        (f'# unit: ms\n{HEAD}\n"a,8,8,1\n', "no CSV"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, text: str, part: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(TableError, match=part):
        LatencyTable.load(path)


def test_a_file_of_somebody_elses(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    rows = "a,8,8,0.5\r\n\r\nb,8,8, 0.25\r\n"
    path.write_bytes(f"#unit:ms\r\n# phone: a  big one\r\n#\r\n{HEAD}\r\n{rows}".encode())
    table = LatencyTable.load(path)
    assert reference(table, SPECS) == 0.75
    assert table.about == (("phone", "a big one"),)


def test_files_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"\xff\xfe\x00")
    for wrong in (path, tmp_path / "none.csv", tmp_path):
        with pytest.raises(TableError, match="cannot read"):
            LatencyTable.load(wrong)


class Boom:
    """Unpickled, it would write a file."""

    def __reduce__(self) -> Any:
        return (open, ("unpickled", "w"))


@pytest.mark.parametrize(
    ("values", "sidecar", "part"),
    [
        (np.ones((1, 8, 8)), None, "cannot read"),
        (np.ones((1, 8, 8)), "[1]", "got list"),
        (np.ones((1, 8, 8)), "{", "no JSON"),
        (np.ones((1, 8, 8)), '{"unit": "ms"}', "layers: got None"),
        (np.ones((1, 8, 8)), '{"unit": "ms", "layers": [1]}', "layers: got"),
        (np.ones((1, 8, 8)), '{"layers": ["a"]}', "unit: got None"),
        (np.ones((1, 8, 8)), '{"unit": "cycles", "layers": ["a"]}', "unit: got 'cycles'"),
        (np.ones((1, 8, 8)), '{"unit": "ms", "layers": ["a", "b"]}', r"shape \(1, 8, 8\)"),
        (np.ones((1, 64)), '{"unit": "ms", "layers": ["a"]}', r"shape \(1, 64\)"),
        (np.ones((1, 9, 9)), '{"unit": "ms", "layers": ["a"]}', r"shape \(1, 9, 9\)"),
        (np.array([[["x"]]]), '{"unit": "ms", "layers": ["a"]}', "array of <U1"),
        (np.array([[[Boom()]]]), '{"unit": "ms", "layers": ["a"]}', "no array of numbers"),
    ],
)
def test_arrays_that_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: Any, sidecar: str | None, part: str
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("t.npy", values, allow_pickle=True)
    if sidecar is not None:
        Path("t.json").write_text(sidecar)
    with pytest.raises(TableError, match=part):
        LatencyTable.load("t.npy")
    assert not Path("unpickled").exists()


def test_several_arrays_in_one_file_are_refused(tmp_path: Path) -> None:
    with (tmp_path / "t.npy").open("wb") as stream:
        np.savez(stream, np.ones((1, 8, 8)))
    with pytest.raises(TableError, match="several arrays"):
        LatencyTable.from_npy(tmp_path / "t.npy", ["a"], "ms")
