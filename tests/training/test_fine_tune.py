from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dqmq_env.errors import AssignmentError, CheckpointError, SettingError
from dqmq_env.evaluation.deployed import Deployed, StaticNetwork
from dqmq_env.evaluation.report import evaluate
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quality.batches import Batch, MixedQualityBatches
from dqmq_env.quality.condition import CLEAN, Condition
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.quantization.dorefa import DoReFa
from dqmq_env.quantization.pact import PACT
from dqmq_env.quantization.scheme import DEFAULT_SCHEME, Scheme
from dqmq_env.search.rule import Rule
from dqmq_env.training.fine_tune import assignment_under, fine_tune
from dqmq_env.training.loop import Schedule, Trainer
from dqmq_env.training.objective import RuleObjective, StaticObjective
from tests.steps import step_of

SCHEDULE = Schedule(images=5 * 16, batch=16, save_every=2, log_every=2)
NOISE = Condition("gaussian_noise", 3)
JPEG = Condition("jpeg", 5)


def make_rule(problem: NetworkProblem) -> Rule:
    """2 bits where images are clean, 8 under noise, some of each for compressed ones."""
    low, high = problem.uniform(2), problem.uniform(8)
    names = list(low)
    mixed = BitAssignment({name: (low if names.index(name) % 2 else high)[name] for name in names})
    return Rule({CLEAN: low, NOISE: high, JPEG: mixed})


def separate_rule(problem: NetworkProblem) -> Rule:
    """Widths of activations that are not those of the weights."""
    middle = list(problem.candidates)[1:-1]
    ends = {name: (8, 8) for name in problem.candidates if name not in middle}
    narrow = BitAssignment({name: ends.get(name, (2, 8)) for name in problem.candidates})
    wide = BitAssignment({name: ends.get(name, (8, 4)) for name in problem.candidates})
    return Rule({CLEAN: narrow, NOISE: wide})


def logits_of(network: Deployed, problem: NetworkProblem) -> Tensor:
    return network(problem.data.test.images).logits


def mixed_batch(problem: NetworkProblem, size: int = 24) -> Batch:
    return MixedQualityBatches(problem.data.train, problem.mixture, size, seed=0).at(0)


# An assignment.


def test_an_assignment_is_trained_by_its_objective(tiny_problem: NetworkProblem) -> None:
    assignment = tiny_problem.uniform(4)
    network = tiny_problem.trainable()
    Trainer(tiny_problem, network, StaticObjective(assignment), SCHEDULE).run()
    expected = StaticNetwork(network, assignment, tiny_problem.normalize)
    found = fine_tune(tiny_problem, assignment, SCHEDULE)
    assert torch.equal(logits_of(found, tiny_problem), logits_of(expected, tiny_problem))


# A rule.


@pytest.mark.parametrize("scheme", [DEFAULT_SCHEME, PACT(decay=0.1)])
def test_one_assignment_for_all_conditions_is_that_assignment(
    tiny_problem: NetworkProblem, scheme: Scheme
) -> None:
    assignment = make_rule(tiny_problem)[JPEG]
    rule = Rule.static(tiny_problem, assignment)
    expected = fine_tune(tiny_problem, assignment, SCHEDULE, scheme=scheme)
    found = fine_tune(tiny_problem, rule, SCHEDULE, scheme=scheme)
    for condition in rule:
        own = found.under(condition)
        assert torch.equal(logits_of(own, tiny_problem), logits_of(expected, tiny_problem))


def test_each_condition_gets_its_bits(tiny_problem: NetworkProblem) -> None:
    rule = make_rule(tiny_problem)
    network = fine_tune(tiny_problem, rule, Schedule(images=16, batch=16))
    assert network.rule is rule
    for condition, assignment in rule.items():
        own = network.under(str(condition))
        prediction = own(tiny_problem.test.under(condition)[:3])
        assert prediction.bits[0].tolist() == [bits.weight for bits in assignment.values()]
        expected = tiny_problem.cost(assignment)["bops"]
        assert prediction.cost.tolist() == pytest.approx([expected] * 3)
        layers = [spec.name for spec in tiny_problem.layers]
        report = evaluate("rule", layers, own, tiny_problem.test, [condition])
        assert report.cost == pytest.approx(expected)


def test_training_under_a_rule_lowers_the_loss_under_each_condition(
    tiny_problem: NetworkProblem,
) -> None:
    rule = make_rule(tiny_problem)
    networks = [
        fine_tune(tiny_problem, rule, Schedule(images=images, batch=32)) for images in (1, 15 * 32)
    ]
    labels = tiny_problem.data.train.labels
    for condition in rule:
        before, after = (
            float(F.cross_entropy(network.under(condition)(images).logits, labels))
            for network in networks
            for images in [tiny_problem.data.train.images]
        )
        assert after < before


@pytest.mark.parametrize("make", [make_rule, separate_rule])
def test_the_loss_under_a_rule_is_that_of_each_image_at_its_own_bits(
    tiny_problem: NetworkProblem, make: object
) -> None:
    """Loss and gradients are those of one pass for each condition; batch norms in eval mode."""
    assert callable(make)
    rule: Rule = make(tiny_problem)
    rule = Rule({own: assignment_under(rule, own) for own in tiny_problem.mixture.conditions})
    batch = mixed_batch(tiny_problem)
    x = tiny_problem.normalize(batch.images)
    one, other = (tiny_problem.trainable().eval() for _ in range(2))
    loss = RuleObjective(rule).loss(one, step_of(tiny_problem, batch))
    loss.backward()
    total = torch.zeros(())
    for condition, assignment in rule.items():
        rows = torch.tensor([own == condition for own in batch.conditions])
        assert rows.any()
        logits = other(x[rows], assignment)
        total = total + F.cross_entropy(logits, batch.labels[rows], reduction="sum")
    (total / len(x)).backward()
    assert float(loss.detach()) == pytest.approx(float(total.detach()) / len(x), rel=1e-5)
    for found, expected in zip(one.parameters(), other.parameters(), strict=True):
        if expected.grad is None:
            assert found.grad is None
        else:
            assert found.grad is not None
            assert torch.allclose(found.grad, expected.grad, rtol=1e-3, atol=1e-5)


def test_batch_normalisation_sees_the_whole_batch(tiny_problem: NetworkProblem) -> None:
    rule = make_rule(tiny_problem)
    batch = mixed_batch(tiny_problem)
    x = tiny_problem.normalize(batch.images)
    one, other = (tiny_problem.trainable().train() for _ in range(2))
    RuleObjective(rule).loss(one, step_of(tiny_problem, batch))
    other(x, rule[CLEAN])
    # the first layer has the same bits everywhere, so what follows it sees the same
    names = [name for name, _ in one.named_buffers() if name.startswith("network.bn1")]
    assert len(names) == 3
    for name in names:
        assert torch.equal(one.get_buffer(name), other.get_buffer(name)), name


@pytest.mark.parametrize(
    ("stop", "scheme"), [(1, DEFAULT_SCHEME), (4, DEFAULT_SCHEME), (3, PACT())]
)
def test_a_run_under_a_rule_that_was_stopped_ends_as_one_that_was_not(
    tiny_problem: NetworkProblem, tmp_path: Path, stop: int, scheme: Scheme
) -> None:
    rule = make_rule(tiny_problem)
    expected = fine_tune(tiny_problem, rule, SCHEDULE, scheme=scheme)
    steps: list[int] = []

    def until(step: int) -> bool:
        steps.append(step)
        return step < stop

    fine_tune(tiny_problem, rule, SCHEDULE, tmp_path, until, scheme=scheme)
    assert steps == list(range(1, stop + 1))
    found = fine_tune(tiny_problem, rule, SCHEDULE, tmp_path, scheme=scheme)
    for condition in rule:
        own, other = (network.under(condition) for network in (expected, found))
        assert torch.equal(logits_of(own, tiny_problem), logits_of(other, tiny_problem))


def test_another_rule_or_scheme_is_refused(tiny_problem: NetworkProblem, tmp_path: Path) -> None:
    rule, schedule = make_rule(tiny_problem), Schedule(images=16, batch=16)
    fine_tune(tiny_problem, rule, schedule, tmp_path)
    other = Rule({**rule, CLEAN: tiny_problem.uniform(4)})
    for bits, scheme in ((other, DEFAULT_SCHEME), (rule, DoReFa())):
        with pytest.raises(CheckpointError, match="other settings"):
            fine_tune(tiny_problem, bits, schedule, tmp_path, scheme=scheme)
    assignment, folder = rule[CLEAN], tmp_path / "static"
    fine_tune(tiny_problem, assignment, schedule, folder)
    with pytest.raises(CheckpointError, match="other settings"):
        fine_tune(tiny_problem, assignment, schedule, folder, scheme=PACT())


# What fits.


def test_bits_that_do_not_fit_are_refused_before_anything_is_written(
    tiny_problem: NetworkProblem, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    wrong = BitAssignment(dict.fromkeys(tiny_problem.candidates, (3, 3)))
    short = BitAssignment({"conv1": (8, 8)})
    for assignment, message in ((wrong, "got 3 bits"), (short, "without bits")):
        for bits in (assignment, Rule.static(tiny_problem, assignment)):
            with pytest.raises(AssignmentError, match=message):
                fine_tune(tiny_problem, bits, SCHEDULE, folder)
    with pytest.raises(SettingError, match=r"rule: got .*gaussian_noise/3.* clean"):
        fine_tune(tiny_problem, Rule({NOISE: tiny_problem.uniform(4)}), SCHEDULE, folder)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("condition", "known"),
    [
        ("jpeg/1", "jpeg/2"),
        ("jpeg/2", "jpeg/2"),
        ("jpeg/3", "jpeg/4"),  # of two equally near the heavier
        ("jpeg/5", "jpeg/4"),
        ("contrast/5", "contrast/1"),
        ("gaussian_blur/3", "clean"),
        ("clean", "clean"),
    ],
)
def test_a_condition_that_a_rule_does_not_know_is_taken_for_the_nearest(
    condition: str, known: str
) -> None:
    conditions = ("clean", "jpeg/2", "jpeg/4", "contrast/1")
    rule = Rule({own: BitAssignment({own: (8, 8)}) for own in conditions})
    assert assignment_under(rule, condition) == BitAssignment({known: (8, 8)})


def test_an_unknown_corruption_needs_clean() -> None:
    rule = Rule({"jpeg/2": BitAssignment({"conv1": (8, 8)})})
    assert assignment_under(rule, "jpeg/5") == rule["jpeg/2"]
    with pytest.raises(SettingError, match="allowed is a rule for contrast or clean"):
        assignment_under(rule, "contrast/1")
    with pytest.raises(SettingError, match="clean"):
        assignment_under(rule, CLEAN)
