"""Files are as small as the cost ``size`` says."""

import gzip
from pathlib import Path

import pytest
import torch
from safetensors.torch import save as safetensors

from dqmq_env.costs import Size, total
from dqmq_env.evaluation.normalize import Normalize
from dqmq_env.export import Policy, pack, read, size_table, write
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.quantization.network import QuantizedNetwork
from dqmq_env.quantization.tracing import trace_layers
from dqmq_env.zoo.checkpoints import load_checkpoint

FLOAT = 4


@pytest.fixture(scope="module")
def resnet20() -> QuantizedNetwork:
    network, _ = load_checkpoint("resnet20-fashion-mnist")
    x = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    specs = trace_layers(network, x)
    quantized = QuantizedNetwork(network, specs, {spec.name: (2, 3, 4, 8) for spec in specs})
    quantized.calibrate(x)
    return quantized


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_a_file_is_the_size_cost_and_the_floats_that_are_stated(
    resnet20: QuantizedNetwork, tmp_path: Path, bits: int
) -> None:
    network, _ = load_checkpoint("resnet20-fashion-mnist")
    assignment = BitAssignment(
        {
            name: (8 if name in ("conv1", "fc") else (bits, 8, 4)[number % 3 % bits], 8)
            for number, name in enumerate(resnet20.candidates)
        }
    )
    packed = pack(resnet20, assignment, Normalize([0.5], [0.5]))
    write(tmp_path / "net.dqmq", packed)
    sizes = size_table(packed, network)
    size = total(Size(), resnet20.specs, assignment) / 8
    channels = sum(spec.out_channels for spec in resnet20.specs)
    layers = len(resnet20.specs)
    normed = channels - resnet20.specs[-1].out_channels
    assert sizes.total == (tmp_path / "net.dqmq").stat().st_size
    parts = (sizes.codes, sizes.steps, sizes.floats, sizes.policy, sizes.header)
    assert sum(parts) == sizes.total
    assert size <= sizes.codes <= size + layers
    # a step of each channel, the factor of its batch norm, a bias; a step and a range of each input
    assert sizes.steps == FLOAT * (channels + normed + 2 * layers)
    assert sizes.floats == FLOAT * channels
    assert sizes.total - sizes.header == pytest.approx(size + sizes.steps + sizes.floats, rel=0.03)
    assert sizes.header < 4096
    assert sizes.eight_bits == pytest.approx(
        sizes.total - size + sum(spec.weights for spec in resnet20.specs), abs=layers
    )


def test_the_float_file_is_what_safetensors_makes_of_the_network(
    resnet20: QuantizedNetwork,
) -> None:
    network, _ = load_checkpoint("resnet20-fashion-mnist")
    packed = pack(resnet20, resnet20.uniform(4), Normalize([0.5], [0.5]))
    sizes = size_table(packed, network)
    data = safetensors(network.state_dict())
    assert sizes.float32 == len(data)
    assert sizes.gzip == len(gzip.compress(data, 9))
    text = sizes.text()
    for value in (sizes.total, sizes.gzip, sizes.header):
        assert f"{value:,}" in text
        assert f"| {value:,} |" in sizes.markdown()


def test_a_policy_is_counted(tiny_problem: NetworkProblem, tmp_path: Path) -> None:
    policy = Policy("mine/1", {}, {"w": torch.zeros(100)})
    quantized = tiny_problem.quantized
    packed = pack(quantized, quantized.options, tiny_problem.normalize, policy=policy)
    sizes = size_table(packed, tiny_problem.network)
    assert sizes.policy == 100 * FLOAT
    write(tmp_path / "net.dqmq", packed)
    assert read(tmp_path / "net.dqmq").network.widest == tiny_problem.uniform(8)
