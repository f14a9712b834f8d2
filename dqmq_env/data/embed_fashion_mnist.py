"""Make the subset of Fashion-MNIST that ships with the package.

Run as `python -m dqmq_env.data.embed_fashion_mnist --source FOLDER`, where FOLDER holds the four
original files; the same files give the same bytes.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

from dqmq_env.data.archive import write_archive
from dqmq_env.data.fashion_mnist import EMBEDDED_COUNTS, EMBEDDED_STEM, load_fashion_mnist
from dqmq_env.errors import DataError

_DESCRIPTION = {
    "name": "Fashion-MNIST, balanced subset",
    "source": "https://github.com/zalandoresearch/fashion-mnist (the four original IDX files)",
    "licence": "MIT, Copyright (c) 2017 Zalando SE, see FASHION_MNIST_LICENSE",
    "command": "python -m dqmq_env.data.embed_fashion_mnist --source FOLDER",
    "order": "dqmq_env.data.fashion_mnist.split_official, the beginning of each split",
}


def embed(
    source: str | Path, stem: str | Path, counts: Mapping[str, int] = EMBEDDED_COUNTS
) -> None:
    """Write the first images of each split of `source` as the archive `stem`.xz with its card.

    Args:
        source: Folder as `load_fashion_mnist` takes it.
        stem: Path of the archive without its ending; the folder must exist.
        counts: How many images of each split, in the order in which they are stored.

    Raises:
        DataError: `source` lacks a file, has a damaged one, or has too few images.
        OSError: The archive cannot be written.
    """
    splits = load_fashion_mnist(source).splits
    taken = {name: splits[name].take(count) for name, count in counts.items()}
    write_archive(stem, taken, _DESCRIPTION)


def main() -> None:
    """Parse the command line and run `embed`; wrong input exits with 2 and one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="folder with the original files")
    parser.add_argument("--output", type=Path, default=EMBEDDED_STEM, help="path without ending")
    arguments = parser.parse_args()
    try:
        embed(arguments.source, arguments.output)
    except (DataError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
