"""``bitcert compare``: every codec at several strengths on one network, as a table, a figure and a page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bitcert.cli.common import (
    Device,
    check_device,
    intermediate_folder,
    load_holdout,
    load_network,
    preprocessing_for,
    progress_bar,
)
from bitcert.cli.options import captured, load_helper_weights
from bitcert.codecs.registry import find_codec
from bitcert.comparison import CompareSettings, ComparisonPlan, compare, plan_comparison
from bitcert.data import Role, load_sample
from bitcert.decoder import Helper
from bitcert.errors import InputError
from bitcert.folder import COMPARE_FILES, check_output_folder, write_output
from bitcert.report import comparison_files, comparison_summary

COMPARISON_FILE = "comparison.json"
REPORT_FILE = "report.html"
BUDGET = 300.0


def compare_command(
    model: Annotated[str, typer.Argument(help="FILE.pt2 or package.module:factory.")],
    data: Annotated[str, typer.Option(help="Training data: a built-in name or a path.")] = "digits",
    weights: Annotated[str | None, typer.Option(help="Weights of the factory: .safetensors or state dict.")] = None,
    holdout: Annotated[str | None, typer.Option(help="Held-out labels, for comparison: name or path.")] = None,
    codecs: Annotated[str, typer.Option(help="Only these codecs, with commas, e.g. svd,quantise.")] = "",
    strengths: Annotated[int, typer.Option(help="Settings of one codec, at most.")] = 5,
    budget: Annotated[float, typer.Option(help="Seconds for all training together, at most.")] = BUDGET,
    delta: Annotated[float, typer.Option(help="Probability with which any of the bounds may fail.")] = 0.05,
    helper: Annotated[str | None, typer.Option(help="Public weights fixed before the data, as --weights.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the named random streams.")] = 0,
    device: Annotated[Device, typer.Option(help="Where to train.")] = Device.cpu,
    scale: Annotated[float | None, typer.Option(help="Divide inputs by this (8-bit pixels: 255).")] = None,
    mean: Annotated[str, typer.Option(help="Per-channel means subtracted after scaling.")] = "",
    std: Annotated[str, typer.Option(help="Per-channel deviations divided by.")] = "",
    classes: Annotated[int | None, typer.Option(help="Number of classes.")] = None,
    download: Annotated[bool, typer.Option(help="Download built-in data that are not found.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for comparison, figure and report.")] = Path("compared"),
    json_output: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON only.")] = False,
) -> None:
    """Compare all codecs on a network: bits, errors, deviations, bounds, theory beside practice."""
    settings = CompareSettings(delta, seed, budget, strengths, device=device.value)
    names = _names(codecs)
    check_output_folder(out, COMPARE_FILES)
    check_device(device)
    errors = Console(stderr=True, highlight=False)
    with progress_bar(Console(stderr=True)) as progress:
        sample = load_sample(data, Role.TRAIN, num_classes=classes, download=download, progress=progress)
        held = load_holdout(holdout, sample, download, progress)
        preprocessing = preprocessing_for(sample, scale, mean, std)
        network = captured(load_network(model, weights, sample, preprocessing))
        known = Helper.for_sample(sample, network.architecture, preprocessing)
        if helper is not None:
            known = replace(known, weights=load_helper_weights(model, helper, network, sample, preprocessing))
        if weights is None and not model.endswith(".pt2"):
            errors.print(
                "Note: no --weights given; the weights that the factory itself sets are compared.", soft_wrap=True
            )
        _print_plan(errors, plan_comparison(network, sample, settings, names, held), len(sample))
        with intermediate_folder(out, "rows") as rows:
            comparison = compare(
                network,
                sample,
                settings,
                codecs=names,
                holdout=held,
                helper=known,
                folder=rows,
                progress=progress,
            ).named(model)
            progress("drawing", 0.0)
            files = {COMPARISON_FILE: comparison.to_json().encode(), **comparison_files(comparison)}
            write_output(out, files, COMPARE_FILES)
    if json_output:
        print(comparison.to_json(), end="")
        return
    console = Console(highlight=False)
    console.print(comparison_summary(comparison))
    console.print(f"Results: {out / REPORT_FILE}, {out / COMPARISON_FILE}", markup=False)


def _names(codecs: str) -> tuple[str, ...] | None:
    """The codecs named, each of which exists; ``None`` for all.

    Raises:
        InputError: one does not exist.
    """
    if not codecs:
        return None
    names = tuple(name.strip() for name in codecs.split(",") if name.strip())
    if not names:
        raise InputError("names of codecs with commas between for --codecs", repr(codecs), "leave it out for all")
    for name in names:
        find_codec(name)
    return names


def _print_plan(console: Console, plan: ComparisonPlan, num_samples: int) -> None:
    """Say before a long run what it will take."""
    text = (
        f"Plan: {len(plan.entries)} messages counted on {num_samples:,} samples, about "
        f"{max(plan.count_seconds, 1):,.0f} s of counting, at most {plan.training_seconds:g} s of training, encoding "
        f"beside that, and {plan.memory_bytes / 2**20:,.0f} MiB beside the data."
    )
    console.print(text, markup=False, soft_wrap=True)
    if plan.without:
        console.print(
            f"Note: no usual strengths: {', '.join(plan.without)}; use bitcert compress.", markup=False, soft_wrap=True
        )
