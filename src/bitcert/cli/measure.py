"""``bitcert measure``: noise stability of a network on a sample, as numbers, figures and a page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bitcert.cli.common import (
    Device,
    check_device,
    intermediate_folder,
    load_initial,
    load_network,
    parse_numbers,
    preprocessing_for,
    progress_bar,
    visible_network,
)
from bitcert.data import Role, Sample, load_sample
from bitcert.decoder import Preprocessing
from bitcert.errors import InputError
from bitcert.folder import MEASURE_FILES, check_output_folder, write_output
from bitcert.network import Network
from bitcert.report import stability_files, stability_summary
from bitcert.stability import MeasureSettings, StabilityProfile, Structure, measure, plan_measure
from bitcert.stability.planning import drawn

PROFILE_FILE = "profile.json"
ARRAYS_FILE = "profile.npz"
REPORT_FILE = "report.html"
TOLERANCE = 0.01


@dataclass(frozen=True)
class _Request:
    """What is to be measured."""

    network: Network
    init: Network | None
    random_init: bool
    sample: Sample
    preprocessing: Preprocessing
    settings: MeasureSettings


def measure_command(
    model: Annotated[str, typer.Argument(help="FILE.pt2 or package.module:factory.")],
    data: Annotated[str, typer.Option(help="Data to measure on: a built-in name or a path.")] = "digits",
    weights: Annotated[str | None, typer.Option(help="Weights of the factory: .safetensors or state dict.")] = None,
    samples: Annotated[int | None, typer.Option(help="Examples drawn at random; all of them without it.")] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Norms of Jacobians exactly, whatever it takes.")] = False,
    tolerance: Annotated[float | None, typer.Option(help=f"Relative error of estimates [{TOLERANCE}].")] = None,
    zeta: Annotated[float, typer.Option(help="Fraction of examples that may be left out as outliers.")] = 0.0,
    noise: Annotated[str, typer.Option(help="Relative norms of injected noise, e.g. 0.1,0.2.")] = "0.1",
    draws: Annotated[int, typer.Option(help="Noise draws of the interlayer smoothness.")] = 3,
    projections: Annotated[int | None, typer.Option(help="Numbers kept of each projected layer.")] = None,
    quantities: Annotated[str, typer.Option(help="Only these, e.g. margin,layer_cushion.")] = "",
    init: Annotated[str | None, typer.Option(help="Initial weights (of a .pt2: another .pt2), for comparison.")] = None,
    random_init: Annotated[bool, typer.Option("--random-init", help="Compare with random initial weights.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep every example's values, in profile.npz.")] = False,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = Device.cpu,
    seed: Annotated[int, typer.Option(help="Seed of the named random streams.")] = 0,
    scale: Annotated[float | None, typer.Option(help="Divide inputs by this (8-bit pixels: 255).")] = None,
    mean: Annotated[str, typer.Option(help="Per-channel means subtracted after scaling.")] = "",
    std: Annotated[str, typer.Option(help="Per-channel deviations divided by.")] = "",
    classes: Annotated[int | None, typer.Option(help="Number of classes.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples computed at a time.")] = None,
    download: Annotated[bool, typer.Option(help="Download built-in data that are not found.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for profile, figures and report.")] = Path("measured"),
    json_output: Annotated[bool, typer.Option("--json", help="Print the profile as JSON only.")] = False,
) -> None:
    """Measure why a network can be compressed: its noise stability on a sample."""
    settings = MeasureSettings(
        seed=seed,
        exact=exact,
        tolerance=_tolerance(exact, tolerance),
        zeta=zeta,
        noise_levels=parse_numbers(noise, "--noise"),
        draws=draws,
        projections=projections,
        batch_size=batch_size,
        device=device.value,
        keep=keep,
        quantities=tuple(name.strip() for name in quantities.split(",")) if quantities else None,
    )
    if init is not None and random_init:
        raise InputError("--init or --random-init", "both", "leave out one of them")
    if samples is not None and samples < 1:
        raise InputError("at least 1 example for --samples", str(samples), "leave it out for all of them")
    check_output_folder(out, MEASURE_FILES)
    check_device(device)
    console = Console(stderr=json_output, highlight=False)
    with progress_bar(Console(stderr=True)) as progress:
        whole = load_sample(data, Role.TRAIN, num_classes=classes, download=download, progress=progress)
        preprocessing = preprocessing_for(whole, scale, mean, std)
        network = visible_network(load_network(model, weights, whole, preprocessing))
        initial = None if init is None else load_initial(model, init, whole, preprocessing)
        sample = whole if samples is None else drawn(whole, samples, seed)
        if weights is None and not model.endswith(".pt2"):
            note = "Note: no --weights given; the weights that the factory itself sets are measured."
            Console(stderr=True, highlight=False).print(note)
        request = _Request(network, initial, random_init, sample, preprocessing, settings)
        _print_plan(request, len(whole))
        with intermediate_folder(out, "shards") as shards:
            profile = measure(
                network,
                sample,
                settings,
                preprocessing=preprocessing,
                init=initial,
                random_init=random_init,
                folder=shards,
                progress=progress,
            ).named(model)
            progress("drawing", 0.0)
            write_output(out, _files(profile), MEASURE_FILES)
    if json_output:
        print(profile.to_json(), end="")
        return
    console.print(stability_summary(profile))
    console.print(f"Results: {out / REPORT_FILE}, {out / PROFILE_FILE}", markup=False)


def _tolerance(exact: bool, tolerance: float | None) -> float:
    if exact and tolerance is not None:
        raise InputError("--exact or --tolerance", "both", "leave out one of them")
    return TOLERANCE if tolerance is None else tolerance


def _print_plan(request: _Request, whole: int) -> None:
    """Say before a long run what it will take."""
    plan = plan_measure(request.network, request.sample, request.settings)
    structure = Structure.of(request.network.architecture)
    twice = request.init is not None or request.random_init
    seconds, flops = (amount * (2 if twice else 1) for amount in (plan.seconds, plan.flops))
    drawn = f" of {whole:,}, drawn with seed {request.settings.seed}" if len(request.sample) < whole else ""
    text = (
        f"Plan: {len(request.sample):,} samples{drawn}, {len(structure.layers)} weight layers in "
        f"{len(structure.pairs)} connected pairs{', the network and its untrained twin' if twice else ''}, about "
        f"{flops:.2g} operations, {max(seconds, 1):,.0f} s on two cores, and {plan.memory_bytes / 2**20:,.0f} MiB "
        "beside the data."
    )
    Console(stderr=True, highlight=False).print(text, markup=False, soft_wrap=True)


def _files(profile: StabilityProfile) -> dict[str, bytes]:
    files = {PROFILE_FILE: profile.to_json().encode(), **stability_files(profile)}
    arrays = profile.arrays_npz()
    return files if arrays is None else {**files, ARRAYS_FILE: arrays}
