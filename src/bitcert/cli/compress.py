"""``bitcert compress``: one network through one codec, as a message with its ledger, theory and deviations."""

from __future__ import annotations

import json
import shlex
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich.console import Console
from typer import Option

from bitcert.certificates.certificate import MESSAGE_FILE
from bitcert.certificates.certification import versions
from bitcert.cli.common import checkpoint_beside, message_files, note, progress_bar
from bitcert.cli.options import CodecOptions, parse_options
from bitcert.codecs.base import Codec, Rest
from bitcert.codecs.best import is_trained
from bitcert.codecs.registry import codec_from, options_of
from bitcert.comparison.counting import Counter
from bitcert.comparison.records import describe_compression, sizes
from bitcert.errors import InputError
from bitcert.folder import COMPRESS_FILES, write_output
from bitcert.report import compression_summary
from bitcert.search import Run
from bitcert.stability import network_hash

COMPRESSION_FILE = "compression.json"
BUDGET = 300.0


@dataclass(frozen=True, kw_only=True)
class CompressOptions(CodecOptions):
    """The options of the verb."""

    codec: Annotated[str, Option(help="Name of the codec.")]
    option: Annotated[list[str] | None, Option(help="Option of the codec, as NAME=VALUE; may repeat.")] = None
    layers: Annotated[str, Option(help="Weights that the codec compresses, with commas; else all.")] = ""
    rest: Annotated[Rest | None, Option(help="What becomes of all other weights.")] = None
    seed: Annotated[int, Option(help="Seed of training; of the helper: --option seed.")] = 0
    budget: Annotated[float, Option(help="Seconds of training, at most, for codecs that train.")] = BUDGET
    out: Annotated[Path, Option(help="Folder for message and description.")] = Path("compressed")
    json_output: Annotated[bool, Option("--json", help="Print the description as JSON only.")] = False

    def chosen(self) -> Codec:
        """The codec with its options.

        Raises:
            InputError: an option that cannot be.
        """
        codec = codec_from(self.codec, parse_options(self.option or [], self.layers, self.rest))
        if not 0 < self.budget < float("inf"):
            raise InputError("a positive number of seconds for --budget", str(self.budget), "give e.g. 300")
        return codec


def compress_network(options: CompressOptions) -> None:
    """Compress a network into a message, and say what the codec's paper predicted."""
    codec = options.chosen()
    options.check_output(COMPRESS_FILES)
    with progress_bar() as progress:
        sample, network, helper = options.load(progress)
        _print_notes(options, codec, len(sample))
        run = Run(options.seed, options.budget, device=options.device.value, progress=progress)
        if is_trained(codec):
            parts = [versions(), sample.content_hash, helper.content_hash, options.seed]
            parts += [network_hash(network), codec.name, repr(codec)]
            run.checkpoint = checkpoint_beside(options.out, parts)
        compressed = codec.encode(network, sample, helper=helper, run=run)
        measured = Counter(network, sample, compressed.helper, progress).measure(compressed.message, run.delta, None)
        theory = codec.theory(network, sample)
        described = describe_compression(codec, network, sample, compressed, measured, theory)
        text = json.dumps(described, indent=1, sort_keys=True, allow_nan=False) + "\n"
        write_output(options.out, {**message_files(compressed), COMPRESSION_FILE: text.encode()}, COMPRESS_FILES)
    if run.checkpoint is not None:
        run.checkpoint.remove()
    if options.json_output:
        print(text, end="")
        return
    sections = compressed.ledger.sections
    asked = [pair for pair in options.option or [] if pair.partition("=")[2] not in codec.label.split()]
    label = f"{codec.label} ({', '.join(asked)})" if asked else codec.label
    Console(highlight=False).print(compression_summary(label, sections, measured, sizes(network), theory))
    if len(compressed.candidates) > 1 and not is_trained(codec):
        print(_draws([candidate.errors for candidate in compressed.candidates], len(sample)))
    print(f"Results: {options.out / MESSAGE_FILE}, {options.out / COMPRESSION_FILE}")
    print(f"To certify it: {_hint(options, is_trained(codec))}")


def _draws(errors: list[int], samples: int) -> str:
    """Mean and deviation over the messages that were tried, as Shin 2021's Table 1 states them."""
    rates = [100 * count / samples for count in errors]
    spread = f"{statistics.mean(rates):.2f} ± {statistics.stdev(rates):.2f} %"
    return f"Errors over the {len(rates)} messages tried: {spread}; the best one is kept."


def _hint(options: CompressOptions, trained: bool) -> str:
    """The command that makes and certifies the same message; training takes its own time."""
    inputs = ("data", "label", "schema", "class_names", "shape", "scale", "mean", "std", "classes")
    names = (*inputs, "weights", "codec", "layers", "rest", "helper")
    flags = {f"--{name.replace('_', '-')}": getattr(options, name) for name in names}
    if trained:
        flags |= {"--seed": options.seed, "--budget": f"{options.budget:g}"}
    given = [part for name, value in flags.items() if value not in (None, "") for part in (name, str(value))]
    pairs = [part for pair in options.option or [] for part in ("--option", pair)]
    return shlex.join(["bitcert", "certify", options.model, *given, *pairs])


def _print_notes(options: CompressOptions, codec: Codec, num_samples: int) -> None:
    options.note_weights("the weights that the factory itself sets are compressed")
    chosen = options_of(codec)
    if options.helper is not None and chosen.get("base") != "file" and chosen.get("rest") != "helper":
        note("Note: --helper weights matter with --option base=file or --rest helper only; neither is given.")
    if is_trained(codec):
        note(f"Plan: {num_samples:,} samples, at most {options.budget:g} s of training.")
