"""The bit-widths that layers may get; free of torch."""

from collections.abc import Sequence

from dqmq_env.errors import AssignmentError
from dqmq_env.quantization.assignment import LayerBits, check_bits
from dqmq_env.quantization.grid import FLOAT_BITS, MAX_BITS
from dqmq_env.quantization.spec import LayerSpec


def candidate_bits(
    specs: Sequence[LayerSpec],
    bits: Sequence[int],
    first: int | None = 8,
    last: int | None = 8,
) -> dict[str, tuple[int, ...]]:
    """The candidates of every layer: ``bits``, but for the first and the last layer.

    Args:
        specs: the layers in forward order.
        bits: candidates of the layers in between, ascending after sorting.
        first: the one width of the first layer; ``None`` gives it the candidates of the others.
        last: the same for the last layer.

    Raises:
        AssignmentError: ``bits`` is empty, has a duplicate, or a width is not 1 to 8.
    """
    if not bits or len(set(bits)) != len(bits):
        raise AssignmentError(f"bits: got {list(bits)}, allowed are one or more different widths")
    ordered = tuple(sorted(_candidate(width, "bits") for width in bits))
    candidates = {spec.name: ordered for spec in specs}
    if first is not None:
        candidates[specs[0].name] = (_candidate(first, "first"),)
    if last is not None:
        candidates[specs[-1].name] = (_candidate(last, "last"),)
    return candidates


def joint_options(
    candidates: tuple[int, ...], activation_candidates: tuple[int, ...]
) -> tuple[LayerBits, ...]:
    """What a joint decision about a layer is between, by ascending bits.

    Args:
        candidates: of its weights.
        activation_candidates: of its input: the same, unless one of the two has a single width.

    Raises:
        AssignmentError: the two do not go together.
    """
    if len(activation_candidates) == 1:
        return tuple(LayerBits(width, activation_candidates[0]) for width in candidates)
    if len(candidates) == 1:
        return tuple(LayerBits(candidates[0], width) for width in activation_candidates)
    if candidates != activation_candidates:
        raise AssignmentError(
            f"activation_candidates: got {activation_candidates}, allowed are {candidates} or one"
        )
    return tuple(LayerBits(width, width) for width in candidates)


def telling_widths(options: Sequence[LayerBits]) -> tuple[int, ...]:
    """What tells the options of a joint decision apart: their weight bits, or activation bits.

    Args:
        options: from :func:`joint_options`; of a single one it is the weight bits.
    """
    weights = tuple(option.weight for option in options)
    if len(set(weights)) == len(options):
        return weights
    return tuple(option.activation for option in options)


def _candidate(bits: int, argument: str) -> int:
    if check_bits(bits, argument) == FLOAT_BITS:
        raise AssignmentError(f"{argument}: got {bits}, candidates are 1 to {MAX_BITS}")
    return int(bits)
