import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.problem.build_table import TableArguments, main, own_units
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.problem.table_units import (
    Arrays,
    Unit,
    all_units,
    evaluate_unit,
    load_unit,
    save_unit,
)
from dqmq_env.quality import CLEAN, Condition

MakeProblem = Callable[..., NetworkProblem]
NOISE = Condition.parse("gaussian_noise/3")
IMAGES = {"search": 45, "test": 30}
SMALL = [
    "--bits", "2", "8",
    "--conditions", "clean", "jpeg/5",
    "--search-images", "12",
    "--test-images", "8",
]  # fmt: skip


@pytest.fixture(scope="module")
def problem(make_tiny_problem: MakeProblem) -> NetworkProblem:
    return make_tiny_problem(bits=(2, 8), batch_size=IMAGES["search"])


@pytest.fixture(scope="module")
def unit(problem: NetworkProblem) -> tuple[Unit, Arrays]:
    unit = all_units([CLEAN, NOISE], 2)[6]
    return unit, evaluate_unit(problem, unit, IMAGES)


def test_units_are_all_beginnings_under_all_conditions() -> None:
    units = all_units([CLEAN, NOISE], 2)
    assert [unit.condition for unit in units] == [CLEAN] * 4 + [NOISE] * 4
    assert [unit.beginning for unit in units[:4]] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert len({unit.file_name for unit in units}) == 8


def test_rows_are_what_a_live_environment_gives(
    problem: NetworkProblem, unit: tuple[Unit, Arrays]
) -> None:
    """Bit for bit: outcomes, and the statistics that are observed on the way."""
    which, arrays = unit
    assert which == Unit(NOISE, (1, 0))
    env = BitWidthEnv(problem)
    seen = env.core.observer.layout.part("activation")
    for number in (0, 5, 15):
        rest = [int(digit) for digit in f"{number:04b}"]
        observation, _ = env.reset(options={"condition": "gaussian_noise/3", "batch": 0})
        for decision, action in enumerate([1, 0, *rest]):
            ways = arrays[f"activation_{decision}"]
            place = int("0" + "".join(map(str, rest[: max(0, decision - 2)])), 2)
            assert np.array_equal(observation[seen], ways[place])
            observation, *_, info = env.step(action)
        bits = np.unpackbits(arrays["search_correct"][number], count=IMAGES["search"])
        assert bits.mean() == info["accuracy"]
        assert arrays["search_loss"][number] == np.float32(info["loss"])


def test_shapes(unit: tuple[Unit, Arrays]) -> None:
    arrays = unit[1]
    assert arrays["search_correct"].shape == (16, 6)
    assert arrays["test_correct"].shape == (16, 4)
    assert [len(arrays[f"activation_{d}"]) for d in range(6)] == [1, 1, 1, 2, 4, 8]


def test_the_test_split_is_judged_by_itself(
    problem: NetworkProblem, unit: tuple[Unit, Arrays]
) -> None:
    network, labels = problem.quantized, problem.data.test.labels[:30]
    bits = dict(network.uniform(2))
    first = next(name for name, widths in problem.candidates.items() if len(widths) > 1)
    bits[first] = network.uniform(8)[first]
    x = problem.normalize(problem.test.under(NOISE)[:30])
    reached = problem.walker.start(x)
    for pair in network.in_order(bits):
        reached = problem.walker.advance(reached, pair)
    expected = (reached.logits.argmax(1) == labels).numpy()
    assert np.array_equal(np.unpackbits(unit[1]["test_correct"][0], count=30), expected)


def test_what_is_damaged_counts_as_missing(tmp_path: Path, unit: tuple[Unit, Arrays]) -> None:
    which, arrays = unit
    assert load_unit(tmp_path, which) is None
    save_unit(tmp_path, which, arrays)
    again = load_unit(tmp_path, which)
    assert again is not None
    assert all(np.array_equal(again[name], values) for name, values in arrays.items())
    path = tmp_path / which.file_name
    path.write_bytes(path.read_bytes()[:100])
    assert load_unit(tmp_path, which) is None


def test_shards_share_the_work() -> None:
    def units(shard: str) -> list[Unit]:
        arguments = TableArguments(bits=(2, 8), conditions=("clean", "jpeg/5"), shard=shard)
        return own_units(arguments)

    shared = [unit for i in range(3) for unit in units(f"{i}/3")]
    assert len(shared) == 8
    assert set(shared) == set(units("0/1"))


@pytest.mark.parametrize("shard", ["1", "2/2", "-1/2", "a/b", "0/0"])
def test_senseless_shards_are_refused(
    shard: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*SMALL, "--shard", shard, "--run", str(tmp_path)])
    assert stop.value.code == 2
    assert f"--shard: got '{shard}', allowed are 0/n to n-1/n" in capsys.readouterr().err


def test_a_killed_run_goes_on_and_ends_with_the_same(tmp_path: Path) -> None:
    output = str(tmp_path / "out")
    words = [*SMALL, "--output", output, "--run"]
    command = [sys.executable, "-m", "dqmq_env.problem.build_table", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([*command, str(whole)], check=True, env=environment, capture_output=True)
    process = subprocess.Popen(
        [*command, str(killed)], env=environment, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while not list(killed.glob("*.safetensors")):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in killed.glob("*.safetensors")}
    assert 0 < len(done) < 8
    subprocess.run([*command, str(killed)], check=True, env=environment, capture_output=True)
    assert all(path.stat().st_mtime_ns == time for path, time in done.items())
    names = sorted(path.name for path in whole.iterdir())
    assert len(names) == 9
    for name in names:
        assert (whole / name).read_bytes() == (killed / name).read_bytes()
