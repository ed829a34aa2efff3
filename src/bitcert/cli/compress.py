"""``bitcert compress``: one network through one codec, as a message with its ledger, theory and deviations."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bitcert.certificates.certificate import MESSAGE_FILE
from bitcert.certificates.certification import ARCHITECTURE_FILE, versions
from bitcert.cli.common import Device, check_device, load_network, preprocessing_for, progress_bar
from bitcert.cli.options import captured, load_helper_weights, parse_options
from bitcert.codecs.base import Codec, Rest
from bitcert.codecs.best import is_trained
from bitcert.codecs.registry import codec_from, options_of
from bitcert.comparison.counting import Counter
from bitcert.comparison.records import Measured, describe_compression, sizes
from bitcert.data import Role, Sample, load_sample
from bitcert.decoder import Helper
from bitcert.decoder.weights import HELPER_FILE
from bitcert.errors import InputError
from bitcert.folder import COMPRESS_FILES, check_output_folder, write_output
from bitcert.network import Network
from bitcert.report import compression_summary
from bitcert.search import Checkpoint, Compressed, Run
from bitcert.stability import network_hash
from bitcert.theory.prediction import Theory

COMPRESSION_FILE = "compression.json"
BUDGET = 300.0


@dataclass(frozen=True)
class _Request:
    """What is to be compressed, and how."""

    network: Network
    sample: Sample
    helper: Helper
    codec: Codec


def compress_command(
    model: Annotated[str, typer.Argument(help="FILE.pt2 or package.module:factory.")],
    codec: Annotated[str, typer.Option(help="Name of the codec.")],
    data: Annotated[str, typer.Option(help="Training data: a built-in name or a path.")] = "digits",
    weights: Annotated[str | None, typer.Option(help="Weights of the factory: .safetensors or state dict.")] = None,
    option: Annotated[list[str] | None, typer.Option(help="Option of the codec, as NAME=VALUE; may repeat.")] = None,
    layers: Annotated[str, typer.Option(help="Weights that the codec compresses, with commas; else all.")] = "",
    rest: Annotated[Rest | None, typer.Option(help="What becomes of all other weights.")] = None,
    helper: Annotated[str | None, typer.Option(help="Public weights fixed before the data, as --weights.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of training; of the helper: --option seed.")] = 0,
    budget: Annotated[float, typer.Option(help="Seconds of training, at most, for codecs that train.")] = BUDGET,
    device: Annotated[Device, typer.Option(help="Where to train.")] = Device.cpu,
    scale: Annotated[float | None, typer.Option(help="Divide inputs by this (8-bit pixels: 255).")] = None,
    mean: Annotated[str, typer.Option(help="Per-channel means subtracted after scaling.")] = "",
    std: Annotated[str, typer.Option(help="Per-channel deviations divided by.")] = "",
    classes: Annotated[int | None, typer.Option(help="Number of classes.")] = None,
    download: Annotated[bool, typer.Option(help="Download built-in data that are not found.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for message and description.")] = Path("compressed"),
    json_output: Annotated[bool, typer.Option("--json", help="Print the description as JSON only.")] = False,
) -> None:
    """Compress a network into a message, and say what the codec's paper predicted."""
    chosen = codec_from(codec, parse_options(option or [], layers, rest))
    if not 0 < budget < float("inf"):
        raise InputError("a positive number of seconds for --budget", str(budget), "give e.g. 300")
    if seed < 0:
        raise InputError("a --seed of 0 or more", str(seed), "give e.g. 0")
    check_output_folder(out, COMPRESS_FILES)
    check_device(device)
    errors = Console(stderr=True, highlight=False)
    with progress_bar(Console(stderr=True)) as progress:
        sample = load_sample(data, Role.TRAIN, num_classes=classes, download=download, progress=progress)
        preprocessing = preprocessing_for(sample, scale, mean, std)
        network = captured(load_network(model, weights, sample, preprocessing))
        known = Helper.for_sample(sample, network.architecture, preprocessing)
        if helper is not None:
            public = load_helper_weights(model, helper, network, sample, preprocessing)
            known = replace(known, weights=public)
        request = _Request(network, sample, known, chosen)
        _print_notes(errors, request, weights is None and not model.endswith(".pt2"), budget)
        run = Run(seed, budget, device=device.value, progress=progress, checkpoint=_checkpoint(out, request, seed))
        compressed = chosen.encode(network, sample, helper=known, run=run)
        measured = Counter(network, sample, compressed.helper, progress).measure(compressed.message, run.delta, None)
        theory = chosen.theory(network, sample)
        described = describe_compression(chosen, network, sample, compressed, measured, theory)
        text = json.dumps(described, indent=1, sort_keys=True, allow_nan=False) + "\n"
        write_output(out, _files(request, compressed, text), COMPRESS_FILES)
    if run.checkpoint is not None:
        run.checkpoint.remove()
    if json_output:
        print(text, end="")
        return
    _print_summary(request, compressed, measured, theory)
    print(f"Results: {out / MESSAGE_FILE}, {out / COMPRESSION_FILE}")
    flags: dict[str, object] = {"--data": data, "--weights": weights, "--codec": codec, "--layers": layers}
    flags |= {"--rest": rest, "--helper": helper, "--scale": scale, "--mean": mean, "--std": std, "--classes": classes}
    if is_trained(chosen):
        flags |= {"--seed": seed, "--budget": f"{budget:g}"}
    print(f"To certify it: {_hint(model, flags, option or [])}")


def _hint(model: str, flags: Mapping[str, object], options: Sequence[str]) -> str:
    """The command that makes and certifies the same message; training takes its own time."""
    given = [part for name, value in flags.items() if value not in (None, "") for part in (name, str(value))]
    return shlex.join(["bitcert", "certify", model, *given, *(p for pair in options for p in ("--option", pair))])


def _print_notes(console: Console, request: _Request, untouched: bool, budget: float) -> None:
    if untouched:
        console.print(
            "Note: no --weights given; the weights that the factory itself sets are compressed.", soft_wrap=True
        )
    options = options_of(request.codec)
    uses = options.get("base") == "file" or options.get("rest") == "helper"
    if request.helper.weights is not None and not uses:
        note = "Note: --helper weights matter with --option base=file or --rest helper only; neither is given."
        console.print(note, soft_wrap=True)
    if is_trained(request.codec):
        console.print(f"Plan: {len(request.sample):,} samples, at most {budget:g} s of training.")


def _checkpoint(out: Path, request: _Request, seed: int) -> Checkpoint | None:
    """Where a codec that trains keeps its state; the others have none."""
    if not is_trained(request.codec):
        return None
    parts = [versions(), request.sample.content_hash, request.helper.content_hash, seed]
    parts += [network_hash(request.network), request.codec.name, repr(request.codec)]
    identity = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    out = Path(os.path.abspath(out))
    return Checkpoint(out.with_name(f".{out.name}.checkpoint.safetensors"), identity)


def _files(request: _Request, compressed: Compressed, description: str) -> dict[str, bytes]:
    files = {MESSAGE_FILE: compressed.message, COMPRESSION_FILE: description.encode()}
    files[ARCHITECTURE_FILE] = request.network.architecture.to_json().encode()
    if compressed.helper.weights is not None:
        files[HELPER_FILE] = compressed.helper.weights.to_bytes()
    return files


def _print_summary(request: _Request, compressed: Compressed, measured: Measured, theory: Theory) -> None:
    counts = sizes(request.network)
    summary = compression_summary(request.codec.label, compressed.ledger.sections, measured, counts, theory)
    Console(highlight=False).print(summary)
