"""Options that several verbs have, each stated once, and how a dataclass of options becomes a command."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence, Set
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import torch
from rich.console import Console
from typer import Argument, Option

from bitcert.certificates.certification import REPORT_FILE
from bitcert.cli.common import LoadedNetwork, Said, load_helper_weights, load_network, note, said
from bitcert.cli.executors import ExecutorOptions
from bitcert.counting import Progress
from bitcert.data import Role, Sample, Schema, load_sample, load_schema
from bitcert.decoder import Helper, Preprocessing
from bitcert.errors import InputError
from bitcert.folder import check_output_folder
from bitcert.network import Network, is_model_file
from bitcert.run import check_seed
from bitcert.shards import Here, executing_on

if TYPE_CHECKING:
    from bitcert.codecs.base import Codec, Rest

Options = TypeVar("Options")
Settings = TypeVar("Settings")
AUTO = "auto"
SHOWN_LAST = (
    "seed",
    "device",
    "workers",
    "ray",
    "label",
    "schema",
    "class_names",
    "shape",
    "scale",
    "mean",
    "std",
    "classes",
    "download",
    "out",
    "json_output",
)
"""What verbs share stands below their own options in the help, in this order."""
MANNERS = {
    "quiet": Option("--quiet", "-q", help="Say nothing beside the results and failures."),
    "verbose": Option("--verbose", "-v", help="More lines of progress; a failure shows where it was found."),
}
"""Options that every verb has."""


class Device(StrEnum):
    """Where a verb computes."""

    cpu = "cpu"
    cuda = "cuda"


def parse_classes(text: str) -> int:
    """The number of ``--classes``; for whoever gives names instead, where they belong."""
    with suppress(ValueError):
        return int(text)
    raise ValueError(f"expected a whole number, got {text[:50]!r}; names of classes go into --class-names or --schema")


ClassesOption = partial(Option, metavar="<int>", parser=parse_classes)


@dataclass(frozen=True, kw_only=True)
class InputOptions:
    """How the data are read and scaled, and how many classes there are."""

    scale: Annotated[float | None, Option(help="Divide inputs by this (8-bit pixels: 255).")] = None
    mean: Annotated[str, Option(help="Per-channel means subtracted after scaling.")] = ""
    std: Annotated[str, Option(help="Per-channel deviations divided by.")] = ""
    classes: Annotated[int | None, ClassesOption(help="Number of classes.")] = None
    label: Annotated[str | None, Option(help="Of a table (.csv, .parquet): name of the label's column.")] = None
    schema: Annotated[Path | None, Option(help="Of a table: JSON file with what you declare of it beforehand.")] = None
    class_names: Annotated[str, Option(help="Of a table with texts as labels: all of them, with commas.")] = ""

    def declared(self) -> Schema | None:
        """What is declared of a table; ``None`` for nothing.

        Raises:
            InputError: the schema cannot be read, or says something else than another option.
        """
        names = split_commas(self.class_names)
        if self.label is None and self.schema is None and not names:
            return None
        return load_schema(self.schema).having(self.label, names)

    def preprocessing(self, sample: Sample) -> Preprocessing:
        """The usual preprocessing of the sample, with what the user states instead."""
        usual = Preprocessing.usual(sample)
        means, stds = parse_numbers(self.mean, "--mean"), parse_numbers(self.std, "--std")
        return Preprocessing(usual.scale if self.scale is None else self.scale, means, stds)


@dataclass(frozen=True, kw_only=True)
class DataOptions(InputOptions):
    """The training data."""

    data: Annotated[str, Option(help="Training data: a built-in name or a path.")] = "digits"
    download: Annotated[bool, Option(help="Download built-in data that are not found.")] = False
    shape: Annotated[str, Option(help="Sizes of one input, e.g. 50,3 for sequences; by default as stored.")] = ""

    def load_sample(self, progress: Progress) -> Sample:
        """The training sample."""
        return load_sample(
            self.data,
            Role.TRAIN,
            num_classes=self.classes,
            download=self.download,
            progress=progress,
            schema=self.declared(),
            shape=parse_sizes(self.shape) if self.shape else None,
        )


def note_buckets(sample: Sample) -> None:
    """Say of a table with texts that nothing was declared of, how a schema may make the message shorter."""
    names = () if sample.table is None else sample.table.buckets
    if names:
        example = json.dumps({"columns": [{"name": names[0], "categories": ["A", "B"]}]})
        rest = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
        note(
            f"Note: texts of column {json.dumps(names[0])}{rest} are read as hash buckets 0 to 255, and a rule about "
            "one of them may take many bits. A schema that lists the possible texts can make the message shorter: "
            f"put {example} with your own texts into the file of --schema schema.json. List what you know beforehand, "
            "not what these data or their labels show."
        )


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(DataOptions):
    """A network and the data that it is for."""

    model: Annotated[str, Argument(help="FILE.pt2, FILE.onnx or package.module:factory.")]
    weights: Annotated[str | None, Option(help="Weights of the factory: .safetensors or state dict.")] = None

    def load_network(self, sample: Sample) -> LoadedNetwork:
        """The network, which has one output for each class of the sample."""
        return load_network(self.model, self.weights, sample, self.preprocessing(sample))

    def note_weights(self, what: str) -> None:
        """Say where no trained weights were named, that ``what`` the factory itself sets are used."""
        if self.weights is None and self.model is not None and not is_model_file(self.model):
            note(f"Note: no --weights given; {what}.")


@dataclass(frozen=True, kw_only=True)
class ResultOptions:
    """A run that writes a folder of results."""

    seed: Annotated[int, Option(help="Seed of the named random streams.")] = 0
    device: Annotated[Device, Option(help="Where to train.")] = Device.cpu
    out: Annotated[Path, Option(help="Folder for results.")] = Path("out")
    json_output: Annotated[bool, Option("--json", help="Print JSON only.")] = False

    def check_output(self, allowed: Set[str]) -> None:
        """Refuse, before any work, a seed, a folder that could not be replaced, a device that this torch cannot use.

        Raises:
            InputError: one of the three.
        """
        check_seed(self.seed)
        check_output_folder(self.out, allowed)
        if self.device is Device.cuda and not torch.cuda.is_available():
            raise InputError("a CUDA device", "none that this torch can use", "leave out --device cuda")

    def settings_of(self, kind: type[Settings], **others: Any) -> Settings:
        """The library's settings: what is an option of the same name, and ``others``."""
        shared = {each.name: getattr(self, each.name) for each in fields(kind) if hasattr(self, each.name)}
        return kind(**{**shared, "device": self.device.value, **others})

    def show(self, text: str, summary: object, file: str, console: Console | None = None) -> None:
        """Print the results: the JSON text alone, or the summary and where the files are."""
        if self.json_output:
            print(text, end="")
            return
        console = console or Console(highlight=False)
        console.print(summary)
        console.print(f"Results: {self.out / REPORT_FILE}, {self.out / file}", markup=False)


@dataclass(frozen=True, kw_only=True)
class RunOptions(ResultOptions, NetworkOptions):
    """A run on a network that writes a folder of results."""


@dataclass(frozen=True, kw_only=True)
class CodecOptions(RunOptions):
    """A run that compresses a network, perhaps with public weights in the helper."""

    helper: Annotated[str | None, Option(help="Public weights fixed before the data, as --weights.")] = None

    def load(self, progress: Progress) -> tuple[Sample, Network, Helper]:
        """The training sample, the captured network, and the helper of its messages."""
        sample = self.load_sample(progress)
        preprocessing = self.preprocessing(sample)
        network = self.load_network(sample).captured()
        public = load_helper_weights(self.model, self.helper, network, sample, preprocessing)
        return sample, network, replace(Helper.for_sample(sample, network.architecture, preprocessing), weights=public)


def as_command(run: Callable[[Options], None]) -> Callable[..., None]:
    """A command with a parameter for each field of the dataclass that ``run`` takes, and the help of its docstring."""
    (kind,) = (hint for name, hint in get_type_hints(run).items() if name != "return")
    hints = get_type_hints(kind, include_extras=True)
    shown = sorted(fields(kind), key=lambda each: SHOWN_LAST.index(each.name) if each.name in SHOWN_LAST else -1)

    def command(quiet: bool, verbose: bool, **given: Any) -> None:
        refuse_both(quiet and verbose, "--quiet", "--verbose")
        said.set(Said.QUIET if quiet else Said.VERBOSE if verbose else Said.USUAL)
        options = kind(**given)
        executor = options.executor() if isinstance(options, ExecutorOptions) else Here()
        with executing_on(executor):
            run(options)

    parameters = [
        inspect.Parameter(
            each.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if each.default is MISSING else each.default,
            annotation=hints[each.name],
        )
        for each in shown
    ]
    manners = {name: Annotated[bool, option] for name, option in MANNERS.items()}
    parameters += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=hint)
        for name, hint in manners.items()
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: hints[each.name] for each in shown} | manners
    command.__doc__ = run.__doc__
    return command


def parse_options(pairs: Sequence[str], layers: str = "", rest: Rest | None = None) -> dict[str, str]:
    """``["rank=10"]`` as ``{"rank": "10"}``, with ``--layers`` and ``--rest`` as options of the same names.

    Raises:
        InputError: a pair without ``=``, or an option given twice.
    """
    options: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise InputError("options as --option NAME=VALUE", repr(pair[:100]), "write e.g. --option rank=10")
        if name.strip() in options:
            raise InputError("every option once", f"{name.strip()} twice", "leave one out")
        options[name.strip()] = value.strip()
    for name, value in (("layers", layers), ("rest", "" if rest is None else rest.value)):
        if value and name in options:
            raise InputError("every option once", f"--{name} and --option {name}", "leave one out")
        if value:
            options[name] = value
    return options


def chosen_codecs(name: str, options: dict[str, str]) -> tuple[Codec, ...]:
    """The codecs that ``--codec NAME`` means: with options that one, without the usual strengths of it.

    ``auto`` means every codec at its usual strengths.

    Raises:
        InputError: an unknown codec or option, or options for ``auto``.
    """
    from bitcert.codecs.registry import CODECS, codec_from, find_codec  # most verbs need no codec

    if name == AUTO:
        if options:
            raise InputError("no options with --codec auto", ", ".join(options), "name one codec")
        return tuple(codec for kind in CODECS.values() for codec in kind.strengths())
    if options:
        return (codec_from(name, options),)
    return find_codec(name).strengths() or (codec_from(name),)


def refuse_both(both: bool, one: str, other: str) -> None:
    """Refuse two options that exclude each other.

    Raises:
        InputError: both were given.
    """
    if both:
        raise InputError(f"{one} or {other}", "both", "leave out one of them")


def split_commas(text: str) -> tuple[str, ...]:
    """``"a, b,"`` -> ``("a", "b")``."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def parse_numbers(text: str, option: str) -> tuple[float, ...]:
    """``"0.485,0.456"`` -> ``(0.485, 0.456)``.

    Raises:
        InputError: anything else.
    """
    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise InputError(f"numbers separated by commas for {option}", repr(text), "write e.g. 0.5,0.5,0.5") from None


def parse_sizes(text: str) -> tuple[int, ...]:
    """``"3,32,32"`` -> ``(3, 32, 32)``.

    Raises:
        InputError: anything else.
    """
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        got = repr(text[:100])
        raise InputError("sizes separated by commas for --shape", got, "write e.g. 3,32,32") from None
    if min(sizes) < 1:
        raise InputError("sizes of 1 or more for --shape", repr(text[:100]), "write e.g. 3,32,32")
    return sizes
