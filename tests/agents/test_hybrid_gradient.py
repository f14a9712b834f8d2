"""The gradient goes through the quantised network into the policy: finite differences agree."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from agents.hybrid import view
from agents.hybrid.controller import Controller, Sampling
from agents.hybrid.costing import Costing
from agents.hybrid.eyes import Scene
from agents.hybrid.gradient import GRADIENTS
from agents.hybrid.heads import Drawn
from agents.hybrid.objective import paired_term, score_term
from agents.hybrid.policy import BitPolicy, make_policy
from agents.hybrid.settings import HybridSettings
from agents.hybrid.view import View
from dqmq_env.costs import Bops
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quantization.grid import Grid
from dqmq_env.quantization.network import QuantizedNetwork
from dqmq_env.quantization.scheme import LSQ

EVERYTHING = ("quality", "statistics", "channels", "map")
STEP = 1e-6


@dataclass(frozen=True)
class Smooth(LSQ):
    """Inputs are rounded half of the way, without corners, so that differences mean something.

    Real rounding has a derivative of zero almost everywhere, and training a gradient of one.
    """

    def input(self, x: Tensor, step: Tensor, grid: Grid, count: int) -> Tensor:
        turn = 2 * math.pi / step.detach()
        return x - torch.sin(x * turn) / (2 * turn)


@dataclass(frozen=True)
class Relaxation:
    """A network and a policy in double precision, and some images."""

    network: QuantizedNetwork
    policy: BitPolicy
    costing: Costing
    images: Tensor
    labels: Tensor
    scene: Scene

    def objective(self) -> Tensor:
        """The task's loss and the expected cost, at bits of which the mean is computed."""
        groups = len(self.scene.quality)
        budget = torch.linspace(0.2, 0.4, groups, dtype=torch.float64)
        sampling = Sampling(GRADIENTS["relaxed"], torch.Generator().manual_seed(0))
        controller = Controller(
            self.policy, self.network, self.costing, self.scene, budget, 0.8, sampling
        )
        logits = self.network(self.images, controller)
        loss = torch.nn.functional.cross_entropy(logits, self.labels)
        return loss + 3 * controller.expected_cost.mean()

    def gradients(self) -> dict[str, Tensor]:
        self.policy.zero_grad()
        self.objective().backward()  # type: ignore[no-untyped-call]
        return {
            name: torch.zeros_like(own) if own.grad is None else own.grad.clone()
            for name, own in self.policy.named_parameters()
        }

    def difference(self, parameter: Tensor, direction: Tensor) -> float:
        """The derivative along a direction, by central differences."""
        values = []
        before = parameter.detach().clone()
        for sign in (1, -1):
            with torch.no_grad():
                parameter.copy_(before + sign * STEP * direction)
                values.append(float(self.objective()))
        with torch.no_grad():
            parameter.copy_(before)
        return (values[0] - values[1]) / (2 * STEP)


@pytest.fixture
def make_relaxation(
    make_tiny_problem: Callable[..., NetworkProblem], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Relaxation]:
    # the eyes' 8-bit numbers pass gradients straight through, which differences do not
    monkeypatch.setattr(view, "rounded", lambda x, reach: x)
    monkeypatch.setattr(view, "rounded_weight", lambda weight: weight)

    def make(distribution: str, granularity: str = "image", **changes: Any) -> Relaxation:
        problem = make_tiny_problem((2, 3, 5), granularity=granularity)
        network = copy.deepcopy(problem.trainable(Smooth())).double().eval()
        settings = HybridSettings(
            **{
                "lowest_budget": 0.2,
                "budget": 0.4,
                "sees": EVERYTHING,
                "distribution": distribution,
                **changes,
            }
        )
        torch.manual_seed(2)
        policy = make_policy(network, settings, granularity).double()
        with torch.no_grad():
            for parameter in policy.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.3)
            policy.anchors.fill_(3.0)
        images = problem.data.train.images[:6]
        size = 1 if granularity == "image" else 3
        seen = policy.scene(images, 6 // size)
        cells = None if seen.cells is None else seen.cells.double()
        scene = Scene(seen.quality.double(), cells)
        x = problem.normalize(images).double()
        labels = problem.data.train.labels[:6]
        return Relaxation(network, policy, Costing(Bops(), network, policy), x, labels, scene)

    return make


@pytest.mark.parametrize(
    ("distribution", "granularity", "sees"),
    [
        ("logistic", "image", EVERYTHING),
        ("logistic", "batch", EVERYTHING),
        ("softmax", "image", EVERYTHING),
        ("logistic", "image", ("map", "statistics")),
    ],
)
def test_gradients_are_finite_differences(
    make_relaxation: Callable[..., Relaxation],
    distribution: str,
    granularity: str,
    sees: tuple[str, ...],
) -> None:
    """Of every parameter of the policy, through every layer and every later observation."""
    relaxation = make_relaxation(distribution, granularity, sees=sees)
    gradients = relaxation.gradients()
    generator = torch.Generator().manual_seed(3)
    parameters = dict(relaxation.policy.named_parameters())
    assert len(parameters) >= 6
    for name, parameter in parameters.items():
        for _ in range(2):
            direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            expected = relaxation.difference(parameter, direction)
            found = float((gradients[name] * direction).sum())
            assert found == pytest.approx(expected, rel=2e-4, abs=1e-8), name
        assert float(gradients[name].abs().sum()) > 0, name


def test_gumbel_noise_does_not_stand_in_the_way(
    make_relaxation: Callable[..., Relaxation],
) -> None:
    """With the same noise, the relaxed sample is a smooth function of the parameters too."""
    relaxation = make_relaxation("gumbel")
    gradients = relaxation.gradients()
    parameter = dict(relaxation.policy.named_parameters())["head.base"]
    direction = torch.randn(parameter.shape, dtype=torch.float64)
    expected = relaxation.difference(parameter, direction)
    assert float((gradients["head.base"] * direction).sum()) == pytest.approx(expected, rel=2e-4)


def test_later_observations_carry_part_of_the_gradient(
    make_relaxation: Callable[..., Relaxation], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off from what later layers see, the gradient of the first decision is another one."""
    relaxation = make_relaxation("logistic")
    whole = relaxation.gradients()["head.gain"]
    look = View.look

    def cut(
        self: View, decision: int, scene: Scene, activation: Tensor, reach: Tensor
    ) -> view.Look:
        return look(self, decision, scene, activation.detach(), reach)

    monkeypatch.setattr(View, "look", cut)
    part = relaxation.gradients()["head.gain"]
    assert torch.allclose(whole[-1], part[-1], rtol=1e-6)  # nothing is seen after the last
    apart = (whole[:-1] - part[:-1]).norm() / whole[:-1].norm()
    assert float(apart) > 1e-3


@pytest.mark.parametrize("gradient", ["score", "paired"])
def test_the_score_functions_are_right_on_average(
    make_tiny_problem: Callable[..., NetworkProblem], gradient: str
) -> None:
    """Against the exact gradient of the expected loss of some images, over all assignments."""
    problem = make_tiny_problem((2, 8), granularity="image")
    network = copy.deepcopy(problem.trainable()).eval()
    settings = HybridSettings(budget=0.4, sees=("quality",))
    torch.manual_seed(4)
    policy = make_policy(network, settings, "image")
    with torch.no_grad():
        policy.head.gain.mul_(10)
        policy.anchors.fill_(5.0)
    images, labels = problem.data.train.images[:16], problem.data.train.labels[:16]
    x, scene = problem.normalize(images), policy.scene(images, 16)
    budget = torch.full((16,), 0.4)
    costing = Costing(Bops(), network, policy)
    parameters = list(policy.head.parameters())

    def run(own: BitPolicy, generator: torch.Generator) -> tuple[Tensor, Controller]:
        sampling = Sampling(GRADIENTS[gradient], generator)
        controller = Controller(own, network, costing, scene, budget, 1.0, sampling)
        logits = network(x, controller)
        return torch.nn.functional.cross_entropy(logits, labels, reduction="none"), controller

    def flat(value: Tensor) -> Tensor:
        found = torch.autograd.grad(value, parameters)
        return torch.cat([own.flatten() for own in found])

    exact = torch.zeros(sum(own.numel() for own in parameters))
    for bits in range(2**6):
        losses, controller = run(Fixed(policy, bits), torch.Generator())
        assert controller.log_probability is not None
        exact += flat((controller.log_probability.exp() * losses.detach()).mean())
    draws = []
    generator = torch.Generator().manual_seed(0)
    for _ in range(400):
        losses, controller = run(policy, generator)
        if gradient == "paired":
            with torch.no_grad():
                against, other = run(policy, generator)
            draws.append(flat(paired_term(losses, controller, against, other)))
        else:
            assert controller.log_probability is not None
            draws.append(flat(score_term(losses, controller.log_probability)))
    found = torch.stack(draws)
    error = found.std(0) / len(draws) ** 0.5
    if gradient == "paired":  # where the same images are compared, much less noise is left
        assert float(exact.norm()) > 8 * float(error.norm())
    assert float(((found.mean(0) - exact) / error).abs().max()) < 4.5


class Fixed(BitPolicy):
    """A policy that takes the widths that the binary digits of a number say."""

    def __init__(self, policy: BitPolicy, bits: int) -> None:
        torch.nn.Module.__init__(self)
        self.view, self._policy, self._bits, self.once = policy.view, policy, bits, False

    def draw(self, decision: int, *rest: Any, **_: Any) -> tuple[Drawn, Tensor | None]:
        drawn, memory = self._policy.draw(decision, *rest[:4], None)
        taken = torch.full_like(drawn.sample, (self._bits >> decision) & 1)
        return Drawn(drawn.probabilities, drawn.relaxed, taken), memory
