"""Environments over the shipped networks: which network, which images."""

from dataclasses import dataclass, replace
from pathlib import Path

from dqmq_env.data import load_fashion_mnist
from dqmq_env.envs.network_setting import NetworkSetting
from dqmq_env.problem.checks import within
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.zoo.checkpoints import load_checkpoint


@dataclass(frozen=True)
class ZooSetting(NetworkSetting):
    """Plain values that say what an environment over a shipped network is about.

    Args:
        checkpoint: name of a shipped checkpoint.
        data: folder of the full Fashion-MNIST files; the embedded subset when left out.
        search_images: number of the first ``search`` images that are used; all when left out.
    """

    checkpoint: str = "resnet20-fashion-mnist"
    data: str | None = None
    search_images: int | None = None

    def problem(self) -> NetworkProblem:
        """Load the network and the images, and calibrate the quantisers.

        Raises:
            CheckpointError: there is no such checkpoint.
            DataError: the folder does not hold Fashion-MNIST, or fewer images than asked for.
        """
        network, _ = load_checkpoint(self.checkpoint)
        data = load_fashion_mnist(None if self.data is None else Path(self.data))
        if self.search_images is not None:
            count = within("search_images", self.search_images, len(data.search))
            data = replace(data, search=data.search.take(count))
        return self._over(network, data)
