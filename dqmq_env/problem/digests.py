"""What network and images a run is about, whatever their files are called."""

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor

from dqmq_env.problem.network_problem import NetworkProblem


def digests(problem: NetworkProblem) -> dict[str, str]:
    """SHA-256 of the float ``network``, and of the ``images`` of all splits with their labels.

    Args:
        problem: over a live network.
    """
    splits = problem.data.splits.items()
    images = ((name, own) for name, split in splits for own in (split.images, split.labels))
    return {"network": _digest(problem.network.state_dict().items()), "images": _digest(images)}


def _digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    found = hashlib.sha256()
    for name, tensor in tensors:
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        # bytes, since numpy does not know all of torch's types
        plain = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        found.update(plain.numpy().data)
    return found.hexdigest()
