"""What the verbs share: loading a model for some data, reading profiles and tables, and a progress bar."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bitcert.certificates.certification import check_holdout
from bitcert.certificates.original import Original, check_unlabelled, unlabelled_sample
from bitcert.counting import Progress as Report
from bitcert.data import Role, Sample, load_sample
from bitcert.decoder import Preprocessing
from bitcert.errors import CaptureError, DecodeError, InputError
from bitcert.locking import claimed
from bitcert.network import Network, OpaqueModel, capture, capture_opaque, load_model
from bitcert.stability import StabilityProfile
from bitcert.theory.table import BoundTable

MAX_FILE_BYTES = 1 << 25
MAX_REASON = 300


class Device(StrEnum):
    """Where a verb computes."""

    cpu = "cpu"
    cuda = "cuda"


def check_device(device: Device) -> None:
    """Refuse a device that this torch cannot use.

    Raises:
        InputError: there is no CUDA device.
    """
    if device is Device.cuda and not torch.cuda.is_available():
        raise InputError("a CUDA device", "none that this torch can use", "leave out --device cuda")


def read_profile(path: Path | None) -> StabilityProfile | None:
    """The profile in a file that ``bitcert measure`` wrote; ``None`` for no path.

    Raises:
        InputError: a file that cannot be read.
        DecodeError: another kind of file.
    """
    return None if path is None else StabilityProfile.from_json(_read_text(path, "--profile", "profile.json"))


def read_bounds(path: Path | None, option: str = "--bounds") -> BoundTable | None:
    """The table in a file that ``bitcert bounds`` wrote; ``None`` for no path.

    Raises:
        InputError: a file that cannot be read.
        DecodeError: another kind of file.
    """
    return None if path is None else BoundTable.from_json(_read_text(path, option, "bounds.json"))


def _read_text(path: Path, option: str, name: str) -> str:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            got = f"{size:,} bytes"
            raise DecodeError(f"a {name} of at most {MAX_FILE_BYTES:,} bytes", got, f"check {option}")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"a readable file for {option}", f"{error.strerror or error} at {path}", "check it") from error
    except UnicodeDecodeError as error:
        raise DecodeError(f"a {name} written by bitcert", "a file that is no text", f"check {option}") from error


@dataclass(frozen=True, eq=False)
class LoadedNetwork:
    """A user's network as bitcert sees it: captured, or opaque with the reason why."""

    predictor: Network | OpaqueModel
    values: dict[str, torch.Tensor]
    notes: tuple[str, ...]
    refusal: str = ""


def parse_numbers(text: str, option: str) -> tuple[float, ...]:
    """``"0.485,0.456"`` -> ``(0.485, 0.456)``."""
    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise InputError(f"numbers separated by commas for {option}", repr(text), "write e.g. 0.5,0.5,0.5") from None


def parse_sizes(text: str, option: str) -> tuple[int, ...]:
    """``"3,32,32"`` -> ``(3, 32, 32)``.

    Raises:
        InputError: anything else.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"sizes separated by commas for {option}", repr(text), "write e.g. 3,32,32") from None


def preprocessing_for(sample: Sample, scale: float | None, mean: str, std: str) -> Preprocessing:
    """The usual preprocessing of the sample, with what the user states instead."""
    usual = Preprocessing.usual(sample)
    means, stds = parse_numbers(mean, "--mean"), parse_numbers(std, "--std")
    return Preprocessing(usual.scale if scale is None else scale, means, stds)


def load_network(spec: str, weights: str | None, sample: Sample, preprocessing: Preprocessing) -> LoadedNetwork:
    """Load and capture a network for this sample; fall back to an opaque module when it cannot be exported.

    Raises:
        CaptureError: when neither works; the reason of the second is told.
    """
    network = load_for_inputs(spec, weights, sample, preprocessing)
    seen = network.predictor
    _check_width(seen.architecture.num_outputs if isinstance(seen, Network) else seen.num_outputs, sample)
    return network


def load_for_inputs(spec: str, weights: str | None, sample: Sample, preprocessing: Preprocessing) -> LoadedNetwork:
    """Like :func:`load_network` for the inputs alone: it may have any number of outputs.

    Raises:
        CaptureError: as there.
    """
    loaded = load_model(spec, weights)
    example = preprocessing(sample.inputs[:2])
    try:
        network = capture(loaded.model, example)
    except CaptureError as refusal:
        if not isinstance(loaded.model, torch.nn.Module):
            raise
        # where this too is refused, its reason is the user's to mend; what export says is often about export
        opaque, values = capture_opaque(loaded.model, spec, example)
        return LoadedNetwork(opaque, values, loaded.notes, str(refusal))
    return LoadedNetwork(network, dict(network.parameters), loaded.notes)


def load_opaque(spec: str, sample: Sample) -> OpaqueModel:
    """The user's own Python network, run but not looked into.

    Raises:
        InputError: when it cannot be loaded or run.
    """
    loaded = load_model(spec)
    if not isinstance(loaded.model, torch.nn.Module):
        raise InputError("package.module:factory for --model", repr(spec), "leave it out for a .pt2 network")
    opaque, _ = capture_opaque(loaded.model, spec, Preprocessing.usual(sample)(sample.inputs[:2]))
    return opaque


def visible_network(loaded: LoadedNetwork) -> Network:
    """The network, if its layers were captured.

    Raises:
        InputError: it is opaque.
    """
    if isinstance(loaded.predictor, Network):
        return loaded.predictor
    got = f"one that cannot be captured ({loaded.refusal[:MAX_REASON]})"
    raise InputError("a network whose layers can be seen", got, "change that part; as it is it can only be certified")


def load_initial(model: str, init: str, sample: Sample, preprocessing: Preprocessing) -> Network:
    """The same network with its initial weights: of a .pt2 another .pt2, else weights for the factory.

    Raises:
        InputError: they cannot be read, or do not fit.
    """
    if not model.endswith(".pt2"):
        return visible_network(load_network(model, init, sample, preprocessing))
    if not init.endswith(".pt2"):
        raise InputError("the initial network as a .pt2 file for --init", repr(init), "export it before training")
    return visible_network(load_network(init, None, sample, preprocessing))


def load_holdout(name: str | None, sample: Sample, download: bool, progress: Report) -> Sample | None:
    """Held-out labels for the same problem, not shared with the sample; ``None`` for no name.

    Raises:
        InputError: they cannot be read or do not fit.
        SampleReuseError: they share examples with the sample.
    """
    if name is None:
        return None
    classes = sample.num_classes
    held = load_sample(name, Role.HOLDOUT, split="test", num_classes=classes, download=download, progress=progress)
    check_holdout(sample, held)
    return held


def load_unlabelled_for(
    name: str, sample: Sample, download: bool, progress: Report, holdout: Sample | None = None
) -> Sample:
    """Unlabelled data for ``--unlabelled``: the test part of a source that has one, its labels dropped.

    Args:
        name: of a built-in data set, or a path.
        sample: the whole training sample, of which none may be among them.
        download: fetch built-in data that are not found.
        progress: while downloading.
        holdout: held-out labels, of which none may be among them either.

    Raises:
        InputError: they cannot be read or do not fit.
        SampleReuseError: they share examples with another sample, with their number.
    """
    classes = sample.num_classes
    found = load_sample(name, Role.UNLABELLED, split="test", num_classes=classes, download=download, progress=progress)
    unlabelled = unlabelled_sample(found)
    check_unlabelled(unlabelled, sample, *([] if holdout is None else [holdout]))
    return unlabelled


def original_of(network: LoadedNetwork, preprocessing: Preprocessing, unlabelled: Sample, spec: str) -> Original:
    """The original network of a certificate from what the user named; of a path only the last part is told."""
    predictor = network.predictor.architecture if isinstance(network.predictor, Network) else network.predictor
    name = spec if ":" in spec else Path(spec).name
    return Original(predictor, network.values, preprocessing, unlabelled, name)


def load_original(spec: str, weights: str | None, unlabelled: Sample, preprocessing: Preprocessing) -> Original:
    """The original network named by ``--original`` and ``--weights``, for the unlabelled sample.

    Raises:
        InputError: it cannot be read, or does not fit the sample.
    """
    return original_of(load_network(spec, weights, unlabelled, preprocessing), preprocessing, unlabelled, spec)


def _check_width(num_outputs: int, sample: Sample) -> None:
    if num_outputs != sample.num_classes:
        got = f"{num_outputs} outputs"
        do = "use the data this network was trained for, or a network with one output per class"
        raise InputError(f"a network with {sample.num_classes} outputs, one per class of {sample.name}", got, do)


@contextmanager
def intermediate_folder(out: Path, kind: str) -> Iterator[Path]:
    """A hidden folder beside ``out`` for finished parts: gone after success, kept for the next run after anything else.

    Another run that is writing to the same ``out`` has its own.
    """
    out = Path(os.path.abspath(out))
    with claimed(out.with_name(f".{out.name}.{kind}")) as folder:
        yield folder


@contextmanager
def progress_bar(console: Console) -> Iterator[Report]:
    """A bar with elapsed and remaining time, one line per kind of work."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    # In a file or a pipe a bar is only noise between the sentences.
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks: dict[str, object] = {}

        def report(task: str, fraction: float) -> None:
            if task not in tasks:
                tasks[task] = bar.add_task(task, total=1.0)
            bar.update(tasks[task], completed=fraction)  # type: ignore[arg-type]

        yield report
