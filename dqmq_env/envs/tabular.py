"""``DQMQ-ResNet8-Tabular-v0``: a ResNet every assignment of which was evaluated beforehand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from dqmq_env.costs import Cost
from dqmq_env.envs.settings import Setting, SettingEnv, SettingVectorEnv
from dqmq_env.problem.table import SHIPPED, Table, load_table
from dqmq_env.problem.table_problem import TableProblem


@dataclass(frozen=True)
class TabularSetting(Setting):
    """Plain values that say what an environment over a table is about.

    Args:
        table: name of a table.
        tables: folder of tables; those shipped when left out.
        conditions: those that occur, or a mapping of conditions to weights; all of the table,
            equally often, when left out.
    """

    table: str = "resnet8-fashion-mnist"
    tables: str | None = None
    conditions: Mapping[str, float] | Sequence[str] | None = None

    def problem(self) -> TableProblem:
        """Read the table; environments over the same one share it.

        Raises:
            TableError: there is no such table, it is damaged, or a condition is not in it.
        """
        table = _load(self.table, SHIPPED if self.tables is None else Path(self.tables))
        if self.conditions is None:
            return _whole(table, self.costs())
        return TableProblem(table, self.conditions, self.costs())


@lru_cache(maxsize=4)
def _load(name: str, folder: Path) -> Table:
    return load_table(name, folder)


@lru_cache(maxsize=4)
def _whole(table: Table, costs: tuple[Cost, ...]) -> TableProblem:
    return TableProblem(table, costs=costs)


class TabularResNetEnv(SettingEnv):
    """Decide how many bits each layer of a ResNet gets, where the best decision is known.

    ## Description

    The tabular twin of ``DQMQ-ResNet8-v0``. Each of the 15,625 ways to give the six inner layers
    of the trained ResNet-8 2, 3, 4, 6 or 8 bits (first and last layer at 8) was evaluated on 2,000
    ``search`` images, clean and under eight corruptions, and everything that an environment needs
    of it is in a table in the wheel. So the optimum is known, regret is exact, and a step is a
    lookup: nothing is loaded of PyTorch.

    Observations, actions, budgets, rewards and ends are those of
    ``gym.make("dqmq_env:DQMQ-ResNet8-v0", bits=(2, 3, 4, 6, 8), batch_size=2000)``, bit for bit on
    the machine that made the table, so that an agent trained on one runs on the other. The one
    batch is all 2,000 images.

    ## Action space

    | id ends in | space | meaning |
    |---|---|---|
    | ``-v0`` | ``Discrete(5)`` | index into the candidate bits 2, 3, 4, 6, 8 |
    | ``-Continuous-v0`` | ``Box(-1, 1, (1,), float32)`` | HAQ's mapping: with ``a`` the action moved to [0, 1], ``round(7 a + 1.5)`` bits, halves to even, cut to 2 to 8, then the nearest candidate, the lower of two |
    | ``-OneShot-v0`` | ``MultiDiscrete([5] * 6)`` | an index for each decision; the episode is one step |

    ## Observation space

    ``Box(0, 1, (29,), float32)``: the features of ``DQMQ-ResNet-v0`` (its page explains each), with
    five candidates instead of seven.

    ## Reward

    0 until the last step, then ``(1 - weight) * accuracy + weight * (1 - cost)``, where ``cost`` is
    what the argument ``cost`` names (BOPs by default) as a fraction of that at 8 bits. It lies in [0, 1].

    ## Start and end

    ``reset`` draws one of the nine conditions; ``options={"condition": "gaussian_noise/3"}`` fixes
    it. The episode terminates after 6 steps, 1 in the one-shot form, and is never truncated.
    ``info`` at the end holds what it holds in a live environment, and ``regret``: 0 at the optimum
    of this condition and task, 1 at the mean of all assignments that keep to the budget.

    ## Optimum, rank and front

    ``env.unwrapped.problem`` answers exactly: ``optimum(condition, task)``,
    ``rank(assignment, condition, task)``, ``regret(assignment, condition, task)``,
    ``pareto_front(condition, cost)``, ``value_of_quality(budget)``. All are about ``search``;
    ``evaluate(assignment, condition, "test")`` is for the final report.

    ## Version history

    * v0: first version.
    """

    setting_type = TabularSetting


class TabularResNetVectorEnv(SettingVectorEnv):
    """Many episodes of ``TabularResNetEnv`` at once."""

    setting_type = TabularSetting
