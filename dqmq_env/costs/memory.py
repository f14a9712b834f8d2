"""Memory traffic of one image; free of torch."""

from dataclasses import dataclass

from dqmq_env.costs.cost import activations
from dqmq_env.quantization.assignment import LayerBits
from dqmq_env.quantization.spec import LayerSpec


@dataclass(frozen=True)
class Memory:
    """Bits that the layers read for one image: weights x bits + received values x bits.

    Every weight once, every activation once by each layer that receives it. This is traffic, not
    the most that has to be held at a time: a peak is no sum over layers, and budgets, integer
    programmes and masks rest on sums. Biases and steps are not counted.
    """

    name: str = "memory"

    def of(self, spec: LayerSpec, bits: LayerBits) -> float:
        """Bits that the layer reads for one image."""
        return spec.weights * bits.weight + activations(spec) * bits.activation
