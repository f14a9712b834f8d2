from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from dqmq_env.problem.protocol import Rollout
from dqmq_env.quality import Condition, Mixture
from dqmq_env.quantization.spec import LayerSpec


@dataclass(frozen=True)
class TableStub:
    """What tasks ask of a problem, without a network."""

    layers: Sequence[LayerSpec]
    candidates: Mapping[str, tuple[int, ...]]
    activation_candidates: Mapping[str, tuple[int, ...]]
    mixture: Mixture
    batches: int = 1

    def weight_error(self, name: str) -> NDArray[np.float64]:
        return np.array([0.5**bits for bits in self.candidates[name]])

    def activation_error(self, name: str) -> NDArray[np.float64]:
        return np.array([0.75**bits for bits in self.activation_candidates[name]])

    def start(self, conditions: Sequence[Condition], batches: Sequence[int]) -> Rollout:
        raise NotImplementedError


@pytest.fixture(scope="session")
def make_stub() -> Callable[..., TableStub]:
    """Makes a problem of layers with the given numbers of weights and MACs.

    Activations have the candidates of the weights, unless they are given their own.
    """

    def make(
        layers: Sequence[tuple[int, int]],
        bits: tuple[int, ...] = (2, 4, 8),
        pinned: Mapping[int, int] | None = None,
        activation_bits: tuple[int, ...] | None = None,
    ) -> TableStub:
        specs = [
            LayerSpec(
                f"layer{i}",
                "depthwise" if i == 1 else "conv",
                2 + i,
                4,
                3,
                1 + i % 2,
                1,
                weights,
                macs,
                (2 + i, 6, 5),
                (4, 6, 5),
            )
            for i, (weights, macs) in enumerate(layers)
        ]
        fixed = {specs[i].name: (width,) for i, width in (pinned or {}).items()}
        names = [spec.name for spec in specs]
        return TableStub(
            specs,
            dict.fromkeys(names, bits) | fixed,
            dict.fromkeys(names, activation_bits or bits) | fixed,
            Mixture.uniform(["clean"]),
        )

    return make
