"""The bits that searches have found in a run's folder: a file for each budget."""

from pathlib import Path

from dqmq_env.errors import AssignmentError
from dqmq_env.export.bits_file import plain_text, read_bits
from dqmq_env.files import atomic_write_text
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.search.rule import Rule

_PLAIN = ".plain.json"


class FoundBits:
    """Files ``bits/<cost>-<budget>.json``; an assignment is there in its plain form as well.

    Args:
        run: folder of the run.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._folder = run / "bits"

    def path(self, cost: str, budget: float) -> Path:
        """Of what was found under a budget, whether it is there or not."""
        return self._folder / f"{cost}-{budget}.json"

    @property
    def paths(self) -> list[Path]:
        """Of all that was found, in the order of their names."""
        found = self._folder.glob("*.json")
        return sorted(path for path in found if not path.name.endswith(_PLAIN))

    def get(self, cost: str, budget: float) -> BitAssignment | Rule | None:
        """What was found under a budget; ``None`` where nothing was.

        Raises:
            AssignmentError: the file is damaged.
        """
        path = self.path(cost, budget)
        return read_bits(path) if path.is_file() else None

    def put(self, cost: str, budget: float, bits: BitAssignment | Rule) -> None:
        """Keep what was found under a budget, whole or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self.path(cost, budget)
        if isinstance(bits, Rule):
            atomic_write_text(path, plain_text(bits))
            return
        atomic_write_text(path.with_suffix(_PLAIN), plain_text(bits))
        bits.save(path)

    def only(self) -> BitAssignment | Rule:
        """The bits of a run with one budget.

        Raises:
            AssignmentError: there are none, or those of several budgets.
        """
        paths = self.paths
        if not paths:
            raise AssignmentError(f"--run: {self._run} is no run that has found bits")
        if len(paths) > 1:
            raise AssignmentError(
                f"--run: {self._run} has the bits of {len(paths)} budgets, allowed is one, or "
                f"--assignment with one of: {', '.join(map(str, paths))}"
            )
        return read_bits(paths[0])
