"""``bitcert compare``: every codec at several strengths on one network, as a table, a figure and a page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Option

from bitcert.cli.common import intermediate_folder, load_holdout, note, progress_bar
from bitcert.cli.executors import ExecutorOptions
from bitcert.cli.options import CodecOptions, split_commas
from bitcert.codecs.registry import find_codec
from bitcert.comparison import CompareSettings, ComparisonPlan, compare, plan_comparison
from bitcert.errors import InputError
from bitcert.folder import COMPARE_FILES, write_output
from bitcert.report import comparison_files, comparison_summary

COMPARISON_FILE = "comparison.json"
BUDGET = 300.0


@dataclass(frozen=True, kw_only=True)
class CompareOptions(CodecOptions, ExecutorOptions):
    """The options of the verb."""

    holdout: Annotated[str | None, Option(help="Held-out labels, for comparison: name or path.")] = None
    codecs: Annotated[str, Option(help="Only these codecs, with commas, e.g. svd,quantise.")] = ""
    strengths: Annotated[int, Option(help="Settings of one codec, at most.")] = 5
    budget: Annotated[float, Option(help="Seconds for all training together, at most.")] = BUDGET
    delta: Annotated[float, Option(help="Probability with which any of the bounds may fail.")] = 0.05
    out: Annotated[Path, Option(help="Folder for comparison, figure and report.")] = Path("compared")
    json_output: Annotated[bool, Option("--json", help="Print the comparison as JSON only.")] = False


def compare_codecs(options: CompareOptions) -> None:
    """Compare all codecs on a network: bits, errors, deviations, bounds, theory beside practice."""
    settings = options.settings_of(CompareSettings, budget_seconds=options.budget, most_strengths=options.strengths)
    names = _names(options.codecs)
    options.check_output(COMPARE_FILES)
    with progress_bar() as progress:
        sample, network, helper = options.load(progress)
        held = load_holdout(options.holdout, sample, options.download, progress)
        options.note_weights("the weights that the factory itself sets are compared")
        _print_plan(plan_comparison(network, sample, settings, names, held), len(sample))
        with intermediate_folder(options.out, "rows") as rows:
            comparison = compare(
                network,
                sample,
                settings,
                codecs=names,
                holdout=held,
                helper=helper,
                folder=rows,
                progress=progress,
            ).named(options.model)
            progress("drawing", 0.0)
            files = {COMPARISON_FILE: comparison.to_json().encode(), **comparison_files(comparison)}
            write_output(options.out, files, COMPARE_FILES)
    options.show(comparison.to_json(), comparison_summary(comparison), COMPARISON_FILE)


def _names(codecs: str) -> tuple[str, ...] | None:
    """The codecs named, each of which exists; ``None`` for all.

    Raises:
        InputError: one does not exist.
    """
    if not codecs:
        return None
    names = split_commas(codecs)
    if not names:
        raise InputError("names of codecs with commas between for --codecs", repr(codecs), "leave it out for all")
    for name in names:
        find_codec(name)
    return names


def _print_plan(plan: ComparisonPlan, num_samples: int) -> None:
    """Say before a long run what it will take."""
    note(
        f"Plan: {len(plan.entries)} messages counted on {num_samples:,} samples, about "
        f"{max(plan.count_seconds, 1):,.0f} s of counting, at most {plan.training_seconds:g} s of training, encoding "
        f"beside that, and {plan.memory_bytes / 2**20:,.0f} MiB beside the data."
    )
    if plan.without:
        note(f"Note: no usual strengths: {', '.join(plan.without)}; use bitcert compress.")
