"""What the verbs share: loading networks and data, reading profiles and tables, files of a message, and a bar."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import nn

from bitcert import clock
from bitcert.canonical import hash_of
from bitcert.certificates.certificate import MESSAGE_FILE
from bitcert.certificates.certification import ARCHITECTURE_FILE, check_holdout
from bitcert.certificates.original import Original, check_unlabelled, load_test_part
from bitcert.counting import Progress as Report
from bitcert.data import Role, Sample
from bitcert.decoder import HelperWeights, Preprocessing, as_network, example_for
from bitcert.decoder.weights import HELPER_FILE
from bitcert.errors import CaptureError, DecodeError, InputError
from bitcert.locking import claimed
from bitcert.network import Architecture, Network, OpaqueModel, capture, capture_opaque, is_model_file, load_model
from bitcert.network.checks import OF_TWO
from bitcert.run import Checkpoint, Compressed

if TYPE_CHECKING:
    from bitcert.stability import StabilityProfile
    from bitcert.theory.table import BoundTable

MAX_FILE_BYTES = 1 << 25
MAX_REASON = 300
WIDTH_OF_FILES = 120
NAMES = {"StabilityProfile": "profile.json", "BoundTable": "bounds.json"}
Results = TypeVar("Results", "StabilityProfile", "BoundTable")


class Said(IntEnum):
    """How much is said on stderr beside the results; a failure is always told."""

    QUIET, USUAL, VERBOSE = 0, 1, 2


said: ContextVar[Said] = ContextVar("said", default=Said.USUAL)
"""What ``--quiet`` or ``--verbose`` of the verb that runs asks for."""


def stderr_console() -> Console:
    """Where everything beside the results is said; nothing of it with ``--quiet``."""
    return Console(stderr=True, highlight=False, quiet=said.get() is Said.QUIET)


def note(text: str) -> None:
    """Say something beside the results: one line on stderr."""
    stderr_console().print(text, markup=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Seconds to three digits in a unit that people use.

    >>> duration(25), duration(2500), duration(90_000)
    ('25 s', '41.7 min', '25 h')
    """
    unit, size = next(((name, size) for name, size in (("h", 3600.0), ("min", 60.0)) if seconds >= size), ("s", 1.0))
    return f"{seconds / size:.3g} {unit}"


def wide_console() -> Console:
    """For tables with long names: in a file or a pipe names of rows are looked for, so none is folded there."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDTH_OF_FILES)


def read_results(kind: type[Results], path: Path | None, option: str) -> Results | None:
    """The profile or table of bounds in a file that another verb wrote; ``None`` for no path.

    Raises:
        InputError: a file that cannot be read.
        DecodeError: another kind of file.
    """
    return None if path is None else kind.from_json(_read_text(path, option, NAMES[kind.__name__]))


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

    @property
    def described(self) -> Architecture | OpaqueModel:
        """What a helper says of it: the structure, not the weights."""
        return self.predictor.architecture if isinstance(self.predictor, Network) else self.predictor

    def visible(self) -> Network:
        """The network, if its layers were captured: for measuring.

        Raises:
            InputError: it is opaque.
        """
        got = f"one that cannot be captured ({self.refusal[:MAX_REASON]})"
        return self._captured("seen", got, "change that part; as it is it can only be certified")

    def captured(self) -> Network:
        """The network, if it was captured: codecs work on its layers.

        Raises:
            InputError: it is opaque.
        """
        return self._captured("captured", self.refusal, "bitcert certify without --codec takes it as an opaque module")

    def _captured(self, how: str, got: str, do: str) -> Network:
        if isinstance(self.predictor, Network):
            return self.predictor
        raise InputError(f"a network whose layers can be {how}", got, do)


def load_network(
    spec: str,
    weights: str | None,
    sample: Sample,
    preprocessing: Preprocessing,
    arguments: Mapping[str, object] | None = None,
) -> LoadedNetwork:
    """Load and capture a network for this sample; fall back to an opaque module when it cannot be exported.

    Raises:
        CaptureError: when neither works; the reason of the second is told.
        InputError: it has not one output for each class.
    """
    network = load_for_inputs(spec, weights, sample, preprocessing, arguments)
    if network.described.num_outputs != sample.num_classes:
        count = network.described.num_outputs
        got = "1 output" if count == 1 else f"{count} outputs"
        do = "use the data this network was trained for, or a network with one output per class"
        do += f"; {OF_TWO}" if count == 1 and sample.num_classes == 2 else ""
        raise InputError(f"a network with {sample.num_classes} outputs, one per class of {sample.name}", got, do)
    return network


def load_for_inputs(
    spec: str,
    weights: str | None,
    sample: Sample,
    preprocessing: Preprocessing,
    arguments: Mapping[str, object] | None = None,
) -> LoadedNetwork:
    """Like :func:`load_network` for the inputs alone: it may have any number of outputs.

    Raises:
        CaptureError: as there.
    """
    loaded = load_model(spec, weights, arguments)
    example = example_for(loaded.model, sample, preprocessing)
    try:
        network = capture(loaded.model, example)
    except CaptureError as refusal:
        if not isinstance(loaded.model, nn.Module) or is_model_file(spec):
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
    if not isinstance(loaded.model, nn.Module) or is_model_file(spec):
        raise InputError("package.module:factory for --model", repr(spec), "leave it out for a network in a file")
    opaque, _ = capture_opaque(loaded.model, spec, example_for(loaded.model, sample))
    return opaque


def load_initial(model: str, init: str | None, sample: Sample, preprocessing: Preprocessing) -> Network | None:
    """The same network with its initial weights: of a file another file, else weights for the factory.

    Raises:
        InputError: they cannot be read, or do not fit.
    """
    if init is None:
        return None
    if is_model_file(model) and not is_model_file(init):
        raise InputError(
            "the initial network as a file, like the model, for --init", repr(init), "export it before training"
        )
    alone = is_model_file(model)
    return load_network(init if alone else model, None if alone else init, sample, preprocessing).visible()


def prior_model(spec: str, load: Callable[[], LoadedNetwork]) -> nn.Module | Network:
    """Whose architecture is trained on a prior part: the module where there is one, else the captured network.

    Raises:
        InputError: neither.
    """
    module = None if is_model_file(spec) else load_model(spec).model
    return module if isinstance(module, nn.Module) else load().captured()


def load_helper_network(model: str | None, helper: str, sample: Sample, preprocessing: Preprocessing) -> Network:
    """A public network that messages may refer to, for these inputs; it may be one for other classes.

    Args:
        model: the factory that ``helper`` holds the weights of; not needed for a file that holds both.
        helper: a ``.pt2`` or ``.onnx`` file, or weights for the factory.
        sample: the training sample, for its shape.
        preprocessing: of the certificate.

    Raises:
        InputError: it cannot be read.
        CaptureError: its layers cannot be seen, or it is not for these inputs.
    """
    if is_model_file(helper):
        loaded = load_model(helper)
    else:
        if model is None or is_model_file(model):
            got, do = repr(helper), "name a .pt2 or .onnx file, or the model as package.module:factory"
            raise InputError("--helper weights of a factory that is named", got, do)
        loaded = load_model(model, helper)
    return as_network(loaded.model, sample, preprocessing)


def load_helper_weights(
    spec: str, weights: str | None, network: Network, sample: Sample, preprocessing: Preprocessing
) -> HelperWeights | None:
    """Public weights for the same network: a model's file, or weights for the model's factory; ``None`` for none.

    Raises:
        InputError: they cannot be read, or belong to another network.
    """
    if weights is None:
        return None
    alone = is_model_file(weights)
    public = load_network(weights if alone else spec, None if alone else weights, sample, preprocessing).predictor
    if not isinstance(public, Network) or public.architecture.content_hash != network.architecture.content_hash:
        raise InputError("--helper weights of the same network", f"another one in {weights}", "use the same model")
    return HelperWeights.of(network.architecture, public.parameters)


def load_holdout(name: str | None, sample: Sample, download: bool, progress: Report) -> Sample | None:
    """Held-out labels for the same problem, not shared with the sample; ``None`` for no name.

    Raises:
        InputError: they cannot be read or do not fit.
        SampleReuseError: they share examples with the sample.
    """
    if name is None:
        return None
    held = load_test_part(name, Role.HOLDOUT, sample, download, progress)
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
    unlabelled = load_test_part(name, Role.UNLABELLED, sample, download, progress)
    check_unlabelled(unlabelled, sample, *([] if holdout is None else [holdout]))
    return unlabelled


def load_original(spec: str, weights: str | None, unlabelled: Sample, preprocessing: Preprocessing) -> Original:
    """The original network named by ``--original`` and ``--weights``, for the unlabelled sample.

    Raises:
        InputError: it cannot be read, or does not fit the sample.
    """
    network = load_network(spec, weights, unlabelled, preprocessing)
    return Original(network.described, network.values, preprocessing, unlabelled, told_name(spec))


def told_name(spec: str) -> str:
    """A model as a certificate names it: of a path only the last part is told."""
    return spec if ":" in spec else Path(spec).name


def message_files(compressed: Compressed) -> dict[str, bytes]:
    """The files from which a message is decoded, by name: itself, the structure and the weights that it refers to."""
    files = {MESSAGE_FILE: compressed.message}
    helper = compressed.helper
    if isinstance(helper.predictor, Architecture):
        files[ARCHITECTURE_FILE] = helper.predictor.to_json().encode()
    if helper.weights is not None:
        files[HELPER_FILE] = helper.weights.to_bytes()
    return files


def checkpoint_beside(out: Path, parts: Sequence[object]) -> Checkpoint:
    """Where the training for an output folder keeps its state: a hidden file beside it, for these parts alone."""
    identity = hash_of(parts)
    out = Path(os.path.abspath(out))
    return Checkpoint(out.with_name(f".{out.name}.checkpoint.safetensors"), identity)


@contextmanager
def intermediate_folder(out: Path, kind: str) -> Iterator[Path]:
    """A hidden folder beside ``out`` for finished parts: gone after success, kept for the next run after anything else.

    Another run that is writing to the same ``out`` has its own.
    """
    out = Path(os.path.abspath(out))
    with claimed(out.with_name(f".{out.name}.{kind}")) as folder:
        try:
            yield folder
        except BaseException:
            with suppress(OSError):
                folder.rmdir()  # which is empty: there is nothing to keep
            raise


LINE_SECONDS = {Said.USUAL: 10.0, Said.VERBOSE: 1.0}
"""Between two lines of progress where there is no terminal."""


def progress_lines(console: Console) -> Report:
    """Progress as a line every few seconds, for a file or a pipe: a bar would be noise between the sentences."""
    started = told = clock.seconds()

    def report(task: str, fraction: float) -> None:
        nonlocal told
        now = clock.seconds()
        if now - told >= LINE_SECONDS.get(said.get(), math.inf):
            told = now
            console.print(f"{now - started:6.0f} s  {task} {fraction:.0%}", markup=False, soft_wrap=True)

    return report


@contextmanager
def progress_bar() -> Iterator[Report]:
    """A bar on stderr with elapsed and remaining time, one line per kind of work; without a terminal some lines."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    console = stderr_console()
    if not console.is_terminal:
        yield progress_lines(console)
        return
    with Progress(*columns, console=console, transient=True, disable=console.quiet) as bar:
        tasks: dict[str, object] = {}

        def report(task: str, fraction: float) -> None:
            if task not in tasks:
                tasks[task] = bar.add_task(task, total=1.0)
            bar.update(tasks[task], completed=fraction)  # type: ignore[arg-type]

        yield report
