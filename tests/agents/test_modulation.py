"""Grids that follow the image: scale and offset of each channel, from what is seen of it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from agents.hybrid.agent import HybridAgent
from agents.hybrid.eight_bits import product
from agents.hybrid.export import HybridPolicy
from agents.hybrid.settings import HybridSettings
from dqmq_env.data import ImageData
from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.errors import SettingError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quantization.assignment import LayerBits
from dqmq_env.quantization.choice import ImageBits, Modulated
from tests.agents.by_value import agent_by_value, mixed_images


@pytest.fixture(scope="module")
def make_problem(make_tiny_problem: Callable[..., NetworkProblem]) -> Callable[..., NetworkProblem]:
    return lambda granularity: make_tiny_problem(
        bits=(1, 2, 4), weight_bits=2, granularity=granularity
    )


@pytest.fixture(scope="module", params=[("bits", "grids"), ("grids",)])
def trained(
    request: pytest.FixtureRequest, make_problem: Callable[..., NetworkProblem]
) -> HybridAgent:
    return agent_by_value(make_problem("image"), follow=request.param).learn()


def test_an_output_is_scaled_and_shifted_group_by_group(tiny_problem: NetworkProblem) -> None:
    layer = tiny_problem.trainable().eval().layers[1]
    x = torch.rand(6, *layer.spec.input_shape)
    bits = layer.options[-1]
    plain = layer.compute(x, bits)
    scale = torch.rand(3, layer.spec.out_channels) + 0.5
    offset = torch.randn(3, layer.spec.out_channels)
    found = layer.compute(x, Modulated(bits, scale, offset))
    for image in range(6):
        own = plain[image] * scale[image // 2, :, None, None] + offset[image // 2, :, None, None]
        torch.testing.assert_close(found[image], own)
    for_all = layer.compute(x, Modulated(ImageBits((bits,) * 6), scale[:1], offset[:1]))
    torch.testing.assert_close(for_all, plain * scale[0, :, None, None] + offset[0, :, None, None])


def test_products_of_integers_do_not_depend_on_what_else_is_in_the_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(70, 8, generator=generator) * 2 - 1
    weight = torch.randn(8, 33, generator=generator).requires_grad_()
    together = product(x, 1.0, weight)
    alone = torch.cat([product(x[row : row + 1], 1.0, weight) for row in range(70)])
    assert torch.equal(together, alone)
    torch.testing.assert_close(together, x @ weight, atol=0.15, rtol=0)
    product(x, 1.0, weight).sum().backward()
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, x.sum(0)[:, None].expand(8, 33), atol=0.3, rtol=0)
    zero = torch.zeros(8, 3, requires_grad=True)
    product(x, 1.0, zero).sum().backward()
    assert zero.grad is not None
    assert bool(zero.grad.isfinite().all())


def test_grids_begin_alike_for_all_images(make_problem: Callable[..., NetworkProblem]) -> None:
    problem = make_problem("image")
    images = mixed_images(problem)
    found = [
        agent_by_value(problem, follow=follow).deployed()(images).logits
        for follow in (("bits",), ("bits", "grids"))
    ]
    torch.testing.assert_close(*found)


def test_grids_learn_to_follow_the_image_by_gradients(trained: HybridAgent) -> None:
    modulation = trained.policy.grids.modulation
    assert modulation is not None
    for parameter in (*modulation.scales, *modulation.offsets):
        assert float(parameter.detach().abs().max()) > 1e-3
    images = mixed_images(trained.problem)
    scene = trained.policy.scene(images, len(images))
    bits = LayerBits(8, 8)
    chooser = modulation.around(lambda index, activation: bits, scene)
    given = [chooser(index, images) for index in range(len(trained.network.layers))]
    assert given[-1] == bits  # logits are not rounded any more
    for own in given[:-1]:
        assert isinstance(own, Modulated)
        assert own.scale.shape == own.offset.shape
        assert float(own.scale.detach().std(0).max()) > 0


def test_gradients_of_grids_are_those_of_finite_differences(
    make_problem: Callable[..., NetworkProblem],
) -> None:
    agent = agent_by_value(make_problem("image"), follow=("bits", "grids"))
    modulation, images = agent.policy.grids.modulation, mixed_images(agent.problem, 8)
    assert modulation is not None
    scene = agent.policy.scene(images, len(images))
    x = agent.problem.normalize(images)
    float_bits = LayerBits(32, 32)
    chooser = modulation.around(lambda index, activation: float_bits, scene)
    parameter = modulation.offsets[2]
    agent.network.eval()

    def loss() -> Tensor:
        logits: Tensor = agent.network(x, modulation.around(lambda i, a: float_bits, scene))
        return logits.logsumexp(1).sum()

    parameter.data[0, 0] = 0.5  # a grid to stand on
    agent.network(x, chooser)
    loss().backward()
    assert parameter.grad is not None
    slope = float(parameter.grad[0, 0])
    step = 0.5 / 127 * 4
    ends = []
    for sign in (1, -1):
        with torch.no_grad():
            parameter.data[0, 0] = 0.5 + sign * step
            ends.append(float(loss()))
    assert slope == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=0.1)


def test_without_bits_that_follow_all_images_have_the_same(
    make_problem: Callable[..., NetworkProblem],
) -> None:
    agent = agent_by_value(make_problem("image"), follow=("grids",)).learn()
    prediction = agent.deployed()(mixed_images(agent.problem))
    assert len(prediction.bits.unique(dim=0)) == 1
    assert float(prediction.cost.max()) <= 0.1
    assert HybridPolicy.of(agent).settled(agent.network) is None  # grids still follow


def test_folding_keeps_what_is_computed(trained: HybridAgent) -> None:
    images = mixed_images(trained.problem)
    folded = trained.deployed()
    assert not any(isinstance(own, torch.nn.BatchNorm2d) for own in folded.network.modules())
    plain = trained._dynamic(trained.settings.budget)
    scene = trained.policy.scene(images, len(images))
    x = trained.problem.normalize(images)
    # in float, so that no rounding hides what differs
    logits = [
        network.eval()(*policy.grids.around(x, lambda index, activation: LayerBits(32, 32), scene))
        for network, policy in ((plain.network, plain.policy), (folded.network, folded.policy))
    ]
    torch.testing.assert_close(*logits, atol=1e-3, rtol=1e-3)


def test_each_image_is_classified_as_if_it_came_alone(trained: HybridAgent) -> None:
    deployed = trained.deployed()
    images = mixed_images(trained.problem, 32)
    together = deployed(images)
    alone = [deployed(images[number : number + 1]) for number in range(len(images))]
    assert torch.equal(together.bits, torch.cat([own.bits for own in alone]))
    torch.testing.assert_close(
        together.logits, torch.cat([own.logits for own in alone]), atol=1e-4, rtol=1e-4
    )


def test_what_it_takes_is_counted(make_problem: Callable[..., NetworkProblem]) -> None:
    problem = make_problem("image")
    controllers = {
        follow: agent_by_value(problem, follow=follow).costing.controller
        for follow in (("bits",), ("grids",), ("bits", "grids"))
    }
    assert controllers["bits",] < controllers["bits", "grids"]
    assert controllers["grids",] < controllers["bits", "grids"]
    # the image is looked at once for both
    assert controllers["bits", "grids"] < controllers["bits",] + controllers["grids",]
    channels = sum(spec.out_channels for spec in problem.layers[:-1])
    reference = sum(spec.macs for spec in problem.layers) * 64
    extra = (controllers["bits", "grids"] - controllers["bits",]) * reference
    cells = 2 * problem.layers[0].input_shape[0] * 16
    assert extra == pytest.approx(64 * (8 * cells + 2 * 8 * channels + 4 * channels))


def test_grids_follow_where_they_are_cheap_beside_a_bit(
    make_problem: Callable[..., NetworkProblem], tmp_path: Path
) -> None:
    problem = make_problem("image")
    followed = {}
    for share in (1e-6, 0.03, 0.06, 0.1, 0.2):
        agent = agent_by_value(problem, follow=("bits", "grids"), grid_share=share)
        modulation = agent.policy.grids.modulation
        assert modulation is not None
        followed[share] = modulation.followed
        for layer, spec in zip(agent.network.layers[1:-1], problem.layers[1:-1], strict=True):
            a_bit = spec.macs * layer.options[0].weight
            grid = 64 * spec.out_channels * (2 * 8 + 4)  # two products of an embedding of 8
            assert (layer.index in modulation.followed) == (grid <= share * a_bit)
    counts = [len(own) for own in followed.values()]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (1, len(problem.layers) - 1)

    share = next(share for share, own in followed.items() if len(own) > 1)
    agent = agent_by_value(problem, follow=("grids",), grid_share=share).learn()
    images = mixed_images(problem)
    path = tmp_path / "agent.dqmq"
    agent.save(path)
    loaded = HybridAgent.load(path, BitWidthEnv(problem), device="cpu").deployed()
    assert torch.equal(loaded(images).logits, agent.deployed()(images).logits)
    modulation = agent.policy.grids.modulation
    assert modulation is not None
    assert 1 < len(modulation.followed) < len(problem.layers) - 1  # some of the layers
    bits = agent.network.layers[-1].options[-1]
    scene = agent.policy.scene(images, len(images))
    chooser = modulation.around(lambda index, activation: bits, scene)
    for index in range(len(problem.layers)):
        follows = isinstance(chooser(index, images), Modulated)
        assert follows == (index in modulation.followed)


def test_a_loaded_agent_computes_alike(trained: HybridAgent, tmp_path: Path) -> None:
    images = mixed_images(trained.problem)
    trained.save(tmp_path / "agent.dqmq")
    env = BitWidthEnv(trained.problem)
    loaded = HybridAgent.load(tmp_path / "agent.dqmq", env, device="cpu")
    assert torch.equal(loaded.deployed()(images).logits, trained.deployed()(images).logits)


@pytest.mark.parametrize("granularity", ["batch", "static"])
def test_groups_share_their_grids_and_static_agents_have_one(
    granularity: str, make_problem: Callable[..., NetworkProblem]
) -> None:
    agent = agent_by_value(make_problem(granularity), 4, group=8, follow=("bits", "grids")).learn()
    images = mixed_images(agent.problem, 16)
    if granularity == "static":
        assert agent.policy.grids.modulation is None
    assert len(agent.deployed()(images).bits.unique(dim=0)) == 1


@pytest.mark.parametrize(
    ("granularity", "group", "follows"),
    [("batch", 32, False), ("batch", 8, True), ("image", 32, True)],
)
def test_grids_do_not_follow_where_batch_norms_undo_it(
    granularity: str,
    group: int,
    follows: bool,
    make_problem: Callable[..., NetworkProblem],
    tmp_path: Path,
) -> None:
    env = BitWidthEnv(make_problem(granularity))
    agent = agent_by_value(env.problem, group=group, follow=("bits", "grids", "input"))
    assert (agent.policy.grids.modulation is not None) == follows
    assert agent.policy.grids.standardization is not None
    assert agent.settings.follow == (("bits", "grids", "input") if follows else ("bits", "input"))
    agent.save(tmp_path / "agent.dqmq")
    loaded = HybridAgent.load(tmp_path / "agent.dqmq", env, device="cpu")
    assert loaded.settings == agent.settings
    images = mixed_images(env.problem, 16)
    assert torch.equal(loaded.deployed()(images).logits, agent.deployed()(images).logits)


@pytest.mark.parametrize(("groups", "undone"), [(1, True), (4, False)])
def test_batch_norms_undo_what_is_the_same_for_a_batch(
    groups: int, undone: bool, make_problem: Callable[..., NetworkProblem]
) -> None:
    agent = agent_by_value(make_problem("batch"), group=8, follow=("bits", "grids"))
    modulation, images = agent.policy.grids.modulation, mixed_images(agent.problem, 32)
    assert modulation is not None
    scene, x = agent.policy.scene(images, groups), agent.problem.normalize(images)
    found, generator = [], torch.Generator().manual_seed(0)
    agent.network.train()
    with torch.no_grad():
        for size in (0, 0.1):
            for parameter in modulation.parameters():
                parameter.add_(size * torch.randn(parameter.shape, generator=generator))
            chooser = modulation.around(lambda index, activation: LayerBits(32, 32), scene)
            found.append(agent.network(x, chooser))
    assert torch.allclose(*found, atol=1e-3, rtol=1e-3) == undone


def test_grids_follow_where_no_batch_norm_undoes_it(tiny_data: ImageData) -> None:
    convolutions = [nn.Conv2d(1, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 4, 3, 2), nn.ReLU()]
    network = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(4 * 6 * 6, 10))
    problem = NetworkProblem.over(network.eval(), tiny_data, bits=(2, 4), calibration_images=40)
    agent = agent_by_value(problem, group=32, follow=("grids",), budget=0.9)
    assert problem.granularity == "batch"
    assert agent.policy.grids.modulation is not None


def test_grids_alone_are_refused_where_batch_norms_undo_them(
    make_problem: Callable[..., NetworkProblem],
) -> None:
    with pytest.raises(SettingError, match="group=32 and batches of 32, whose batch norms undo"):
        agent_by_value(make_problem("batch"), group=32, follow=("grids",))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"follow": ()}, "follow: got \\[\\], allowed are any"),
        ({"follow": ("bits", "weights")}, "follow: got \\['bits', 'weights'\\]"),
        ({"follow": ("grids",), "sees": ("channels",)}, "which needs one of"),
        ({"grid_share": 0}, "grid_share: got 0, allowed is above 0"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    settings: dict[str, Sequence[str]], message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        HybridSettings(**settings)  # type: ignore[arg-type]
