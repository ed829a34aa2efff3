"""``bitcert certify``: compress, count bits and errors, certify, verify, and write the results."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console

from bitcert.bounds.table import BoundTable
from bitcert.certification import (
    ARCHITECTURE_FILE,
    CERTIFICATE_FILE,
    REPORT_FILE,
    certify,
    versions,
)
from bitcert.certify.budget import check_delta
from bitcert.certify.certificate import MESSAGE_FILE, Certificate
from bitcert.cli.codecs import captured, chosen_codecs, load_helper_weights, parse_options
from bitcert.cli.common import (
    Device,
    LoadedNetwork,
    check_device,
    load_holdout,
    load_network,
    preprocessing_for,
    progress_bar,
    read_bounds,
    read_profile,
)
from bitcert.codecs.base import Codec, Rest
from bitcert.codecs.search import encode_best
from bitcert.compress import Checkpoint, Compressed, Run, compress_head, compress_separable
from bitcert.compress.quantise import compress_values
from bitcert.compression import plan_memory_bytes
from bitcert.data import Role, Sample, load_sample
from bitcert.errors import InputError
from bitcert.evaluate import Progress
from bitcert.helper import Helper
from bitcert.helper.weights import HELPER_FILE
from bitcert.measure import StabilityProfile, network_hash
from bitcert.network import Network, OpaqueModel
from bitcert.output import check_output_folder, write_output
from bitcert.report import render_report, terminal_summary
from bitcert.verify import Status, Verification, verify

Shown = TypeVar("Shown", StabilityProfile, BoundTable)
DEFAULT_BUDGET = {"built-in": 240.0, "network": 600.0}


class Family(StrEnum):
    """The built-in families, trained for the certificate."""

    head = "head"
    separable = "separable"


@dataclass(frozen=True)
class _Request:
    """What is to be certified."""

    sample: Sample
    holdout: Sample | None
    network: LoadedNetwork | None
    helper: Helper
    family: Family
    fine_tune: bool
    codecs: tuple[Codec, ...] = ()


def certify_command(
    model: Annotated[
        str | None, typer.Argument(help="FILE.pt2 or package.module:factory; without it a network is trained.")
    ] = None,
    data: Annotated[str, typer.Option(help="Training data: a built-in name or a path.")] = "digits",
    weights: Annotated[str | None, typer.Option(help="Weights of the factory: .safetensors or state dict.")] = None,
    holdout: Annotated[str | None, typer.Option(help="Held-out labels, for comparison only: name or path.")] = None,
    delta: Annotated[float, typer.Option(help="Probability with which the bound may fail.")] = 0.05,
    out: Annotated[Path, typer.Option(help="Folder for message, certificate and report.")] = Path("out"),
    seed: Annotated[int, typer.Option(help="Seed of the named random streams.")] = 0,
    budget: Annotated[float | None, typer.Option(help="Seconds of training, at most.")] = None,
    device: Annotated[Device, typer.Option(help="Where to train.")] = Device.cpu,
    family: Annotated[Family | None, typer.Option(help="Built-in network to train: head, separable.")] = None,
    fine_tune: Annotated[bool | None, typer.Option(help="Fine-tune while quantising (default: yes).")] = None,
    codec: Annotated[str | None, typer.Option(help="Compress a given network with this codec, or auto: all.")] = None,
    option: Annotated[list[str] | None, typer.Option(help="Option of the codec, as NAME=VALUE; may repeat.")] = None,
    layers: Annotated[str, typer.Option(help="Weights that the codec compresses, with commas; else all.")] = "",
    rest: Annotated[Rest | None, typer.Option(help="What becomes of all other weights.")] = None,
    helper: Annotated[str | None, typer.Option(help="Public weights fixed before the data, as --weights.")] = None,
    scale: Annotated[float | None, typer.Option(help="Divide inputs by this (8-bit pixels: 255).")] = None,
    mean: Annotated[str, typer.Option(help="Per-channel means subtracted after scaling.")] = "",
    std: Annotated[str, typer.Option(help="Per-channel deviations divided by.")] = "",
    classes: Annotated[int | None, typer.Option(help="Number of classes; read off the labels, it costs bits.")] = None,
    download: Annotated[bool, typer.Option(help="Download built-in data that are not found.")] = False,
    profile: Annotated[Path | None, typer.Option(help="profile.json of bitcert measure, shown in the report.")] = None,
    bounds: Annotated[Path | None, typer.Option(help="bounds.json of bitcert bounds, shown in the report.")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the certificate as JSON only.")] = False,
) -> None:
    """Compress a network and certify how often it will be wrong on new data."""
    check_delta(delta, "--delta")
    seconds = _budget_seconds(budget, model)
    if weights is not None and model is None:
        raise InputError("a model for --weights", "weights alone", "name it first, as package.module:factory")
    check_output_folder(out)
    check_device(device)
    if codec is None and (option or layers or rest or helper):
        raise InputError("a --codec for --option, --layers, --rest and --helper", "none", "name one, or auto")
    if codec is not None and model is None:
        raise InputError("a model for --codec", "none", "name it first, as FILE.pt2 or package.module:factory")
    if codec is not None and fine_tune is not None:
        raise InputError("no --fine-tune or --no-fine-tune with --codec", "both", "use --codec tuned to fine-tune")
    if model is not None and family is not None:
        raise InputError("no --family for a given network", f"--family {family.value}", "leave out one of the two")
    codecs = () if codec is None else chosen_codecs(codec, parse_options(option or [], layers, rest))
    stability, table = read_profile(profile), read_bounds(bounds)
    console = Console(stderr=json_output, highlight=False)
    with progress_bar(Console(stderr=True)) as progress:
        sample = load_sample(data, Role.TRAIN, num_classes=classes, download=download, progress=progress)
        held = load_holdout(holdout, sample, download, progress)
        preprocessing = preprocessing_for(sample, scale, mean, std)
        network = None if model is None else load_network(model, weights, sample, preprocessing)
        stability = _of_this_network(stability, network, "--profile")
        table = _of_this_network(table, network, "--bounds")
        known = Helper.for_sample(sample, _predictor(network), preprocessing)
        if network is not None and model is not None and helper is not None:
            public = load_helper_weights(model, helper, captured(network), sample, preprocessing)
            known = replace(known, weights=public)
        tune, built_in = fine_tune is not False, family or Family.head
        request = _Request(sample, held, network, known, built_in, tune, codecs)
        _print_plan(request, seconds)
        if model is not None and weights is None and not model.endswith(".pt2"):
            note = "Note: no --weights given; the weights that the factory itself sets are compressed."
            Console(stderr=True, highlight=False).print(note)
        run = Run(seed, seconds, delta, device.value, progress, _checkpoint(out, request, seed, delta))
        compressed = _compress(request, run)
        if known.weights is not None and compressed.helper.weights is None:
            note = "Note: the message does not refer to the weights of --helper (see --option base=file)."
            Console(stderr=True, highlight=False).print(note)
        certificate = certify(compressed, sample, delta=delta, holdout=held, progress=progress)
        files = _files(compressed, certificate)
        verification = _verify_files(files, request, progress)
    if verification.status is not Status.VALID:
        expected = "the files just made to verify"
        raise InputError(expected, verification.reason, "report this as a bug with the command you ran")
    lines = [f"{line.name}: {line.detail}" for line in verification.lines]
    write_output(out, files)  # before the pictures: nothing in a profile from elsewhere may cost the certificate
    files[REPORT_FILE] = render_report(certificate, compressed.candidates, lines, stability, table).encode()
    write_output(out, files)
    if run.checkpoint is not None:
        run.checkpoint.remove()
    if json_output:
        print(certificate.to_json(), end="")
        return
    console.print(terminal_summary(certificate))
    if network is not None and network.refusal:
        console.print(f"Certified as an opaque module, because capture failed: {network.refusal}", markup=False)
    console.print(f"Verified from the files. Results: {out / REPORT_FILE}, {out / CERTIFICATE_FILE}", markup=False)


def _of_this_network(shown: Shown | None, network: LoadedNetwork | None, option: str) -> Shown | None:
    """A profile or table of bounds; one of another network is shown too, but named so."""
    if shown is None:
        return None
    captured = network.predictor if network is not None else None
    if isinstance(captured, Network) and network_hash(captured) == shown.network["content_hash"]:
        return shown
    Console(stderr=True, highlight=False).print(
        f"Note: {option} is of another network than this one; the report says so."
    )
    return shown.named(f"{shown.network['name']} (ANOTHER network than the one certified here)")


def _print_plan(request: _Request, seconds: float) -> None:
    """Say before a long run what it will take."""
    captured = request.network.predictor if request.network is not None else None
    memory = None
    if captured is None or isinstance(captured, Network):
        memory = plan_memory_bytes(request.sample, captured)
    size = "" if memory is None else f", about {memory / 2**20:,.0f} MiB beside the program"
    plan = f"Plan: {len(request.sample):,} samples, at most {seconds:g} s of training{size}."
    Console(stderr=True, highlight=False).print(plan)


def _budget_seconds(budget: float | None, model: str | None) -> float:
    if budget is None:
        return DEFAULT_BUDGET["built-in" if model is None else "network"]
    if not 0 < budget < float("inf"):
        raise InputError("a positive number of seconds for --budget", str(budget), "give e.g. 60")
    return budget


def _predictor(network: LoadedNetwork | None):
    if network is None:
        return None
    return network.predictor.architecture if isinstance(network.predictor, Network) else network.predictor


def _checkpoint(out: Path, request: _Request, seed: int, delta: float) -> Checkpoint:
    parts = [versions(), request.sample.content_hash, request.helper.content_hash, seed, delta]
    parts += [request.family.value, request.fine_tune, [repr(codec) for codec in request.codecs]]
    if request.network is not None:
        for name, value in sorted(request.network.values.items()):
            parts.append([name, hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()])
    identity = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    out = Path(os.path.abspath(out))
    return Checkpoint(out.with_name(f".{out.name}.checkpoint.safetensors"), identity)


def _compress(request: _Request, run: Run) -> Compressed:
    if request.network is not None and request.codecs:
        return encode_best(request.codecs, captured(request.network), request.sample, request.helper, run)
    if request.network is not None:
        values = request.network.values
        return compress_values(values, request.sample, request.helper, run, fine_tune=request.fine_tune)
    if request.family is Family.separable:
        return compress_separable(request.sample, request.helper, run)
    return compress_head(request.sample, request.helper, run)


def _files(compressed: Compressed, certificate: Certificate) -> dict[str, bytes]:
    files = {MESSAGE_FILE: compressed.message, CERTIFICATE_FILE: certificate.to_json().encode()}
    predictor = compressed.helper.predictor
    if predictor is not None and not isinstance(predictor, OpaqueModel):
        files[ARCHITECTURE_FILE] = predictor.to_json().encode()
    if compressed.helper.weights is not None:
        files[HELPER_FILE] = compressed.helper.weights.to_bytes()
    return files


def _verify_files(files: dict[str, bytes], request: _Request, progress: Progress) -> Verification:
    model = request.helper.predictor if isinstance(request.helper.predictor, OpaqueModel) else None
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            Path(folder, name).write_bytes(content)
        return verify(Path(folder, CERTIFICATE_FILE), request.sample, model=model, progress=progress)
