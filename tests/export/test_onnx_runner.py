import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from dqmq_env.errors import (
    AssignmentError,
    ConditionError,
    DataError,
    ExportError,
    SettingError,
)
from dqmq_env.evaluation.deployed import Deployed, Prediction, StaticNetwork
from dqmq_env.export.onnx_exporter import OnnxExporter
from dqmq_env.export.onnx_folder import save_choices, save_rule
from dqmq_env.export.onnx_runner import OnnxController, OnnxFolder, OnnxNetwork, OnnxRunner
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.search.rule import Rule

PAGE = Path(__file__).parents[2] / "docs" / "onnx.md"


@pytest.fixture(scope="module")
def exporter(tiny_problem: NetworkProblem) -> OnnxExporter:
    return OnnxExporter.over(tiny_problem)


@pytest.fixture(scope="module")
def images(tiny_problem: NetworkProblem) -> Tensor:
    return tiny_problem.data.test.images


def assignments(problem: NetworkProblem) -> list[BitAssignment]:
    low, high = problem.uniform(2), problem.uniform(8)
    odd = {name: (low if number % 2 else high)[name] for number, name in enumerate(low)}
    return [low, high, BitAssignment(odd)]


def make_rule(problem: NetworkProblem) -> Rule:
    low, high, odd = assignments(problem)
    return Rule({"clean": low, "gaussian_noise/3": high, "jpeg/2": low, "jpeg/5": odd})


@pytest.fixture(scope="module")
def folder(
    tiny_problem: NetworkProblem, exporter: OnnxExporter, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Of a rule."""
    path = tmp_path_factory.mktemp("rule")
    save_rule(exporter, make_rule(tiny_problem), path)
    return path


def dark_or_light() -> bytes:
    """A controller: images with a mean of 60 and more get number 1, others number 0."""
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "axes"], ["mean"], keepdims=0),
        helper.make_node("GreaterOrEqual", ["mean", "border"], ["light"]),
        helper.make_node("Cast", ["light"], ["assignment"], to=TensorProto.INT64),
    ]
    tensors = [
        numpy_helper.from_array(np.array([1, 2, 3]), "axes"),
        numpy_helper.from_array(np.float32(60).reshape(()), "border"),
    ]
    shape = ["batch", 1, 28, 28]
    graph = helper.make_graph(
        nodes,
        "controller",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("assignment", TensorProto.INT64, ["batch"])],
        tensors,
    )
    imports = [helper.make_opsetid("", 21)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content


def static(problem: NetworkProblem, assignment: BitAssignment) -> StaticNetwork:
    return StaticNetwork(problem.quantized, assignment, problem.normalize)


def assert_alike(found: Prediction, expected: Prediction) -> None:
    torch.testing.assert_close(found.cost, expected.cost)
    assert torch.equal(found.bits, expected.bits)
    assert torch.equal(found.logits.argmax(1), expected.logits.argmax(1))
    # all but a few activations are rounded alike
    apart = (found.logits - expected.logits).abs().amax(1)
    assert (apart < 1e-4).float().mean() >= 0.9


# One network.


def test_a_file_is_a_deployed_network(
    tiny_problem: NetworkProblem, exporter: OnnxExporter, images: Tensor
) -> None:
    assignment = assignments(tiny_problem)[2]
    network: Deployed = OnnxNetwork(exporter.serialized(assignment))
    assert_alike(network(images), static(tiny_problem, assignment)(images))
    one_by_one = torch.cat([network(image[None]).logits for image in images])
    assert_alike(
        Prediction(one_by_one, network(images).cost, network(images).bits), network(images)
    )


def test_other_images_are_refused(exporter: OnnxExporter, tiny_problem: NetworkProblem) -> None:
    network = OnnxNetwork(exporter.serialized(tiny_problem.uniform(2)))
    allowed = r"allowed is torch.uint8 of shape \(N, 1, 28, 28\)"
    with pytest.raises(DataError, match=rf"float32 of shape \(2, 1, 28, 28\), {allowed}"):
        network(torch.zeros(2, 1, 28, 28))
    with pytest.raises(DataError, match=allowed):
        network(torch.zeros(2, 3, 28, 28, dtype=torch.uint8))


def test_damaged_and_foreign_files_are_refused(
    exporter: OnnxExporter, tiny_problem: NetworkProblem, tmp_path: Path
) -> None:
    content = exporter.serialized(tiny_problem.uniform(2))
    model = onnx.load_from_string(content)
    for name, changed, said in [
        ("cut", content[: len(content) // 2], "cannot run it"),
        ("empty", b"", "cannot run it"),
        ("text", b"hello", "cannot run it"),
        ("controller", dark_or_light(), "allowed is images to logits"),
    ]:
        path = tmp_path / name
        path.write_bytes(changed)
        with pytest.raises(ExportError, match=said):
            OnnxNetwork.load(path)
    with pytest.raises(ExportError, match="cannot read"):
        OnnxNetwork.load(tmp_path / "missing")
    for key, value, said in [
        ("dqmq.schema", '"dqmq-onnx/9"', "schema 'dqmq-onnx/9', this version reads 'dqmq-onnx/1'"),
        ("dqmq.assignment", '{"schema": "dqmq-assignment/1"}', "not dqmq-onnx/1"),
        ("dqmq.bops", "much", "not dqmq-onnx/1"),
        ("dqmq.mean", None, "not dqmq-onnx/1"),
    ]:
        other = onnx.ModelProto()
        other.CopyFrom(model)
        kept = [entry for entry in model.metadata_props if entry.key != key]
        del other.metadata_props[:]
        other.metadata_props.extend(kept)
        if value is not None:
            other.metadata_props.add(key=key, value=value)
        with pytest.raises(ExportError, match=said):
            OnnxNetwork(other.SerializeToString())


# A rule.


def test_a_rule_gives_each_condition_its_network(
    tiny_problem: NetworkProblem, folder: Path, images: Tensor
) -> None:
    rule = make_rule(tiny_problem)
    found = OnnxFolder(folder)
    assert found.rule == rule
    assert len(found.networks) == 3  # two conditions share one
    for condition in rule:
        own = found.under(condition)
        assert own.assignment == rule[condition]
        assert_alike(own(images), static(tiny_problem, rule[condition])(images))
    # as a RuleNetwork does: the nearest severity, else clean
    assert found.under("jpeg/4").assignment == rule["jpeg/5"]
    assert found.under("contrast/3").assignment == rule["clean"]
    with pytest.raises(ConditionError):
        found.under("fog/3")
    with pytest.raises(SettingError, match="no controller"):
        found.runner()


def test_a_folder_with_files_is_not_written_into(
    tiny_problem: NetworkProblem, exporter: OnnxExporter, tmp_path: Path
) -> None:
    rule = make_rule(tiny_problem)
    low, high, _ = assignments(tiny_problem)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ExportError, match="has files already; --force writes into it"):
        save_rule(exporter, rule, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(ExportError, match="no folder can be made"):
        save_rule(exporter, rule, tmp_path / "mine.txt" / "below")
    save_rule(exporter, rule, tmp_path, force=True)
    before = {path.name for path in tmp_path.iterdir()}
    save_rule(exporter, Rule({"clean": high, "jpeg/3": low}), tmp_path, force=True)
    assert OnnxFolder(tmp_path).under("clean").assignment == high
    after = {path.name for path in tmp_path.iterdir()}
    assert len(before) == 3 + 2
    assert len(after) == 2 + 2
    assert "mine.txt" in after


def test_what_does_not_fit_leaves_nothing_behind(
    tiny_problem: NetworkProblem, exporter: OnnxExporter, tmp_path: Path
) -> None:
    rule = Rule({"clean": tiny_problem.uniform(2), "jpeg/3": BitAssignment({"conv1": (2, 2)})})
    with pytest.raises(AssignmentError):
        save_rule(exporter, rule, tmp_path / "new")
    assert not (tmp_path / "new").exists()


# A manifest.


def changed(folder: Path, tmp_path: Path, **fields: object) -> Path:
    """A copy of a folder with other entries in its manifest."""
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | fields))
    return tmp_path


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"schema": "other/1"}, "schema 'other/1', this version reads 'dqmq-onnx-folder/1'"),
        ({"graphs": []}, "places without a graph"),
        ({"graphs": [{"file": "../else.onnx", "sha256": "0"}]}, "no names of graphs"),
        ({"graphs": [{"file": "/etc/passwd", "sha256": "0"}]}, "no names of graphs"),
        ({"graphs": [{"file": 3, "sha256": "0"}]}, "no manifest"),
        ({"graphs": [{"file": "a.onnx"}]}, "no manifest"),
        ({"rule": {"clean": 7}}, "places without a graph"),
        ({"rule": None}, "no manifest"),
        ({"controller_bops": "much"}, "no manifest"),
        ({"more": 1}, "no manifest"),
    ],
)
def test_other_manifests_are_refused(
    fields: dict[str, object], said: str, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=said):
        OnnxFolder(changed(folder, tmp_path, **fields))


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", "\ud7ff", "[" * 100_000])
def test_manifests_of_another_form_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(ExportError, match="no manifest"):
        OnnxFolder(tmp_path)


def test_damaged_graphs_are_refused_before_they_are_used(folder: Path, tmp_path: Path) -> None:
    copy = changed(folder, tmp_path)
    graph = next(copy.glob("assignment-0*.onnx"))
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    with pytest.raises(ExportError, match="damaged: its checksum is not that of manifest"):
        OnnxFolder(copy)
    graph.unlink()
    with pytest.raises(ExportError, match="cannot read"):
        OnnxFolder(copy)
    with pytest.raises(ExportError, match="manifest"):
        OnnxFolder(tmp_path / "missing")


# Assignments chosen by image.


def test_images_are_grouped_by_what_is_chosen(tiny_problem: NetworkProblem, folder: Path) -> None:
    images = tiny_problem.data.search.images[:30]
    rows = OnnxFolder(folder)
    numbers = torch.arange(len(images)) % 3
    found = rows.runner(lambda images: numbers, bops=0.01)(images)
    for place, network in enumerate(rows.networks):
        alone, own = network(images[numbers == place]), numbers == place
        torch.testing.assert_close(found.logits[own], alone.logits, atol=0.3, rtol=0)
        assert torch.equal(found.logits[own].argmax(1), alone.logits.argmax(1))
        torch.testing.assert_close(found.cost[own], alone.cost + 0.01)
        assert torch.equal(found.bits[own], alone.bits)


def test_any_deployed_networks_can_be_run(tiny_problem: NetworkProblem, images: Tensor) -> None:
    networks = [static(tiny_problem, own) for own in assignments(tiny_problem)]
    runner: Deployed = OnnxRunner(networks, lambda images: torch.full((len(images),), 1))
    assert torch.equal(runner(images).logits, networks[1](images).logits)


@pytest.mark.parametrize(
    "numbers", [torch.tensor([0, 3]), torch.tensor([-1, 0]), torch.tensor([0]), torch.tensor(0)]
)
def test_numbers_without_a_network_are_refused(
    numbers: Tensor, folder: Path, images: Tensor
) -> None:
    with pytest.raises(SettingError, match="for 2 images, allowed is one each of 0 to 2"):
        OnnxFolder(folder).runner(lambda images: numbers)(images[:2])


def test_a_controller_may_be_a_graph(
    tiny_problem: NetworkProblem, exporter: OnnxExporter, images: Tensor, tmp_path: Path
) -> None:
    low, high, _ = assignments(tiny_problem)
    save_choices(exporter, [low, high], tmp_path, dark_or_light(), controller_bops=0.02)
    runner: Deployed = OnnxFolder(tmp_path).runner()
    light = images.float().mean((1, 2, 3)) >= 60
    assert 0 < int(light.sum()) < len(images)
    found = runner(images)
    for own, assignment in [(light, high), (~light, low)]:
        expected = static(tiny_problem, assignment)(images[own])
        assert torch.equal(found.logits[own].argmax(1), expected.logits.argmax(1))
        torch.testing.assert_close(found.cost[own], expected.cost + 0.02)
        assert torch.equal(found.bits[own], expected.bits)
    with pytest.raises(SettingError, match="rule: got"):
        OnnxFolder(tmp_path).under("clean")


def test_a_controller_that_is_none_is_refused(
    exporter: OnnxExporter, tiny_problem: NetworkProblem, tmp_path: Path
) -> None:
    low = tiny_problem.uniform(2)
    for content in (b"", exporter.serialized(low)):
        with pytest.raises(ExportError):
            save_choices(exporter, [low], tmp_path / "new", content)
        with pytest.raises(ExportError):
            OnnxController(content)
    assert not (tmp_path / "new").exists()


# Elsewhere.


def test_the_lines_of_the_page_run_without_us(
    tiny_problem: NetworkProblem, exporter: OnnxExporter, images: Tensor, tmp_path: Path
) -> None:
    """In a fresh process that has neither torch nor this package, as the page shows it."""
    assignment = assignments(tiny_problem)[2]
    exporter.save(assignment, tmp_path / "network.onnx")
    np.save(tmp_path / "images.npy", images.numpy())
    text = PAGE.read_text(encoding="utf-8")
    code = text.partition("<!-- elsewhere -->\n```python\n")[2].partition("```")[0]
    assert "network.onnx" in code
    blocked = "import sys\nsys.modules.update(torch=None, dqmq_env=None, onnx=None)\n"
    script = blocked + code + "\nnp.save('logits.npy', logits)\n"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    expected = static(tiny_problem, assignment)(images).logits
    found = torch.from_numpy(np.load(tmp_path / "logits.npy"))
    assert torch.equal(found.argmax(1), expected.argmax(1))
    assert done.stdout.strip() == str([tiny_problem.data.classes[n] for n in expected.argmax(1)])
