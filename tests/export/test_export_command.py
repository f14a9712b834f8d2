"""``dqmq export``."""

import json
from pathlib import Path

import pytest

from dqmq_env.cli import main
from dqmq_env.envs.zoo import ZooSetting
from dqmq_env.evaluation.deployed import StaticNetwork
from dqmq_env.evaluation.report import ConditionResult, Evaluation
from dqmq_env.export import load, read
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.quantization.scheme_names import SCHEMES
from dqmq_env.search.rule import Rule
from dqmq_env.training.fine_tune import RuleNetwork, fine_tune
from dqmq_env.training.loop import Schedule

ENV = ["export", "--env", "DQMQ-ResNet8-v0", "--settings"]
SETTINGS = {"bits": [2, 4], "post_training": "steps", "search_images": 250}
WORDS = [*ENV, json.dumps(SETTINGS)]


@pytest.fixture(scope="module")
def problem() -> NetworkProblem:
    return ZooSetting.of({"checkpoint": "resnet8-fashion-mnist", **SETTINGS}).problem()


def mixed(problem: NetworkProblem) -> BitAssignment:
    low, high = problem.uniform(2), problem.uniform(4)
    names = list(problem.candidates)
    return BitAssignment({name: (low, high)[i % 2][name] for i, name in enumerate(names)})


def test_an_assignment_from_a_file(
    problem: NetworkProblem, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bits, output = tmp_path / "bits.json", tmp_path / "net.dqmq"
    bits.write_text(json.dumps({name: list(pair) for name, pair in mixed(problem).items()}))
    layers = [spec.name for spec in problem.layers]
    row = ConditionResult("clean", 10, 9, 0.1, [3.0] * len(layers))
    Evaluation("net", layers, [row], (0.8, 1.0)).save(tmp_path / "evaluation.json")
    words = ["--assignment", str(bits), "--to", "packed", "--output", str(output)]
    main([*WORDS, *words, "--evaluation", str(tmp_path / "evaluation.json")])
    shown = capsys.readouterr().out
    for part in (
        "integer weights",
        "biases and other float leftovers",
        "cost `size` of the weights",
        f"{output.stat().st_size:,}",
        "gzip -9",
    ):
        assert part in shown
    images = problem.data.test.images[:20]
    found = load(output)
    expected = StaticNetwork(problem.quantized, mixed(problem), problem.normalize)
    assert isinstance(found, StaticNetwork)
    assert found(images).logits.equal(expected(images).logits)
    card = (tmp_path / "net.dqmq.md").read_text()
    assert "| clean | 10 | 90.00% |" in card
    assert "--assignment" in card.split("## Reproduce")[1]
    assert 'load("net.dqmq")' in card
    assert "resnet8-fashion-mnist of the zoo" in card
    before = output.read_bytes()
    with pytest.raises(SystemExit):
        main([*WORDS, *words])
    assert "is there already; --force" in capsys.readouterr().err
    assert output.read_bytes() == before
    main([*WORDS, *words, "--force"])
    assert "Not evaluated" in (tmp_path / "net.dqmq.md").read_text()
    assert output.read_bytes() == before


@pytest.mark.parametrize("scheme", ["lsq", "dorefa"])
def test_a_fine_tuned_run(
    problem: NetworkProblem,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    scheme: str,
) -> None:
    rule = Rule({"clean": problem.uniform(2), "jpeg/3": problem.uniform(4)})
    run, output = tmp_path / "run", tmp_path / "net.dqmq"
    bits = rule if scheme == "lsq" else mixed(problem)
    schedule = Schedule(images=8, batch=4)
    network = fine_tune(problem, bits, schedule, run, scheme=SCHEMES[scheme])  # type: ignore[call-overload]
    main([*WORDS, "--run", str(run), "--output", str(output)])
    images = problem.data.test.images[:20]
    found = load(output)
    if isinstance(found, StaticNetwork):
        assert found(images).logits.equal(network(images).logits)
        assert read(output).network.scheme == scheme
        return
    for condition in rule:
        expected = network.under(condition)(images).logits
        assert found.under(condition)(images).logits.equal(expected)
    assert "derived" not in capsys.readouterr().out
    small = tmp_path / "small.dqmq"
    main([*WORDS, "--run", str(run), "--weights", "widest", "--output", str(small)])
    assert "narrower weights are derived from the widest" in capsys.readouterr().out
    assert small.stat().st_size < 0.9 * output.stat().st_size
    assert isinstance(load(tmp_path / "small.dqmq"), RuleNetwork)
    assert "* batch: 4" in (tmp_path / "small.dqmq.md").read_text()


def test_an_unfinished_run_is_refused(
    problem: NetworkProblem, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schedule = Schedule(images=16, batch=4)
    fine_tune(problem, problem.uniform(2), schedule, tmp_path / "run", lambda step: step < 2)
    words = ["--output", str(tmp_path / "net.dqmq")]
    with pytest.raises(SystemExit):
        main([*WORDS, "--run", str(tmp_path / "run"), *words])
    assert "has done 2 steps of 4" in capsys.readouterr().err
    fine_tune(problem, problem.uniform(2), schedule, tmp_path / "run")
    other = json.dumps({**SETTINGS, "bits": [2, 3, 4]})
    with pytest.raises(SystemExit):
        main([*ENV, other, "--run", str(tmp_path / "run"), *words])
    assert "other layers or candidate bits" in capsys.readouterr().err


def test_bits_for_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for target in ("plain", "brevitas"):
        path = tmp_path / f"{target}.json"
        main([*WORDS, "--bits", "2", "--to", target, "--output", str(path)])
    assert json.loads((tmp_path / "plain.json").read_text())["layer1.0.conv1"] == [2, 2]
    found = json.loads((tmp_path / "brevitas.json").read_text())
    assert found["layers"]["layer1.0.conv1"]["weight_bit_width"] == 2
    assert (tmp_path / "brevitas.json.md").read_text() in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "--assignment, --bits, --run: got none or more than one"),
        (["--bits", "4", "--run", "x"], "got none or more than one"),
        (["--bits", "4", "--to", "bogus"], "--to: got 'bogus', allowed are packed"),
        (["--bits", "4", "--settings", "{"], "--settings: got '{', allowed is JSON"),
        (["--bits", "4", "--settings", "[]"], "allowed is a JSON object"),
        (["--bits", "4", "--settings", '{"wide": 1}'], "wide: unknown argument"),
        (["--bits", "4", "--evaluation", "none.json"], "none.json"),
        (["--bits", "4", "--env", "DQMQ-ResNet8-Tabular-v0"], "has no network, allowed"),
        (["--bits", "4", "--env", "CartPole-v1"], "has no network, allowed"),
        (["--bits", "4", "--env", "Bogus-v0"], "Bogus"),
        (["--assignment", "none.json"], "cannot read none.json"),
        (["--bits", "4", "--output", "none/net.dqmq"], "there is no folder none"),
    ],
)
def test_wrong_input_gives_one_line_and_exit_code_2(
    words: list[str],
    part: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["export", "--output", "net.dqmq", *words])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert part in line
    assert list(tmp_path.iterdir()) == []


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["export", "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert "Examples" in shown
    for option in ("--assignment", "--bits", "--run", "--to", "--force"):
        assert option in shown
