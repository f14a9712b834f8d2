"""What is written here is the same in another process."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dqmq_env.evaluation.deployed import StaticNetwork
from dqmq_env.evaluation.normalize import Normalize
from dqmq_env.export import About, save, snapped
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.quantization.integer_kernel import integers_are_fast, use_integer_kernels
from dqmq_env.quantization.network import QuantizedNetwork
from dqmq_env.quantization.post_training import Reconstruction
from dqmq_env.quantization.scheme import Scheme
from dqmq_env.quantization.scheme_names import SCHEMES
from dqmq_env.quantization.tracing import trace_layers
from dqmq_env.search.rule import Rule
from dqmq_env.training.fine_tune import RuleNetwork
from dqmq_env.zoo.architectures import architecture_names, build

NORMALIZE = Normalize([0.286], [0.353])

READER = """
import sys
from pathlib import Path
import torch
from safetensors.torch import load_file, save_file
from dqmq_env.export import load
from dqmq_env.training.fine_tune import RuleNetwork

torch.set_num_threads(1)
folder = Path(sys.argv[1])
images = load_file(folder / "images.safetensors")["images"]
found = {}
for path in sorted(folder.glob("*.dqmq")):
    network = load(path)
    if isinstance(network, RuleNetwork):
        for condition in network.rule:
            found[f"{path.stem} {condition}"] = network.under(condition)(images).logits
    else:
        found[path.stem] = network(images).logits
save_file(found, folder / "found.safetensors")
"""


def architecture_of(name: str) -> dict[str, object]:
    """Narrow where that can be had."""
    return {"name": name} if name.startswith("mobilenet") else {"name": name, "width": 4}


def quantized(module: nn.Module, x: Tensor, scheme: Scheme) -> QuantizedNetwork:
    specs = trace_layers(module, x[:1])
    widths = {spec.name: (2, 5, 8) for spec in specs}
    network = QuantizedNetwork(module, specs, widths, scheme=scheme)
    return network.to(memory_format=torch.channels_last)


def made(name: str, x: Tensor, scheme: Scheme, fitted: bool) -> QuantizedNetwork:
    torch.manual_seed(0)
    module = build(**architecture_of(name))  # type: ignore[arg-type]
    with torch.no_grad():
        module.train()(x)
    network = quantized(module.eval(), x, scheme)
    if fitted:
        network = network.folded()
        Reconstruction(patches=128, shares=(1.0,))(network, x[:4])
        if integers_are_fast():
            use_integer_kernels(network)
    else:
        network.calibrate(x[:4])
    return network


@pytest.fixture(scope="module")
def images(tiny_problem: NetworkProblem) -> Tensor:
    return tiny_problem.data.test.images[:6]


def test_every_architecture_and_scheme_and_rules(
    tiny_input: Tensor, images: Tensor, tmp_path: Path
) -> None:
    expected = {}
    save_file({"images": images}, tmp_path / "images.safetensors")
    for name in architecture_names():
        about = About(name, architecture_of(name))
        for kind, scheme in (("fitted", SCHEMES["lsq"]), *SCHEMES.items()):
            network = made(name, tiny_input[:16], scheme, kind == "fitted")
            names = list(network.candidates)
            mixed = BitAssignment(
                {own: ((2, 5, 8)[i % 3], (8, 5)[i % 2]) for i, own in enumerate(names)}
            )
            static = StaticNetwork(network, mixed, NORMALIZE)
            save(tmp_path / f"{name}-{kind}.dqmq", static, about)
            expected[f"{name}-{kind}"] = static(images).logits
            rule = Rule({"clean": network.uniform(2), "jpeg/5": mixed})
            own = RuleNetwork(snapped(network, rule), rule, NORMALIZE)
            save(tmp_path / f"{name}-{kind}-rule.dqmq", own, about)
            for condition in rule:
                logits = own.under(condition)(images).logits
                expected[f"{name}-{kind}-rule {condition}"] = logits
    subprocess.run([sys.executable, "-c", READER, str(tmp_path)], check=True)
    found = load_file(tmp_path / "found.safetensors")
    assert set(found) == set(expected)
    for key, logits in expected.items():
        assert bool(logits.isfinite().all())
        assert found[key].numpy().tobytes() == logits.numpy().tobytes(), key


def test_the_same_network_gives_the_same_file(
    make_tiny_problem: Callable[..., NetworkProblem], tmp_path: Path
) -> None:
    for number in range(2):
        problem = make_tiny_problem((2, 4), calibration_images=10)
        network = StaticNetwork(problem.quantized, problem.uniform(2), problem.normalize)
        save(tmp_path / f"{number}.dqmq", network)
    assert (tmp_path / "0.dqmq").read_bytes() == (tmp_path / "1.dqmq").read_bytes()
