"""``bitcert bounds``: every bound of the papers and of their baselines on one network; several of them as a series."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bitcert.certificates.certificate import Certificate
from bitcert.cli.common import (
    Device,
    check_device,
    intermediate_folder,
    load_holdout,
    load_initial,
    load_network,
    parse_numbers,
    preprocessing_for,
    progress_bar,
    read_bounds,
    read_profile,
    visible_network,
)
from bitcert.counting import Progress
from bitcert.data import Role, Sample, load_sample
from bitcert.decoder import Preprocessing
from bitcert.errors import BitcertError, InputError
from bitcert.folder import BOUNDS_FILES, SERIES_FILES, check_output_folder, write_output
from bitcert.network import Network
from bitcert.report import bounds_files, bounds_summary, series_files
from bitcert.report.bounds.series import differences
from bitcert.stability import StabilityProfile, plan_measure
from bitcert.theory.gathering import bounds
from bitcert.theory.ingredients.messages import open_messages
from bitcert.theory.settings import BoundSettings
from bitcert.theory.table import BoundTable

BOUNDS_FILE = "bounds.json"
SERIES_FILE = "series.json"
REPORT_FILE = "report.html"
CERTIFICATE_FILE = "certificate.json"
OUT, SERIES_OUT = "bounds-out", "series-out"
WIDTH_OF_FILES = 120
MOST_CERTIFICATES = 20
MOST_CERTIFICATE_BYTES = 1 << 20


@dataclass(frozen=True)
class _Request:
    """Whose bounds are to be computed, and from what."""

    network: Network
    init: Network | None
    sample: Sample
    holdout: Sample | None
    preprocessing: Preprocessing
    profile: StabilityProfile | None
    certificates: tuple[Path, ...]
    settings: BoundSettings


def bounds_command(
    model: Annotated[str | None, typer.Argument(help="FILE.pt2 or package.module:factory; none with --series.")] = None,
    data: Annotated[str, typer.Option(help="Training data: a built-in name or a path.")] = "digits",
    weights: Annotated[str | None, typer.Option(help="Weights of the factory: .safetensors or state dict.")] = None,
    init: Annotated[str | None, typer.Option(help="Initial weights (of a .pt2: another .pt2), for distances.")] = None,
    holdout: Annotated[str | None, typer.Option(help="Held-out labels, for the real gap: name or path.")] = None,
    gamma: Annotated[float | None, typer.Option(help="The margin.")] = None,
    margin_quantile: Annotated[
        float | None, typer.Option(help="The margin as a quantile of the training margins [0.05].")
    ] = None,
    delta: Annotated[float, typer.Option(help="Probability with which a guarantee may fail.")] = 0.05,
    zeta: Annotated[float, typer.Option(help="Fraction of examples that may be left out as outliers.")] = 0.01,
    profile: Annotated[Path | None, typer.Option(help="profile.json of bitcert measure; else it is measured.")] = None,
    no_profile: Annotated[bool, typer.Option("--no-profile", help="Measure no noise stability.")] = False,
    profile_samples: Annotated[int | None, typer.Option(help="Examples that noise stability is measured on.")] = None,
    no_flatness: Annotated[bool, typer.Option("--no-flatness", help="Search no flatness (noise on weights).")] = False,
    certificates: Annotated[str, typer.Option(help="Folders of bitcert certify, with commas; else next to it.")] = "",
    no_certificates: Annotated[bool, typer.Option("--no-certificates", help="Look for no certificates.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the named random streams.")] = 0,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = Device.cpu,
    scale: Annotated[float | None, typer.Option(help="Divide inputs by this (8-bit pixels: 255).")] = None,
    mean: Annotated[str, typer.Option(help="Per-channel means subtracted after scaling.")] = "",
    std: Annotated[str, typer.Option(help="Per-channel deviations divided by.")] = "",
    classes: Annotated[int | None, typer.Option(help="Number of classes.")] = None,
    download: Annotated[bool, typer.Option(help="Download built-in data that are not found.")] = False,
    series: Annotated[str, typer.Option(help="Draw these bounds.json together, with commas.")] = "",
    over: Annotated[str, typer.Option(help="Series: width, depth, parameters, samples, or a word for --at.")] = "width",
    at: Annotated[str, typer.Option(help="Series: a number for each file, e.g. its epoch: 1,5,20.")] = "",
    out: Annotated[Path | None, typer.Option(help=f"Folder for results [{OUT} or {SERIES_OUT}].")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the rows as a JSON list only.")] = False,
) -> None:
    """Every bound of the papers on one network, side by side: what is proved, what is only measured."""
    if series:
        if model is not None:
            raise InputError("a model or --series", "both", "leave out one of them")
        _series(series, over, at, Path(SERIES_OUT) if out is None else out, json_output)
        return
    if model is None:
        raise InputError("a model", "none", "name it as FILE.pt2 or package.module:factory, or give --series")
    _refuse_pairs(gamma is not None and margin_quantile is not None, "--gamma", "--margin-quantile")
    _refuse_pairs(profile is not None and no_profile, "--profile", "--no-profile")
    _refuse_pairs(bool(certificates) and no_certificates, "--certificates", "--no-certificates")
    settings = BoundSettings(
        gamma=gamma,
        margin_quantile=margin_quantile,
        delta=delta,
        zeta=zeta,
        seed=seed,
        profile=not no_profile,
        profile_samples=profile_samples,
        flatness=not no_flatness,
        device=device.value,
    )
    folder = Path(OUT) if out is None else out
    check_output_folder(folder, BOUNDS_FILES)
    check_device(device)
    stability = read_profile(profile)
    with progress_bar(Console(stderr=True)) as progress:
        sample = load_sample(data, Role.TRAIN, num_classes=classes, download=download, progress=progress)
        held = load_holdout(holdout, sample, download, progress)
        preprocessing = preprocessing_for(sample, scale, mean, std)
        network = visible_network(load_network(model, weights, sample, preprocessing))
        initial = None if init is None else load_initial(model, init, sample, preprocessing)
        found = () if no_certificates else _certificates(certificates, model, weights, sample)
        _note_weights(model, weights)
        request = _Request(network, initial, sample, held, preprocessing, stability, found, settings)
        _print_plan(request)
        with intermediate_folder(folder, "shards") as shards:
            table = _compute(request, shards, progress).named(model)
            progress("drawing", 0.0)
            files = {BOUNDS_FILE: table.to_json().encode(), **bounds_files(table)}
            write_output(folder, files, BOUNDS_FILES)
    if json_output:
        print(table.rows_json(), end="")
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        # in a file or a pipe names of rows are looked for: none is folded
        console = Console(highlight=False, width=WIDTH_OF_FILES)
    console.print(bounds_summary(table))
    console.print(f"Results: {folder / REPORT_FILE}, {folder / BOUNDS_FILE}", markup=False)


def _refuse_pairs(both: bool, one: str, other: str) -> None:
    if both:
        raise InputError(f"{one} or {other}", "both", "leave out one of them")


def _compute(request: _Request, shards: Path, progress: Progress) -> BoundTable:
    return bounds(
        request.network,
        request.sample,
        request.settings,
        preprocessing=request.preprocessing,
        init=request.init,
        profile=request.profile,
        holdout=request.holdout,
        messages=request.certificates,
        folder=shards,
        progress=progress,
    )


def _certificates(named: str, model: str, weights: str | None, sample: Sample) -> tuple[Path, ...]:
    """Certificates named by the user; else those of this sample in the model's folder and right below it."""
    if named:
        return tuple(Path(part.strip()) for part in named.split(",") if part.strip())
    beside = weights if weights is not None else (model if model.endswith(".pt2") else None)
    if beside is None:
        return ()
    home = Path(beside).parent
    candidates = [home / CERTIFICATE_FILE, *sorted(home.glob(f"*/{CERTIFICATE_FILE}"))]
    found = tuple(path for path in candidates if _is_of(path, sample) and _opens(path, sample))
    if len(found) > MOST_CERTIFICATES:
        note = (
            f"Note: {len(found)} certificates of this sample beside the weights; the first {MOST_CERTIFICATES} by name "
            f"are taken, {len(found) - MOST_CERTIFICATES} left out. Name others with --certificates."
        )
        Console(stderr=True, highlight=False).print(note, markup=False, soft_wrap=True)
    return found[:MOST_CERTIFICATES]


def _is_of(path: Path, sample: Sample) -> bool:
    """Whether a file is a certificate of this sample; one that was not asked for and is broken is none."""
    try:
        if not path.is_file() or path.stat().st_size > MOST_CERTIFICATE_BYTES:
            return False
        return bool(Certificate.from_json(path.read_text(encoding="ascii")).data.get("hash") == sample.content_hash)
    except (BitcertError, OSError, UnicodeDecodeError):
        return False


def _opens(path: Path, sample: Sample) -> bool:
    """Whether the files beside a certificate that nobody named are whole; if not, it is left out with a note."""
    try:
        open_messages((path,), sample)
    except BitcertError as error:
        note = f"Note: left out {path}, which lies beside the weights: {error.got[:200]}."
        Console(stderr=True, highlight=False).print(note, markup=False, soft_wrap=True)
        return False
    return True


def _note_weights(model: str, weights: str | None) -> None:
    if weights is None and not model.endswith(".pt2"):
        note = "Note: no --weights given; the bounds are of the weights that the factory itself sets."
        Console(stderr=True, highlight=False).print(note, soft_wrap=True)


def _print_plan(request: _Request) -> None:
    """Say before a long run what it will take."""
    settings, count = request.settings, len(request.sample)
    if request.profile is not None:
        stability = "taken from --profile"
    elif not settings.profile:
        stability = "left out"
    else:
        measured = min(settings.profile_samples or count, count)
        seconds = plan_measure(request.network, request.sample, settings.measure).seconds * measured / count
        stability = f"measured on {measured:,} of them in about {max(seconds, 1):,.0f} s on two cores"
    found = ", ".join(str(path) for path in request.certificates) or "none"
    flatness = "searched, 3 to 60 s, anew after an interruption" if settings.flatness else "left out"
    text = (
        f"Plan: {count:,} samples; noise stability {stability}; flatness {flatness}; "
        f"initial weights {'given' if request.init is not None else 'not given'}; certificates: {found}."
    )
    Console(stderr=True, highlight=False).print(text, markup=False, soft_wrap=True)


def _series(named: str, over: str, at: str, out: Path, json_output: bool) -> None:
    """Several tables as one figure, page and file."""
    paths = [Path(part.strip()) for part in named.split(",") if part.strip()]
    check_output_folder(out, SERIES_FILES)
    tables = [table for path in paths if (table := read_bounds(path, "--series")) is not None]
    places = parse_numbers(at, "--at") or None
    files = series_files(tables, over, places)
    write_output(out, files, SERIES_FILES)
    if json_output:
        print(files[SERIES_FILE].decode(), end="")
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{len(tables)} networks against {over}. {differences(tables)}".strip(), markup=False)
    console.print(f"Results: {out / REPORT_FILE}, {out / SERIES_FILE}", markup=False)
