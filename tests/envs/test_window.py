import pickle

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot

from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.problem.network_problem import NetworkProblem


@pytest.fixture(autouse=True)
def headless() -> None:
    mpl.use("agg")
    pyplot.close("all")


def shown() -> np.ndarray:
    (number,) = pyplot.get_fignums()
    (axes,) = pyplot.figure(number).axes
    return np.asarray(axes.images[0].get_array())


def test_human_mode_shows_each_step_in_one_window(tiny_problem: NetworkProblem) -> None:
    env = BitWidthEnv(tiny_problem, render_mode="human")
    picture = BitWidthEnv(tiny_problem, render_mode="rgb_array")
    env.reset(seed=0)
    picture.reset(seed=0)
    np.testing.assert_array_equal(shown(), picture.render())
    env.step(np.int64(1))
    picture.step(np.int64(1))
    np.testing.assert_array_equal(shown(), picture.render())
    assert env.render() is None
    env.close()
    assert pyplot.get_fignums() == []
    env.close()


def test_an_open_window_does_not_stand_in_the_way_of_pickling(
    tiny_problem: NetworkProblem,
) -> None:
    env = BitWidthEnv(tiny_problem, render_mode="human")
    env.reset(seed=0)
    again = pickle.loads(pickle.dumps(env))
    np.testing.assert_array_equal(env.step(np.int64(0))[0], again.step(np.int64(0))[0])
    env.close()
    again.close()
