"""Searches that propose assignments and are told how these did, run side by side."""

from collections.abc import Generator, Sequence

from dqmq_env.errors import SearchError
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.search.rule import Rule
from dqmq_env.search.target import Answer, Target

Proposals = Generator[BitAssignment, Answer, BitAssignment | None]
"""Yields assignments that keep to the budget, receives how each did, may return a last word."""


def run_proposals(searches: Sequence[tuple[Target, Proposals]]) -> Rule:
    """Let each search propose in turn until none has more to say or the evaluations are spent.

    Args:
        searches: what each is about; together their targets cover each condition once.

    Returns:
        For each target the last word of its search; the assignment of the highest reward, of
        several the first, where there is none.

    Raises:
        SearchError: there were too few evaluations for every search to try an assignment.
    """
    best: dict[int, tuple[float, BitAssignment]] = {}
    last: dict[int, BitAssignment] = {}
    asked: dict[int, BitAssignment] = {}
    for number, (_, search) in enumerate(searches):
        _listen(number, search, None, asked, last)
    while asked:
        for number in list(asked):
            target, search = searches[number]
            proposal = asked.pop(number)
            if target.price > target.problem.left:
                search.close()
                continue
            answer = target.answer(proposal)
            if number not in best or answer.reward > best[number][0]:
                best[number] = answer.reward, proposal
            _listen(number, search, answer, asked, last)
    found: dict[object, BitAssignment] = {}
    for number, (target, _) in enumerate(searches):
        if number not in last and number not in best:
            raise SearchError(
                f"evaluations: got {target.problem.limit}, allowed are "
                f"{sum(own.price for own, _ in searches)} and more, so that something is tried "
                "under every condition"
            )
        word = last[number] if number in last else best[number][1]
        found |= dict.fromkeys(target.mixture.conditions, word)
    return Rule(found)  # type: ignore[arg-type]


def _listen(
    number: int,
    search: Proposals,
    answer: Answer | None,
    asked: dict[int, BitAssignment],
    last: dict[int, BitAssignment],
) -> None:
    """Note what a search says next: a proposal, or its last word."""
    try:
        asked[number] = next(search) if answer is None else search.send(answer)
    except StopIteration as stop:
        if stop.value is not None:
            last[number] = stop.value
