"""The card says what is known, and nothing else."""

from typing import Any

import pytest
import yaml

from dqmq_env.evaluation.report import ConditionResult, Evaluation
from dqmq_env.export import About, Packed, pack
from dqmq_env.export.model_card import CardFacts, model_card
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.search.rule import Rule


@pytest.fixture(scope="module")
def packed(tiny_problem: NetworkProblem) -> Packed:
    about = About('a "small" net', {"name": "resnet8", "width": 4}, tiny_problem.data.classes)
    return pack(
        tiny_problem.quantized, tiny_problem.uniform(4), tiny_problem.normalize, about=about
    )


def evaluation(packed: Packed) -> Evaluation:
    layers = [spec.name for spec in packed.network.specs]
    rows = [
        ConditionResult("clean", 1000, 900, 0.25, [4.0] * len(layers)),
        ConditionResult("jpeg/5", 1000, 0, 0.25, [4.0] * len(layers)),
    ]
    return Evaluation("tuned", layers, rows, (0.43, 0.47))


def front_matter(card: str) -> dict[str, Any]:
    assert card.startswith("---\n")
    found = yaml.safe_load(card.split("---\n")[1])
    assert isinstance(found, dict)
    return found


def test_without_an_evaluation_there_is_no_accuracy(packed: Packed) -> None:
    card = model_card(packed, CardFacts(data="fashion-mnist"))
    front = front_matter(card)
    assert "model-index" not in front
    assert "metrics" not in front
    assert front["datasets"] == ["fashion-mnist"]
    assert "## Accuracy\n\nNot evaluated.\n" in card
    assert "interval" not in card


def test_an_evaluation_is_told_with_its_intervals(packed: Packed) -> None:
    own = evaluation(packed)
    card = model_card(packed, CardFacts(data="fashion-mnist", evaluations=[own]))
    # Wilson's interval of 900 of 1000, from the formula
    assert "| clean | 1000 | 90.00% | 87.98% to 91.71% | 25.0% |" in card
    assert "| jpeg/5 | 1000 | 0.00% | 0.00% to 0.38% | 25.0% |" in card
    assert "| mean | | 45.00% | 43.00% to 47.00% | 25.0% |" in card
    (index,) = front_matter(card)["model-index"]
    assert index["name"] == 'a "small" net'
    assert [row["metrics"][0]["value"] for row in index["results"]] == [0.9, 0.0]


def test_recipe_cost_bits_and_command(packed: Packed) -> None:
    facts = CardFacts(
        recipe={"epochs": 20},
        command="dqmq export --bits 4",
        sizes="| | bytes |",
        usage='load("net.dqmq")',
    )
    card = model_card(packed, facts)
    assert "* epochs: 20" in card
    assert "```sh\ndqmq export --bits 4\n```" in card
    assert '```python\nload("net.dqmq")\n```' in card
    assert "## Size\n\n| | bytes |" in card
    assert "| `layer1.0.conv1` | 4/4 |" in card
    assert "mean 0.286041; std 0.353024" in card
    assert "10 classes: T-shirt/top" in card
    assert "A quantised resnet8 of 8 layers" in card


def test_a_rule_has_a_column_for_each_condition(tiny_problem: NetworkProblem) -> None:
    rule = Rule({"clean": tiny_problem.uniform(2), "jpeg/5": tiny_problem.uniform(8)})
    card = model_card(pack(tiny_problem.quantized, rule, tiny_problem.normalize), CardFacts())
    assert "| layer | clean | jpeg/5 |" in card
    assert "| `layer1.0.conv1` | 2/2 | 8/8 |" in card
    assert "| jpeg/5 | 100.0% | 100.0% |" in card
    assert card.count("\n# quantised network\n") == 1
