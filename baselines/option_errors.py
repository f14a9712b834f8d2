"""How badly each option of a layer rounds what decisions are about."""

from collections.abc import Sequence

from dqmq_env.problem.protocol import Problem
from dqmq_env.quantization.assignment import LayerBits


def option_errors(problem: Problem, options: Sequence[LayerBits], name: str) -> list[float]:
    """The root of the relative squared error of a layer's weights at each of its options.

    Where weights leave no choice, it is that of the layer's input.

    Args:
        problem: gives the errors.
        options: of the layer.
        name: of the layer.
    """
    weights, activations = problem.candidates[name], problem.activation_candidates[name]
    if len(weights) > 1:
        error = problem.weight_error(name)
        return [float(error[weights.index(own.weight)]) for own in options]
    error = problem.activation_error(name)
    return [float(error[activations.index(own.activation)]) for own in options]
