"""A hybrid agent's network leaves the house: packed, and as ONNX with its policy inside."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from agents.hybrid.agent import HybridAgent
from agents.hybrid.deployed import DynamicNetwork
from agents.hybrid.export import HybridPolicy
from agents.hybrid.heads import HEADS, ValueHead
from agents.hybrid.settings import HybridSettings
from dqmq_env.cli import main
from dqmq_env.data import ImageData
from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.errors import DQMQError, ExportError, SettingError
from dqmq_env.evaluation.deployed import StaticNetwork
from dqmq_env.export import About, OnnxDynamic, load, pack, read, snapped, write
from dqmq_env.export.container import from_bytes, to_bytes
from dqmq_env.export.onnx_exporter import dynamic_model
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quality import Mixture
from dqmq_env.quantization.network import QuantizedNetwork
from dqmq_env.randomness import numpy_generator
from dqmq_env.training.loop import Schedule
from dqmq_env.zoo.architectures import architecture_names, build

EVERYTHING = ("quality", "statistics", "channels", "map")
MANY = {"lowest_budget": 0.15, "budget": 0.5}  # a half is one in float32 too
SCHEDULE = Schedule(images=64, batch=32)

READER = """
import sys
from pathlib import Path
import torch
from safetensors.torch import load_file, save_file
from dqmq_env.export import load

torch.set_num_threads(1)
folder = Path(sys.argv[1])
images = load_file(folder / "images.safetensors")["images"]
found = {}
for path in sorted(folder.glob("*.dqmq")):
    network = load(path)
    for budget in (network.budget, 0.9 * network.budget):
        network.budget = budget
        prediction = network(images)
        for name in ("logits", "cost", "bits"):
            value = getattr(prediction, name).contiguous()
            found[f"{path.stem} {budget:.3f} {name}"] = value
save_file(found, folder / "found.safetensors")
"""

BY_VALUE = {"decides": "network", "distribution": "value", "sees": ("map",)}
ALL = ("bits", "grids", "input")
IN_ALL = {**BY_VALUE, "ladder": 2, "align": True, "follow": ALL, "grid_share": 1.0}
MANY_RUNGS = {**IN_ALL, "ladder": 32}

ONNX_READER = """
import sys
from pathlib import Path
import torch
from safetensors.torch import load_file, save_file
from dqmq_env.export import OnnxDynamic

torch.set_num_threads(1)
folder = Path(sys.argv[1])
images = load_file(folder / "images.safetensors")["images"]
network, found = OnnxDynamic.load(folder / "net.onnx"), {}
assert network.one_by_one and len(network.layers) == len(network(images).bits[0])
for budget in (network.budget, 0.2):
    network.budget = budget
    prediction = network(images)
    for name in ("logits", "cost", "bits"):
        found[f"{budget} {name}"] = getattr(prediction, name).contiguous()
save_file(found, folder / "found.safetensors")
"""


def lively(agent: HybridAgent) -> HybridAgent:
    """Without training, with a policy whose decisions differ from image to image."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in agent.policy.head.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 2)
        for layer in agent.network.layers:
            if layer.alignment is not None:
                for parameter in layer.alignment.parameters():
                    parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
        for parameter in agent.policy.grids.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
        if isinstance(agent.policy.head, ValueHead):
            agent.policy.head.fitted.fill_(True)
    agent.network.eval()
    return agent


def make_agent(problem: NetworkProblem, **settings: Any) -> HybridAgent:
    own = HybridSettings(**{"budget": 0.3, "settle_images": 0, **settings})
    return lively(HybridAgent(BitWidthEnv(problem), own, SCHEDULE, device="cpu"))


@pytest.fixture(scope="module")
def make_problem(tiny_data: ImageData) -> Callable[..., NetworkProblem]:
    """Makes a problem over an architecture of the zoo with random weights."""

    def make(name: str, granularity: str) -> NetworkProblem:
        torch.manual_seed(0)
        module = build(**architecture_of(name))
        x = tiny_data.train.images[:32].float() / 255
        with torch.no_grad():
            module.train()(x)
        return NetworkProblem.over(
            module.eval(),
            tiny_data,
            bits=(2, 3, 5),
            granularity=granularity,
            conditions=Mixture({"clean": 1, "gaussian_noise/4": 1}),
            batch_size=20,
            calibration_images=20,
        )

    return make


def architecture_of(name: str) -> dict[str, Any]:
    return {"name": name} if name.startswith("mobilenet") else {"name": name, "width": 4}


def mixed(problem: NetworkProblem, count: int = 24) -> Tensor:
    found = [problem.search.under(own)[: count // 2] for own in problem.mixture.conditions[:2]]
    return torch.cat(found)


def packed_file(
    path: Path, agent: HybridAgent, about: About, widest: bool = False
) -> DynamicNetwork:
    """Write every width, or those that follow from the widest; return what is to be read."""
    dynamic = HybridPolicy.of(agent)
    network = agent.network.folded()
    if widest:
        network = snapped(network, network.options)
    packed = pack(network, network.options, dynamic.normalize, about, dynamic.slot)
    write(path, packed)
    return dynamic.at_work(network)


def test_every_architecture_and_granularity_in_another_process(
    make_problem: Callable[..., NetworkProblem], tmp_path: Path
) -> None:
    expected = {}
    various: set[int] = set()
    for name in architecture_names():
        for number, granularity in enumerate(("image", "batch", "static")):
            problem = make_problem(name, granularity)
            settings = {"distribution": list(HEADS)[number], "sees": EVERYTHING, **MANY}
            agent = make_agent(problem, **settings)
            path = tmp_path / f"{name}-{granularity}.dqmq"
            about = About(name, architecture_of(name))
            network = packed_file(path, agent, about, widest=granularity == "batch")
            images = mixed(problem)
            save_file({"images": images}, tmp_path / "images.safetensors")
            for budget in (network.budget, 0.9 * network.budget):
                network.budget = budget
                prediction = network(images)
                for what in ("logits", "cost", "bits"):
                    value = getattr(prediction, what).contiguous()
                    expected[f"{path.stem} {budget:.3f} {what}"] = value
                distinct = len(prediction.bits.unique(dim=0))
                assert (distinct > 1) == (granularity == "image")
                various.add(distinct)
    subprocess.run([sys.executable, "-c", READER, str(tmp_path)], check=True)
    found = load_file(tmp_path / "found.safetensors")
    assert set(found) == set(expected)
    assert max(various) > 4
    for key, value in expected.items():
        assert bool(value.isfinite().all())
        assert found[key].numpy().tobytes() == value.numpy().tobytes(), key


@pytest.mark.parametrize("settings", [{"sees": EVERYTHING}, BY_VALUE, IN_ALL])
def test_decisions_about_activations_alone_are_packed(
    make_tiny_problem: Callable[..., NetworkProblem], settings: dict[str, Any], tmp_path: Path
) -> None:
    """All widths of the input go with the same two bits of a weight."""
    problem = make_tiny_problem(bits=(1, 2, 4), weight_bits=2, granularity="image")
    agent = make_agent(problem, **settings)
    path = tmp_path / "net.dqmq"
    about = About("tiny", {"name": "resnet8", "width": 4})
    expected, images = packed_file(path, agent, about), mixed(problem)
    ours, theirs = expected(images), load(path)(images)
    assert len(ours.bits.unique(dim=0)) > 1
    assert torch.equal(ours.bits, theirs.bits)
    assert torch.equal(ours.logits, theirs.logits)
    assert torch.equal(ours.cost, theirs.cost)


@pytest.mark.parametrize(
    ("name", "settings"),
    [("resnet8", {"sees": EVERYTHING}), ("mobilenetv2", MANY_RUNGS)],
)
def test_onnx_takes_the_same_decisions_in_another_process(
    make_problem: Callable[..., NetworkProblem],
    name: str,
    settings: dict[str, Any],
    tmp_path: Path,
) -> None:
    """Either kind of architecture, one of them with a decision before each layer."""
    problem = make_problem(name, "image")
    agent = make_agent(problem, **settings, **MANY)
    dynamic = HybridPolicy.of(agent)
    model = dynamic_model(problem, agent.network, dynamic)
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    expected = dynamic.at_work(agent.network.folded())
    images = mixed(problem)
    save_file({"images": images}, tmp_path / "images.safetensors")
    subprocess.run([sys.executable, "-c", ONNX_READER, str(tmp_path)], check=True)
    found = load_file(tmp_path / "found.safetensors")
    for budget in (dynamic.budget, 0.2):
        expected.budget = budget
        ours = expected(images)
        logits, cost, bits = (found[f"{budget} {what}"] for what in ("logits", "cost", "bits"))
        same = (ours.bits == bits).all(1)
        # a decision that lies on the edge of two widths may fall to either side of it
        assert int((~same).sum()) <= 1
        assert len(ours.bits.unique(dim=0)) > 3
        spread = ours.logits.std()
        apart = (ours.logits - logits)[same].abs().amax(1) / spread
        assert float((apart < 1e-4).float().mean()) > 0.8  # see docs/onnx.md for the others
        assert torch.allclose(ours.cost[same], cost[same], atol=1e-5)


@pytest.mark.parametrize(
    ("granularity", "settings", "decided"),
    [
        ("batch", {"distribution": "softmax"}, {}),
        ("image", {"hold": "image", "sees": ("quality",)}, {}),
        ("image", {"distribution": "gumbel", "sees": ("statistics",)}, {}),
        ("image", {"sees": ("channels",)}, {"bits": (1, 2, 4), "weight_bits": 2}),
        ("image", BY_VALUE, {"bits": (1, 2, 4), "weight_bits": 2}),
        ("image", IN_ALL, {"bits": (1, 2, 4), "weight_bits": 2}),
        ("batch", {"follow": ("grids",), "group": 16}, {}),
    ],
)
def test_onnx_of_other_policies(
    make_tiny_problem: Callable[..., NetworkProblem],
    granularity: str,
    settings: dict[str, Any],
    decided: dict[str, Any],
) -> None:
    problem = make_tiny_problem(granularity=granularity, **decided)
    agent = make_agent(problem, **settings)
    dynamic = HybridPolicy.of(agent)
    model = dynamic_model(problem, agent.network, dynamic, opset=21)
    found = OnnxDynamic(model.SerializeToString())
    assert found.one_by_one == (granularity == "image")
    assert found.budget is None
    with pytest.raises(SettingError, match="budget"):
        found.budget = 0.2
    expected = dynamic.at_work(agent.network.folded())
    images = mixed(problem)
    ours, theirs = expected(images), found(images)
    assert torch.equal(ours.bits, theirs.bits)
    assert torch.allclose(ours.cost, theirs.cost, atol=1e-5)
    agreed = (ours.logits.argmax(1) == theirs.logits.argmax(1)).float().mean()
    assert float(agreed) > 0.95


def test_a_run_is_exported_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = "train --env DQMQ-ResNet8-v0 --images 64 --settle-images 0 --test-images 20"
    train += " --follow bits"  # the graph is smaller
    run = ["--run", str(tmp_path / "run")]
    main([*train.split(), *run, "--lowest-budget", "0.1", "--budget", "0.3"])
    output = tmp_path / "net.dqmq"
    main(["export", *run, "--budget", "0.2", "--weights", "widest", "--output", str(output)])
    shown = capsys.readouterr().out
    assert "policy" in shown
    assert "top-1 is that of the network before on" in shown
    card = (tmp_path / "net.dqmq.md").read_text()
    assert "a policy gives its layers their bits" in card
    network = load(output)
    assert isinstance(network, DynamicNetwork)
    assert network.budget == 0.2
    problem_images = torch.randint(0, 256, (4, 1, 28, 28), dtype=torch.uint8)
    assert network(problem_images).logits.shape == (4, 10)
    main(["export", *run, "--to", "onnx", "--output", str(tmp_path / "net.onnx")])
    assert OnnxDynamic.load(tmp_path / "net.onnx").budget == pytest.approx(0.3)
    with pytest.raises(SystemExit):
        main(["export", *run, "--to", "plain", "--output", str(tmp_path / "bits.json")])
    assert "got bits that a policy gives" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["export", *run, "--budget", "0.5", "--output", str(tmp_path / "other.dqmq")])
    assert "budget: got 0.5" in capsys.readouterr().err


def test_a_static_run_is_exported_as_a_static_network(tmp_path: Path) -> None:
    train = "train --env DQMQ-ResNet8-v0 --granularity static --images 64 --test-images 20"
    run = ["--run", str(tmp_path / "run")]
    main([*train.split(), *run, "--settle-images", "0"])
    main(["export", *run, "--output", str(tmp_path / "net.dqmq")])
    network = load(tmp_path / "net.dqmq")
    assert isinstance(network, StaticNetwork)
    evaluation = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert network(torch.zeros(1, 1, 28, 28, dtype=torch.uint8)).bits[0].tolist() == [
        round(bits) for bits in evaluation["rows"][0]["bits"]
    ]


# Damage.


@pytest.fixture(scope="module")
def good(
    make_problem: Callable[..., NetworkProblem], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("policy") / "good.dqmq"
    agent = make_agent(make_problem("resnet8", "image"), sees=EVERYTHING)
    packed_file(path, agent, About("resnet8", architecture_of("resnet8")))
    return path


def test_forged_policies_are_refused(good: Path) -> None:
    """With checksums that are right."""
    header, tensors = from_bytes(good.read_bytes(), "good")
    draw = numpy_generator(0, "forged policies")
    values = [None, -1, 0, 10**30, "x", [], {}, True]
    path = good.with_name("forged.dqmq")
    refused = 0
    for number in range(150):
        forged, own = json.loads(json.dumps(header)), dict(tensors)
        node = forged["policy"]
        if number % 3 == 0:
            names = [name for name in own if name.startswith("policy.")]
            name = names[int(draw.integers(len(names)))]
            del own[name]
        else:
            node = node if number % 9 == 1 else node["settings"]
            node = node["hybrid"] if number % 9 in (2, 4) and "hybrid" in node else node
            key = list(node)[int(draw.integers(len(node)))]
            node[key] = values[int(draw.integers(len(values)))]
        path.write_bytes(to_bytes(forged, own))
        try:
            load(path)
        except DQMQError:
            refused += 1
    assert refused > 75


def test_other_policies_are_refused(good: Path) -> None:
    packed = read(good)
    header, tensors = from_bytes(good.read_bytes(), "good")
    assert packed.policy is not None
    path = good.with_name("other.dqmq")
    header["policy"]["kind"] = "foreign/7"
    path.write_bytes(to_bytes(header, tensors))
    with pytest.raises(ExportError, match="of the kind 'foreign/7' decides about bits"):
        load(path)


def test_the_policy_is_restored_whole(good: Path) -> None:
    network = load(good)
    assert isinstance(network, DynamicNetwork)
    assert isinstance(network.network, QuantizedNetwork)
    packed = read(good)
    assert packed.policy is not None
    state = network.policy.state_dict()
    assert set(state) == set(packed.policy.tensors)
