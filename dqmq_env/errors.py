"""Exceptions raised at the border of the library.

Every message names the argument, what came, and what is allowed, so that the command line can
print it as one line.
"""


class DQMQError(Exception):
    """Base of all errors that a user can cause and correct."""


class ConditionError(DQMQError, ValueError):
    """An unknown corruption or a severity outside 1 to 5."""


class DataError(DQMQError, ValueError):
    """A missing, damaged or foreign data file, or images of the wrong form."""


class CheckpointError(DQMQError, ValueError):
    """A missing, damaged or foreign checkpoint."""


class AssignmentError(DQMQError, ValueError):
    """Bits that are not among the candidates, or layers that the network does not have."""


class BudgetError(DQMQError, ValueError):
    """A budget that no assignment can meet."""


class ActionError(DQMQError, ValueError):
    """An action of the wrong shape, type or range."""


class NetworkError(DQMQError, ValueError):
    """A network that cannot be quantised or evaluated."""


class SettingError(DQMQError, ValueError):
    """An argument outside what is allowed, where no narrower error fits."""


class TableError(DQMQError, ValueError):
    """A missing, damaged or foreign table, or something that is not in it."""


class SearchError(DQMQError, RuntimeError):
    """A search that asks for more than it may spend, or for what a search must not see."""


class ResultError(DQMQError, ValueError):
    """A missing, damaged or foreign result, or a suite that cannot be run."""


class ExportError(DQMQError, ValueError):
    """A network that cannot be exported, or a file of one that is missing, damaged or foreign."""
