"""What ``bitcert certify`` does: check the options, load, compress or search, certify, verify from the files, write."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from torch import nn

from bitcert.certificates.certificate import MESSAGE_FILE
from bitcert.certificates.certification import ARCHITECTURE_FILE, CERTIFICATE_FILE, REPORT_FILE, versions
from bitcert.certificates.looks import LookBook
from bitcert.certificates.verification import Status, Verification, verify
from bitcert.certificates.workload import WorkLimit, counting_operations
from bitcert.cli.certify_options import Family, Options, check_options
from bitcert.cli.common import (
    LoadedNetwork,
    check_device,
    load_holdout,
    load_network,
    load_unlabelled_for,
    preprocessing_for,
    progress_bar,
    read_bounds,
    read_profile,
)
from bitcert.cli.live import live_board, stopped_by_interrupt
from bitcert.cli.options import captured, chosen_codecs, load_helper_network, load_helper_weights, parse_options
from bitcert.codecs.base import Codec
from bitcert.codecs.best import encode_best
from bitcert.codecs.tuned import compress_values
from bitcert.counting import Progress
from bitcert.data import Role, Sample, load_sample
from bitcert.decoder import Helper
from bitcert.decoder.weights import HELPER_FILE
from bitcert.errors import InputError
from bitcert.folder import check_output_folder, write_output
from bitcert.losses import is_users, parse_losses
from bitcert.network import Architecture, Network, OpaqueModel, load_model, operations_in_words
from bitcert.report import render_report, terminal_summary
from bitcert.search import Checkpoint, Compressed, Run
from bitcert.search.compression import FAMILIES, plan_memory_bytes
from bitcert.search.request import BestCertificate, CertifyRequest, certified, certify_best, search_checkpoint
from bitcert.stability import StabilityProfile, network_hash
from bitcert.theory.table import BoundTable

Shown = TypeVar("Shown", StabilityProfile, BoundTable)


@dataclass(frozen=True, eq=False)
class _Loaded:
    """What the options name."""

    request: CertifyRequest
    network: LoadedNetwork | None
    helper: Helper
    codecs: tuple[Codec, ...]
    profile: StabilityProfile | None
    bounds: BoundTable | None

    @property
    def sample(self) -> Sample:
        return self.request.sample


def certify_options(options: Options) -> None:
    """Run the command.

    Raises:
        InputError: options that make no sense together, and everything that the steps refuse.
    """
    check_options(options)
    check_output_folder(options.out)
    check_device(options.device)
    errors = Console(stderr=True, highlight=False)
    with progress_bar(Console(stderr=True)) as progress:
        loaded = _load(options, progress)
    _print_notes(options, loaded, errors)
    run = Run(options.seed, options.seconds, loaded.request.search_delta, options.device.value)
    run.checkpoint = _checkpoint(options, loaded)
    with stopped_by_interrupt(run, errors):
        found = _search(loaded, run, errors) if options.searches else _compress(options, loaded, run)
    with progress_bar(Console(stderr=True)) as progress:
        files = _files(found)
        verification = _verify_files(files, loaded, found, progress)
    if verification.status is not Status.VALID:
        expected = "the files just made to verify"
        raise InputError(expected, verification.reason, "report this as a bug with the command you ran")
    lines = [f"{line.name}: {line.detail}" for line in verification.lines]
    # before the pictures: nothing in a profile from elsewhere may cost the certificate
    write_output(options.out, files)
    candidates = found.compressed.candidates
    report = render_report(found.certificate, candidates, lines, loaded.profile, loaded.bounds)
    files[REPORT_FILE] = report.encode()
    write_output(options.out, files)
    if run.checkpoint is not None and not options.searches and not run.stopped:
        run.checkpoint.remove()
    _print_results(options, loaded, found, run)


def _load(options: Options, progress: Progress) -> _Loaded:
    """Data and networks, in the order in which their refusals are most helpful."""
    chosen = parse_options(list(options.option), options.layers, options.rest)
    codecs = () if options.codec is None else chosen_codecs(options.codec, chosen)
    stability, table = read_profile(options.profile), read_bounds(options.bounds)
    download = options.download
    sample = load_sample(options.data, Role.TRAIN, num_classes=options.classes, download=download, progress=progress)
    parse_losses(options.losses, sample.num_classes)
    held = load_holdout(options.holdout, sample, download, progress)
    preprocessing = preprocessing_for(sample, options.scale, options.mean, options.std)
    model, network = options.model, None
    if model is not None and not options.trains_prior_model and not options.names_helper_only:
        network = load_network(model, options.weights, sample, preprocessing)
    helper = Helper.for_sample(sample, _predictor(network), preprocessing)
    public = None
    if options.helper is not None and options.searches:
        public = load_helper_network(model, options.helper, sample, preprocessing)
    elif options.helper is not None and model is not None and network is not None:
        weights = load_helper_weights(model, options.helper, captured(network), sample, preprocessing)
        helper = replace(helper, weights=weights)
    unlabelled = None
    if options.unlabelled is not None:
        unlabelled = load_unlabelled_for(options.unlabelled, sample, download, progress, held)
    request = CertifyRequest(
        sample,
        None if network is None else network.predictor,
        {} if network is None else network.values,
        preprocessing,
        public,
        unlabelled,
        options.prior_split,
        options.prior_seed or 0,
        _prior_model(options, sample, network),
        options.losses,
        held,
        options.delta,
        codecs,
        () if options.family is None else (options.family.value,),
        options.fine_tune is not False,
        "original network" if model is None else (model if ":" in model else Path(model).name),
        LookBook.for_output(options.out, options.look or 1),
    )
    shown = _of_this_network(stability, network, "--profile"), _of_this_network(table, network, "--bounds")
    return _Loaded(request, network, helper, codecs, *shown)


def _prior_model(options: Options, sample: Sample, network: LoadedNetwork | None) -> nn.Module | Network | None:
    """Whose architecture is trained on the prior part."""
    if options.prior_split is None or options.model is None:
        return None
    if not options.model.endswith(".pt2"):
        module = load_model(options.model).model
        if isinstance(module, nn.Module):
            return module
    preprocessing = preprocessing_for(sample, options.scale, options.mean, options.std)
    return captured(network or load_network(options.model, None, sample, preprocessing))


def _predictor(network: LoadedNetwork | None) -> Architecture | OpaqueModel | None:
    if network is None:
        return None
    return network.predictor.architecture if isinstance(network.predictor, Network) else network.predictor


def _search(loaded: _Loaded, run: Run, console: Console) -> BestCertificate:
    with live_board(console) as board:
        run.progress = board.progress
        return certify_best(loaded.request, run, watch=board.watch)


def _compress(options: Options, loaded: _Loaded, run: Run) -> BestCertificate:
    with progress_bar(Console(stderr=True)) as progress:
        run.progress = progress
        compressed = _compress_one_way(options, loaded, run)
        return certified(loaded.request, compressed, None, run, declared=(loaded.helper,))


def _compress_one_way(options: Options, loaded: _Loaded, run: Run) -> Compressed:
    network, sample, helper = loaded.network, loaded.sample, loaded.helper
    if network is not None and loaded.codecs:
        return encode_best(loaded.codecs, captured(network), sample, helper, run)
    if network is not None:
        return compress_values(network.values, sample, helper, run, fine_tune=loaded.request.fine_tune)
    return FAMILIES[(options.family or Family.head).value](sample, helper, run)


def _checkpoint(options: Options, loaded: _Loaded) -> Checkpoint:
    if options.searches:
        return search_checkpoint(options.out, loaded.request, options.seed)
    family = options.family or Family.head
    parts: list[object] = [versions(), loaded.sample.content_hash, loaded.helper.content_hash, options.seed]
    parts += [loaded.request.search_delta, family.value, loaded.request.fine_tune, [repr(c) for c in loaded.codecs]]
    if loaded.network is not None:
        for name, value in sorted(loaded.network.values.items()):
            parts.append([name, hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()])
    identity = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    out = Path(os.path.abspath(options.out))
    return Checkpoint(out.with_name(f".{out.name}.checkpoint.safetensors"), identity)


def _files(found: BestCertificate) -> dict[str, bytes]:
    compressed = found.compressed
    files = {MESSAGE_FILE: compressed.message, CERTIFICATE_FILE: found.certificate.to_json().encode()}
    predictor = compressed.helper.predictor
    if predictor is not None and not isinstance(predictor, OpaqueModel):
        files[ARCHITECTURE_FILE] = predictor.to_json().encode()
    if compressed.helper.weights is not None:
        files[HELPER_FILE] = compressed.helper.weights.to_bytes()
    return files


def _verify_files(files: dict[str, bytes], loaded: _Loaded, found: BestCertificate, progress: Progress) -> Verification:
    """Verify as a stranger would: decode afresh from the files alone."""
    predictor, original = found.compressed.helper.predictor, found.original
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            Path(folder, name).write_bytes(content)
        return verify(
            Path(folder, CERTIFICATE_FILE),
            loaded.sample,
            model=predictor if isinstance(predictor, OpaqueModel) else None,
            original=original,
            unlabelled=None if original is None else original.unlabelled,
            losses=[name for name in loaded.request.losses if is_users(name)],
            counts=found.counts,
            progress=progress,
            limit=WorkLimit(None),
        )


def _of_this_network(shown: Shown | None, network: LoadedNetwork | None, option: str) -> Shown | None:
    """A profile or table of bounds; one of another network is shown too, but named so."""
    if shown is None:
        return None
    seen = network.predictor if network is not None else None
    if isinstance(seen, Network) and network_hash(seen) == shown.network["content_hash"]:
        return shown
    Console(stderr=True, highlight=False).print(
        f"Note: {option} is of another network than this one; the report says so."
    )
    return shown.named(f"{shown.network['name']} (ANOTHER network than the one certified here)")


def _print_notes(options: Options, loaded: _Loaded, console: Console) -> None:
    """Say before a long run what it will take."""
    seen = loaded.network.predictor if loaded.network is not None else None
    memory = plan_memory_bytes(loaded.sample, seen) if seen is None or isinstance(seen, Network) else None
    size = "" if memory is None else f", about {memory / 2**20:,.0f} MiB beside the program"
    kind = "search" if options.searches else "training"
    console.print(f"Plan: {len(loaded.sample):,} samples, at most {options.seconds:g} s of {kind}{size}.")
    if isinstance(seen, Network):
        words = operations_in_words(counting_operations(seen.architecture, len(loaded.sample)))
        console.print(f"Counting a message once takes {words}.", soft_wrap=True)
    named = options.model is not None and not options.model.endswith(".pt2") and loaded.network is not None
    if named and options.weights is None:
        console.print("Note: no --weights given; the weights that the factory itself sets are compressed.")


def _print_results(options: Options, loaded: _Loaded, found: BestCertificate, run: Run) -> None:
    console, errors = Console(stderr=options.json_output, highlight=False), Console(stderr=True, highlight=False)
    if options.helper is not None and found.compressed.helper.weights is None:
        how = "" if options.searches else " (see --option base=file)"
        errors.print(f"Note: the message does not refer to the weights of --helper{how}.")
    if found.interrupted:
        note = (
            f"Interrupted after {run.seconds:.0f} s: the certificate is valid, a longer search may find a better one."
        )
        errors.print(f"{note} The same command goes on.", soft_wrap=True)
    if options.json_output:
        print(found.certificate.to_json(), end="")
        return
    console.print(terminal_summary(found.certificate))
    if loaded.network is not None and loaded.network.refusal:
        console.print(f"Certified as an opaque module, because capture failed: {loaded.network.refusal}", markup=False)
    if options.searches:
        console.print(f"Candidates tried: {len(found.compressed.candidates):,} (listed in the report).")
    out = options.out
    console.print(f"Verified from the files. Results: {out / REPORT_FILE}, {out / CERTIFICATE_FILE}", markup=False)
