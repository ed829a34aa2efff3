"""``bitcert bounds``: every bound of the papers and of their baselines on one network; several of them as a series."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.text import Text
from typer import Argument, Option

from bitcert.certificates.certificate import CERTIFICATE_FILE
from bitcert.certificates.reading import CannotCheckError, Checker, InvalidError, read_certificate
from bitcert.cli.common import (
    intermediate_folder,
    load_holdout,
    load_initial,
    note,
    progress_bar,
    read_results,
    wide_console,
)
from bitcert.cli.executors import ExecutorOptions
from bitcert.cli.options import Device, RunOptions, parse_numbers, refuse_both, split_commas
from bitcert.data import Sample
from bitcert.errors import BitcertError, InputError
from bitcert.folder import BOUNDS_FILES, SERIES_FILES, check_output_folder, write_output
from bitcert.network import Network, is_model_file
from bitcert.report import bounds_files, bounds_summary, series_files
from bitcert.report.bounds.series import differences
from bitcert.stability import StabilityProfile, plan_measure
from bitcert.theory.gathering import bounds
from bitcert.theory.ingredients.messages import open_messages
from bitcert.theory.settings import BoundSettings
from bitcert.theory.table import BoundTable

BOUNDS_FILE = "bounds.json"
SERIES_FILE = "series.json"
OUT, SERIES_OUT = Path("bounds-out"), Path("series-out")
MOST_CERTIFICATES = 20


@dataclass(frozen=True, kw_only=True)
class BoundsOptions(RunOptions, ExecutorOptions):
    """The options of the verb."""

    model: Annotated[
        str | None, Argument(help="FILE.pt2, FILE.onnx or package.module:factory; none with --series.")
    ] = None
    init: Annotated[str | None, Option(help="Initial weights (of a file: another file), for distances.")] = None
    holdout: Annotated[str | None, Option(help="Held-out labels, for the real gap: name or path.")] = None
    gamma: Annotated[float | None, Option(help="The margin.")] = None
    margin_quantile: Annotated[
        float | None, Option(help="The margin as a quantile of the training margins; default 0.05.")
    ] = None
    delta: Annotated[float, Option(help="Probability with which a guarantee may fail.")] = 0.05
    zeta: Annotated[float, Option(help="Fraction of examples that may be left out as outliers.")] = 0.01
    profile: Annotated[Path | None, Option(help="profile.json of bitcert measure; else it is measured.")] = None
    no_profile: Annotated[bool, Option("--no-profile", help="Measure no noise stability.")] = False
    profile_samples: Annotated[int | None, Option(help="Examples that noise stability is measured on.")] = None
    no_flatness: Annotated[bool, Option("--no-flatness", help="Search no flatness (noise on weights).")] = False
    certificates: Annotated[str, Option(help="Folders of bitcert certify, with commas; else next to it.")] = ""
    no_certificates: Annotated[bool, Option("--no-certificates", help="Look for no certificates.")] = False
    device: Annotated[Device, Option(help="Where to compute.")] = Device.cpu
    series: Annotated[str, Option(help="Draw these bounds.json together, with commas.")] = ""
    over: Annotated[str, Option(help="Series: width, depth, parameters, samples, or a word for --at.")] = "width"
    at: Annotated[str, Option(help="Series: a number for each file, e.g. its epoch: 1,5,20.")] = ""
    out: Annotated[Path | None, Option(help=f"Folder for results: {OUT} or {SERIES_OUT} without it.")] = None
    json_output: Annotated[bool, Option("--json", help="Print the rows as a JSON list only.")] = False

    def settings(self) -> BoundSettings:
        """What is computed, and how.

        Raises:
            InputError: options that cannot be, or exclude each other.
        """
        refuse_both(self.gamma is not None and self.margin_quantile is not None, "--gamma", "--margin-quantile")
        refuse_both(self.profile is not None and self.no_profile, "--profile", "--no-profile")
        refuse_both(bool(self.certificates) and self.no_certificates, "--certificates", "--no-certificates")
        return self.settings_of(BoundSettings, profile=not self.no_profile, flatness=not self.no_flatness)


def compute_bounds(options: BoundsOptions) -> None:
    """Every bound of the papers on one network, side by side: what is proved, what is only measured."""
    if options.series:
        if options.model is not None:
            raise InputError("a model or --series", "both", "leave out one of them")
        _series(replace(options, out=options.out or SERIES_OUT))
        return
    if options.model is None:
        raise InputError(
            "a model", "none", "name it as FILE.pt2, FILE.onnx or package.module:factory, or give --series"
        )
    options = replace(options, out=options.out or OUT)
    settings = options.settings()
    options.check_output(BOUNDS_FILES)
    profile = read_results(StabilityProfile, options.profile, "--profile")
    with progress_bar() as progress:
        sample = options.load_sample(progress)
        held = load_holdout(options.holdout, sample, options.download, progress)
        preprocessing = options.preprocessing(sample)
        network = options.load_network(sample).visible()
        initial = load_initial(options.model, options.init, sample, preprocessing)
        found = () if options.no_certificates else _certificates(options, sample)
        options.note_weights("the bounds are of the weights that the factory itself sets")
        _print_plan(options, settings, network, sample, found)
        with intermediate_folder(options.out, "shards") as shards:
            table = bounds(
                network,
                sample,
                settings,
                preprocessing=preprocessing,
                init=initial,
                profile=profile,
                holdout=held,
                messages=found,
                folder=shards,
                progress=progress,
            ).named(options.model)
            progress("drawing", 0.0)
            files = {BOUNDS_FILE: table.to_json().encode(), **bounds_files(table)}
            write_output(options.out, files, BOUNDS_FILES)
    options.show(table.rows_json(), bounds_summary(table), BOUNDS_FILE, wide_console())


def _certificates(options: BoundsOptions, sample: Sample) -> tuple[Path, ...]:
    """Certificates named by the user; else those of this sample in the model's folder and right below it."""
    if options.certificates:
        return tuple(map(Path, split_commas(options.certificates)))
    beside = options.weights if options.weights is not None else options.model
    if beside is None or (options.weights is None and not is_model_file(beside)):
        return ()
    home = Path(beside).parent
    candidates = [home / CERTIFICATE_FILE, *sorted(home.glob(f"*/{CERTIFICATE_FILE}"))]
    found = tuple(path for path in candidates if _is_of(path, sample) and _opens(path, sample))
    if len(found) > MOST_CERTIFICATES:
        note(
            f"Note: {len(found)} certificates of this sample beside the weights; the first {MOST_CERTIFICATES} by name "
            f"are taken, {len(found) - MOST_CERTIFICATES} left out. Name others with --certificates."
        )
    return found[:MOST_CERTIFICATES]


def _is_of(path: Path, sample: Sample) -> bool:
    """Whether a file is a certificate of this sample; one that was not asked for and is broken is none."""
    try:
        return bool(read_certificate(path, Checker()).data.get("hash") == sample.content_hash)
    except (CannotCheckError, InvalidError):
        return False


def _opens(path: Path, sample: Sample) -> bool:
    """Whether the files beside a certificate that nobody named are whole; if not, it is left out with a note."""
    try:
        open_messages((path,), sample)
    except BitcertError as error:
        note(f"Note: left out {path}, which lies beside the weights: {error.got[:200]}.")
        return False
    return True


def _print_plan(
    options: BoundsOptions, settings: BoundSettings, network: Network, sample: Sample, found: tuple[Path, ...]
) -> None:
    """Say before a long run what it will take."""
    count = len(sample)
    if options.profile is not None:
        stability = "taken from --profile"
    elif not settings.profile:
        stability = "left out"
    else:
        measured = min(settings.profile_samples or count, count)
        seconds = plan_measure(network, sample, settings.measure).seconds * measured / count
        stability = f"measured on {measured:,} of them in about {max(seconds, 1):,.0f} s on two cores"
    flatness = "searched, 3 to 60 s, anew after an interruption" if settings.flatness else "left out"
    note(
        f"Plan: {count:,} samples; noise stability {stability}; flatness {flatness}; "
        f"initial weights {'given' if options.init is not None else 'not given'}; "
        f"certificates: {', '.join(map(str, found)) or 'none'}."
    )


def _series(options: BoundsOptions) -> None:
    """Several tables as one figure, page and file."""
    check_output_folder(options.out, SERIES_FILES)
    named = (read_results(BoundTable, Path(name), "--series") for name in split_commas(options.series))
    tables = [table for table in named if table is not None]
    files = series_files(tables, options.over, parse_numbers(options.at, "--at") or None)
    write_output(options.out, files, SERIES_FILES)
    summary = f"{len(tables)} networks against {options.over}. {differences(tables)}".strip()
    options.show(files[SERIES_FILE].decode(), Text(summary), SERIES_FILE, Console(highlight=False, soft_wrap=True))
