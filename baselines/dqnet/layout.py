"""Which layers the controller decides about, between which bits, and what that costs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from baselines.dqnet.controller import controller_bops
from baselines.dqnet.settings import Settings
from dqmq_env.costs import Bops, layer_table, reference
from dqmq_env.errors import AssignmentError, BudgetError, SettingError
from dqmq_env.problem.protocol import Problem
from dqmq_env.quantization.candidates import joint_options
from dqmq_env.task.decisions import JointDecisions, plan_of


@dataclass(frozen=True, eq=False)
class Layout:
    """Which layers are decided about, between what, and at what cost.

    BOPs are fractions of the network's at 8 bits.

    Attributes:
        fixed: index of each other layer to the position of its bits among its options.
        controlled: indices of the layers decided about, in forward order.
        choices: positions of the bits that each of them may get.
        widths: these bits.
        controller: BOPs of deciding about one image.
        spent: BOPs that no choice changes, those of the controller among them.
        table: BOPs that each choice of each layer adds, float32 (D, C).
    """

    fixed: Mapping[int, int]
    controlled: tuple[int, ...]
    choices: range
    widths: tuple[int, ...]
    controller: float
    spent: float
    table: Tensor

    @property
    def lowest(self) -> float:
        """The smallest BOPs that choices can give."""
        return self.spent + float(self.table[:, 0].sum())

    @property
    def roomy(self) -> float:
        """The BOPs halfway from the lowest choice everywhere to the next one everywhere."""
        return self.spent + float(self.table[:, :2].sum()) / 2

    def cost(self, chosen: Tensor) -> Tensor:
        """BOPs of each image, shape (N,).

        Args:
            chosen: which of the choices each layer got, int64 (N, D).
        """
        return self.spent + self.table[torch.arange(len(self.controlled)), chosen].sum(1)


@dataclass(frozen=True, eq=False)
class Measure:
    """What the hinge is on: a number that choices add up to, for each image.

    Attributes:
        fixed: what no choice changes.
        table: what each choice of each layer adds, shape (D, C).
        target: what its mean over images is to stay below.
    """

    fixed: float
    table: Tensor
    target: float

    def of(self, one_hot: Tensor) -> Tensor:
        """The number for each image, shape (N,).

        Args:
            one_hot: what was chosen, shape (N, D, C); gradients pass through.
        """
        return self.fixed + one_hot.flatten(1) @ self.table.flatten()


def layout_of(problem: Problem, settings: Settings, budget: float) -> Layout:
    """Settle what the settings leave open, so that the budget can be kept.

    Raises:
        AssignmentError: a width that was set is no candidate, or no layer leaves a choice.
        SettingError: ``stem`` leaves no layer to the controller.
        BudgetError: the lowest choices everywhere exceed the budget, or it is no number above 0.
    """
    if not 0 < budget < math.inf:
        raise BudgetError(f"budget: got {budget}, allowed are finite numbers above 0")
    widths = plan_of(problem, JointDecisions()).candidates
    draft = _Draft(problem, settings, widths)
    base = draft.base(budget) if settings.base is None else _place("base", settings.base, widths)
    if settings.stem_bits is None:
        stems = list(range(base, -1, -1))
    else:
        stems = [_place("stem_bits", settings.stem_bits, widths)]
    layouts = [draft.layout(base, stem) for stem in stems]
    last = layouts[-1]
    if last.lowest > budget:
        raise BudgetError(
            f"budget: got {budget}, the smallest reachable is {last.lowest:.6f}: choices "
            f"{list(last.widths)}, {widths[stems[-1]]} bits in the first stage, controller included"
        )
    return next((layout for layout in layouts if layout.roomy <= budget), last)


def measure_of(layout: Layout, settings: Settings, budget: float) -> Measure:
    """What the hinge is on.

    The target in mean bits is the uniform, fractional number of bits of the controlled layers whose
    BOPs are the budget.
    """
    if settings.cost == "bops":
        return Measure(layout.spent, layout.table, budget)
    layers = len(layout.controlled)
    share = torch.tensor(layout.widths, dtype=torch.float32) / layers
    # BOPs grow with the square of bits, so what lies between two is found between their roots
    roots = layout.table.sum(0).sqrt().numpy()
    target = float(np.interp(math.sqrt(budget - layout.spent), roots, layout.widths))
    return Measure(0.0, share.repeat(layers, 1), target)


class _Draft:
    """The layouts that are possible."""

    def __init__(self, problem: Problem, settings: Settings, widths: tuple[int, ...]) -> None:
        specs = problem.layers
        options = {
            spec.name: joint_options(
                problem.candidates[spec.name], problem.activation_candidates[spec.name]
            )
            for spec in specs
        }
        sizes = [len(options[spec.name]) for spec in specs]
        decided = tuple(index for index, size in enumerate(sizes) if size > 1)
        stem = len(decided) // 3 if settings.stem is None else settings.stem
        if not 0 <= stem < len(decided):
            raise SettingError(
                f"stem: got {stem}, allowed are 0 to {len(decided) - 1}, as {len(decided)} layers "
                "leave a choice"
            )
        self._stem, self._controlled = decided[:stem], decided[stem:]
        self._single = [index for index in range(len(specs)) if index not in decided]
        self._settings, self._widths = settings, widths
        self._seen = specs[self._controlled[0]]
        self._whole = reference(Bops(), specs)
        self._rows = layer_table(Bops(), specs, options)

    def base(self, budget: float) -> int:
        """Of the positions that have two neighbours, the one nearest to the budget."""
        inner = range(1, len(self._widths) - 1) or range(1)
        return min(inner, key=lambda place: abs(math.log(self._uniform(place) / budget)))

    def layout(self, base: int, stem: int) -> Layout:
        """The layout around a base, with the first stage's bits at the position ``stem``."""
        last, count = len(self._widths) - 1, self._settings.choices
        reach = last if count is None else count // 2
        choices = range(max(0, base - reach), min(last, base + reach) + 1)
        fixed = dict.fromkeys(self._single, 0) | dict.fromkeys(self._stem, stem)
        outputs = len(self._controlled) * len(choices)
        pool, hidden = self._settings.pool, self._settings.hidden
        controller = controller_bops(self._seen, outputs, pool, hidden) / self._whole
        spent = controller + sum(float(self._rows[own][place]) for own, place in fixed.items())
        rows = [self._rows[index][choices.start : choices.stop] for index in self._controlled]
        return Layout(
            fixed,
            self._controlled,
            choices,
            tuple(self._widths[place] for place in choices),
            controller,
            spent,
            torch.tensor(np.array(rows), dtype=torch.float32),
        )

    def _uniform(self, place: int) -> float:
        layout = self.layout(place, place)
        return layout.spent + float(layout.table[:, layout.choices.index(place)].sum())


def _place(argument: str, bits: int, widths: tuple[int, ...]) -> int:
    if bits not in widths:
        raise AssignmentError(f"{argument}: got {bits} bits, the candidates are {list(widths)}")
    return widths.index(bits)
