"""Write a quantised network, at the bits that were found for it, to a file.

The network is that of an environment, quantised after training, or one that was trained in a
folder. Its bits come from a file (`--assignment`: what a search saved, plain JSON of the form
{layer: [weight bits, activation bits]}, the same for each condition, or a result of `dqmq bench`),
are uniform (`--bits`), or are those of a run of `dqmq search`, `dqmq tune` or `dqmq train`
(`--run`), which says which network it is about. What `dqmq train` made is exported with the policy
that gives each image its bits; as a static one where they follow nothing. A packed file has integer
weights of 1 to 8 bits and all that running them takes; `dqmq_env.export.load` reads it. A model
card is written beside it, with accuracies where `--evaluation` gives some.

Examples:
  dqmq export --bits 4 --output net.dqmq
  dqmq export --env DQMQ-MobileNetV2-v0 --assignment found.json --to packed --output net.dqmq
  dqmq export --env DQMQ-ResNet8-v0 --assignment runs/tabular/results/KEY.json --output rule.dqmq
  dqmq export --run runs/search --output small.dqmq    # of dqmq search, or of dqmq tune
  dqmq export --run runs/hybrid --to onnx --output dynamic.onnx    # of dqmq train
  dqmq export --run runs/tuned --settings '{"bits": [2, 4, 8]}' --output tuned.dqmq
  dqmq export --assignment found.json --to onnx --output net.onnx
  dqmq export --assignment found.json --to brevitas --output brevitas.json
  dqmq export --assignment found.json --to plain --output bits.json
"""

import json
import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import tyro

from dqmq_env.errors import ExportError, SettingError
from dqmq_env.evaluation.report import Evaluation
from dqmq_env.export.agents import agent_in, has_agent
from dqmq_env.export.bits_file import read_bits
from dqmq_env.export.found_bits import FoundBits
from dqmq_env.export.source import Origin, Source, has_trained, origin_of, trained_in
from dqmq_env.export.targets import Output, target_by_name
from dqmq_env.export.writing import check_new
from dqmq_env.program import one_line_errors
from dqmq_env.training.run_folder import environment_of_run


@dataclass(frozen=True)
class ExportArguments:
    """What to export, as what, and where to.

    Attributes:
        output: the file to write.
        to: packed, onnx, onnx21 (without 2-bit types), plain or brevitas.
        env: id of an environment over a live network.
        settings: its keyword arguments as JSON, where they are not the defaults.
        assignment: file with the bits of each layer.
        bits: the same for all layers, in place of a file; the first and the last keep 8.
        run: folder of a search or of a finished training, in place of both; with an assignment
            of that search, where it has several.
        budget: of those that a run of `dqmq train` was trained for; the highest when left out.
        weights: of a layer that gets several widths, every keeps each as it is, in one code a
            weight; widest has the narrower follow from the widest, which saves a bit or so a weight
            and costs accuracy.
        evaluation: files of evaluations of this network for the card, the first of the export.
        force: replace files that are there.
    """

    output: Path
    to: str = "packed"
    env: str = "DQMQ-ResNet-v0"
    settings: str = "{}"
    assignment: Path | None = None
    bits: int | None = None
    run: Path | None = None
    budget: float | None = None
    weights: Literal["every", "widest"] = "every"
    evaluation: tuple[Path, ...] = ()
    force: bool = False


def export(arguments: ExportArguments, command: str = "") -> str:
    """Write an export; returns what to print of it.

    Args:
        arguments: see the class.
        command: that the card is to name.

    Raises:
        DQMQError: an argument is wrong, or a file is in the way; nothing has been written.
    """
    target = target_by_name(arguments.to)
    check_new([arguments.output], arguments.force)
    given = [arguments.assignment, arguments.bits, arguments.run]
    of_search = arguments.run is not None and not has_trained(arguments.run)
    if sum(own is not None for own in given) != 1 and not (of_search and arguments.bits is None):
        raise SettingError(
            "--assignment, --bits, --run: got none or more than one, allowed is one of them, or a "
            "search with one of its assignments"
        )
    settings = _settings(arguments.settings)
    evaluations = [Evaluation.load(path) for path in arguments.evaluation]
    source = _source(arguments, settings)
    layers = [spec.name for spec in source.problem.layers]
    for path, own in zip(arguments.evaluation, evaluations, strict=True):
        if own.layers != layers:
            raise ExportError(f"--evaluation: {path} is of a network with other layers")
    output = Output(arguments.output, arguments.force, arguments.weights)
    return target(replace(source, command=command, evaluations=evaluations), output)


def main(words: list[str] | None = None) -> None:
    """Entry point of ``dqmq export``."""
    words = sys.argv[1:] if words is None else words
    arguments = tyro.cli(
        ExportArguments,
        description=__doc__,
        args=words,
        prog="dqmq export",
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    with one_line_errors("dqmq export"):
        print(export(arguments, shlex.join(["dqmq", "export", *words])))


def _source(arguments: ExportArguments, settings: dict[str, Any]) -> Source:
    run = arguments.run
    if run is not None and has_agent(run):
        return agent_in(run, _origin(arguments, settings), arguments.budget)
    if arguments.budget is not None:
        raise SettingError("--budget: is for a run of dqmq train alone")
    if run is not None and has_trained(run):
        return trained_in(run, _origin(arguments, settings))
    # first, since a wrong file should be refused before any long work
    bits = None if arguments.assignment is None else read_bits(arguments.assignment)
    if run is not None and bits is None:
        bits = FoundBits(run).only()
    origin = _origin(arguments, settings)
    problem = origin.problem
    if bits is None:
        assert arguments.bits is not None
        bits = problem.uniform(arguments.bits)
    architecture, recipe = origin.architecture, origin.recipe
    return Source(problem, problem.quantized, bits, architecture=architecture, recipe=recipe)


def _origin(arguments: ExportArguments, settings: dict[str, Any]) -> Origin:
    known = None if arguments.run is None else environment_of_run(arguments.run)
    name, of_run = known or (arguments.env, {})
    return origin_of(name, {**of_run, **settings})


def _settings(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingError(f"--settings: got {text!r}, allowed is JSON: {error}") from error
    if not isinstance(found, dict):
        raise SettingError(f"--settings: got {text!r}, allowed is a JSON object")
    return found
