"""What the verbs share: loading a model for some data, reading a profile, and a progress bar."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bitcert.data import Sample
from bitcert.errors import CaptureError, DecodeError, InputError
from bitcert.evaluate import Progress as Report
from bitcert.helper import Preprocessing
from bitcert.measure import StabilityProfile
from bitcert.network import Network, OpaqueModel, capture, capture_opaque, load_model

MAX_PROFILE_BYTES = 1 << 28


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
    if path is None:
        return None
    try:
        size = path.stat().st_size
        if size > MAX_PROFILE_BYTES:
            got = f"{size:,} bytes"
            raise DecodeError(f"a profile.json of at most {MAX_PROFILE_BYTES:,} bytes", got, "check --profile")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError("a readable file for --profile", f"{error.strerror or error} at {path}", "check it") from error
    except UnicodeDecodeError as error:
        raise DecodeError("a profile.json written by bitcert", "a file that is no text", "check --profile") from error
    return StabilityProfile.from_json(text)


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


def preprocessing_for(sample: Sample, scale: float | None, mean: str, std: str) -> Preprocessing:
    """The usual preprocessing of the sample, with what the user states instead."""
    usual = Preprocessing.usual(sample)
    means, stds = parse_numbers(mean, "--mean"), parse_numbers(std, "--std")
    return Preprocessing(usual.scale if scale is None else scale, means, stds)


def load_network(spec: str, weights: str | None, sample: Sample, preprocessing: Preprocessing) -> LoadedNetwork:
    """Load and capture a network for this sample; fall back to an opaque module when it cannot be exported.

    Raises:
        CaptureError: when neither works; the first reason is told.
    """
    # A factory beside the user is the usual case; python -m would have put this folder on the path.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    loaded = load_model(spec, weights)
    example = preprocessing(sample.inputs[:2])
    try:
        network = capture(loaded.model, example)
    except CaptureError as refusal:
        if not isinstance(loaded.model, torch.nn.Module):
            raise
        try:
            opaque, values = capture_opaque(loaded.model, spec, example)
        except CaptureError:
            raise refusal from None
        _check_width(opaque.num_outputs, sample)
        return LoadedNetwork(opaque, values, loaded.notes, str(refusal))
    _check_width(network.architecture.num_outputs, sample)
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


def _check_width(num_outputs: int, sample: Sample) -> None:
    if num_outputs != sample.num_classes:
        got = f"{num_outputs} outputs"
        do = "use the data this network was trained for, or a network with one output per class"
        raise InputError(f"a network with {sample.num_classes} outputs, one per class of {sample.name}", got, do)


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
