"""What all command lines share; free of torch."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import gymnasium as gym

from dqmq_env.errors import DQMQError


@contextmanager
def one_line_errors(program: str) -> Iterator[None]:
    """Turn what a user can correct into one line on the error stream and the exit status 2."""
    try:
        yield
    except (DQMQError, gym.error.Error) as error:
        print(f"{program}: {error}", file=sys.stderr)
        raise SystemExit(2) from error
