"""Images with labels in three fixed splits: `train`, `search` and `test`.

Importing this package does not import torch; the names below do so when first used.
"""

from typing import TYPE_CHECKING

from dqmq_env.lazy import lazy_names

if TYPE_CHECKING:
    from dqmq_env.data.fashion_mnist import load_fashion_mnist
    from dqmq_env.data.folder import load_image_folder
    from dqmq_env.data.split import ImageData, ImageSplit

__all__ = ["ImageData", "ImageSplit", "load_fashion_mnist", "load_image_folder"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "ImageData": "dqmq_env.data.split",
        "ImageSplit": "dqmq_env.data.split",
        "load_fashion_mnist": "dqmq_env.data.fashion_mnist",
        "load_image_folder": "dqmq_env.data.folder",
    },
)
