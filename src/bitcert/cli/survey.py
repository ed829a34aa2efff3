"""``bitcert survey``: measures of all networks of a folder beside their generalization gaps, as a table and figures."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from bitcert.cli.common import intermediate_folder, load_holdout, load_network, note, progress_bar, wide_console
from bitcert.cli.options import DataOptions, Device, ResultOptions, refuse_both, split_commas
from bitcert.data import Sample
from bitcert.decoder import Preprocessing
from bitcert.errors import BitcertError, InputError
from bitcert.folder import SURVEY_FILES, write_output
from bitcert.network import Network, estimate_plan, is_model_file
from bitcert.report import survey_files, survey_summary
from bitcert.theory.settings import BoundSettings
from bitcert.theory.survey import survey
from bitcert.theory.survey_table import Value

SURVEY_FILE = "survey.json"
MODELS = (".pt2", ".onnx")
WEIGHTS = (".safetensors", ".pt", ".pth", ".th", ".ckpt", ".bin")
"""Ends of files that hold weights of a factory's network."""
MOST_NETWORKS, MAX_TABLE = 10_000, 1 << 25
_PAIR = re.compile(r"([A-Za-z]\w*?)=(.+?)(?=[,;_-][A-Za-z]\w*?=|$)")


@dataclass(frozen=True, kw_only=True)
class SurveyOptions(ResultOptions, DataOptions):
    """The options of the verb."""

    folder: Annotated[Path, Argument(help="Folder of .pt2 or .onnx files; with --model also of weights.")]
    model: Annotated[
        str | None,
        Option(help="package.module:factory of the weights; called with the hyperparameters that it takes."),
    ] = None
    holdout: Annotated[str | None, Option(help="Held-out labels, for the generalization gap: name or path.")] = None
    measures: Annotated[str, Option(help="Only these rows of bitcert bounds, with commas.")] = ""
    profile: Annotated[bool, Option("--profile", help="Measure noise stability too, which takes longest.")] = False
    profile_samples: Annotated[int | None, Option(help="Examples that noise stability is measured on.")] = None
    flatness: Annotated[bool, Option("--flatness", help="Search flatness too: 3 to 60 s a network.")] = False
    margin_quantile: Annotated[
        float | None, Option(help="The margin as a quantile of each network's training margins; default 0.05.")
    ] = None
    init: Annotated[
        Path | None, Option(help="Folder of initial weights, a file for each network, of the same name.")
    ] = None
    grid: Annotated[
        Path | None,
        Option(help="CSV with a column network and hyperparameters; else from names like width=32,lr=0.1.pt2."),
    ] = None
    device: Annotated[Device, Option(help="Where to compute.")] = Device.cpu
    out: Annotated[Path, Option(help="Folder for table, figures and report.")] = Path("survey-out")
    json_output: Annotated[bool, Option("--json", help="Print the survey as JSON only.")] = False

    def settings(self) -> BoundSettings:
        """What is computed, and how.

        Raises:
            InputError: options that cannot be, or exclude each other.
        """
        refuse_both(bool(self.measures) and (self.profile or self.flatness), "--measures", "--profile or --flatness")
        return self.settings_of(BoundSettings)


def survey_networks(options: SurveyOptions) -> None:
    """Measure all networks of a folder, and say which measure orders them by their generalization gap."""
    settings = options.settings()
    options.check_output(SURVEY_FILES)
    files = network_files(options.folder, options.model)
    grid = hyperparameters(files, options.grid)
    with progress_bar() as progress:
        sample = options.load_sample(progress)
        held = load_holdout(options.holdout, sample, options.download, progress)
        preprocessing = options.preprocessing(sample)
        load = partial(_load, options.model, sample=sample, preprocessing=preprocessing)
        sources = {name: partial(load, path, grid.get(name)) for name, path in files.items()}
        starts = {name: partial(load, path, grid.get(name)) for name, path in _initial(options.init, files).items()}
        _print_plan(options, sources, sample, len(starts))
        with intermediate_folder(options.out, "rows") as rows:
            found = survey(
                sources,
                sample,
                split_commas(options.measures) or None,
                settings,
                holdout=held,
                preprocessing=preprocessing,
                init=starts,
                hyperparameters=_comparable(grid) if options.grid is None else grid,
                folder=rows,
                progress=progress,
            )
            progress("drawing", 0.0)
            write_output(options.out, survey_files(found), SURVEY_FILES)
    for name, why in found.refused.items():
        note(f"Note: left out {name}: {why}")
    options.show(found.to_json(), survey_summary(found), SURVEY_FILE, wide_console())


def network_files(folder: Path, model: str | None) -> dict[str, Path]:
    """The networks of a folder by the name of their file without its end.

    Raises:
        InputError: there is no such folder, nothing in it that can be read, or two files of one name.
    """
    if not folder.is_dir():
        raise InputError(
            "a folder of networks", f"{folder}, which is none", "name a folder of .pt2 or .onnx files, or of weights"
        )
    ends = MODELS if model is None else (*MODELS, *WEIGHTS)
    files = sorted(path for path in folder.iterdir() if path.suffix in ends and path.is_file())
    if not files or len(files) > MOST_NETWORKS:
        weights = any(path.suffix in WEIGHTS for path in folder.iterdir())
        do = "name the factory of the weights with --model" if weights and not files else "put them there"
        raise InputError(f"1 to {MOST_NETWORKS:,} files {', '.join(ends)} in {folder}", str(len(files)), do)
    found: dict[str, Path] = {}
    for path in files:
        if path.stem in found:
            raise InputError("one file for each name", f"{found[path.stem].name} and {path.name}", "rename one of them")
        found[path.stem] = path
    return found


def hyperparameters(files: Mapping[str, Path], grid: Path | None) -> dict[str, dict[str, Value]]:
    """Of each network, from a CSV file or from its name.

    Raises:
        InputError: the file cannot be read, has no column ``network``, or does not name every network.
    """
    if grid is not None:
        return {name: own for name, own in _read_grid(grid).items() if name in files}
    return {name: {key: _value(value) for key, value in _PAIR.findall(name)} for name in files}


def _comparable(grid: dict[str, dict[str, Value]]) -> dict[str, dict[str, Value]]:
    """Hyperparameters that every network states, for the conditional correlations; none, with a note, otherwise."""
    stated = Counter(frozenset(own) for own in grid.values())
    if len(stated) == 1:
        return grid if all(stated) else {}
    odd = min(grid, key=lambda name: stated[frozenset(grid[name])])
    note(f"Note: no correlations by hyperparameter: {odd} states other ones than the rest, or none.")
    return {}


def _read_grid(path: Path) -> dict[str, dict[str, Value]]:
    try:
        if path.stat().st_size > MAX_TABLE:
            raise InputError(f"a --grid of at most {MAX_TABLE:,} bytes", f"more in {path}", "keep to the networks")
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError("a CSV file for --grid", f"{error} at {path}", "check it") from error
    if not rows or "network" not in rows[0] or any(None in row or None in row.values() for row in rows):
        got = f"{path} with other columns, or rows that are shorter or longer"
        raise InputError("a --grid with a column network and one for each hyperparameter", got, "name its columns")
    return {
        Path(row["network"]).stem if row["network"].endswith((*MODELS, *WEIGHTS)) else row["network"]: {
            key: _value(value) for key, value in row.items() if key != "network"
        }
        for row in rows
    }


def _value(text: str) -> Value:
    """A whole number, another number, or the text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _load(
    model: str | None, path: Path, own: Mapping[str, Value] | None, *, sample: Sample, preprocessing: Preprocessing
) -> Network:
    if model is None or is_model_file(str(path)):
        return load_network(str(path), None, sample, preprocessing).visible()
    return load_network(model, str(path), sample, preprocessing, own).visible()


def _initial(folder: Path | None, files: Mapping[str, Path]) -> dict[str, Path]:
    """The file of initial weights of every network that has one."""
    if folder is None:
        return {}
    found = {name: folder / path.name for name, path in files.items() if (folder / path.name).is_file()}
    if not found:
        got = f"none in {folder}"
        raise InputError("initial weights in files of the networks' names for --init", got, "name them alike")
    return found


def _print_plan(
    options: SurveyOptions, sources: Mapping[str, Callable[[], Network]], sample: Sample, starts: int
) -> None:
    """Say before a long run what it will take."""
    try:
        seconds = estimate_plan(next(iter(sources.values()))(), len(sample), 1).estimate_seconds()
        pace = f", about {max(1, seconds):,.0f} s a pass over the data with the first"
    except BitcertError:
        pace = ""
    left = [name for name, on in (("noise stability", options.profile), ("flatness", options.flatness)) if not on]
    what = f"all measures{' but ' if left else ''}{' and '.join(left)}"
    if options.measures:
        what = f"{len(split_commas(options.measures))} measures"
    gap = "" if options.holdout else "; without --holdout there is no generalization gap"
    start = f"; initial weights of {starts}" if options.init is not None else ""
    note(
        f"Plan: {len(sources):,} networks, {len(sample):,} samples{pace}; {what}{start}{gap}. "
        "Finished networks are kept: after an interruption the same command goes on."
    )
