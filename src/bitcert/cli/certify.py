"""What ``bitcert certify`` does: check the options, load, compress or search, certify, verify from the files, write."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bitcert.certificates.certificate import CERTIFICATE_FILE
from bitcert.certificates.certification import REPORT_FILE
from bitcert.certificates.looks import LookBook
from bitcert.certificates.verification import Status, Verification, verify
from bitcert.certificates.workload import WorkLimit, counting_operations
from bitcert.cli.certify_options import AUTO_SPLIT, CertifyOptions
from bitcert.cli.common import (
    LoadedNetwork,
    Results,
    checkpoint_beside,
    load_helper_network,
    load_helper_weights,
    load_holdout,
    load_network,
    load_unlabelled_for,
    message_files,
    note,
    prior_model,
    progress_bar,
    read_results,
    stderr_console,
    told_name,
)
from bitcert.cli.live import live_board, stopped_by_interrupt
from bitcert.cli.options import chosen_codecs, note_buckets, parse_options
from bitcert.codecs.best import encode_best
from bitcert.counting import Progress
from bitcert.decoder import Helper, decode_message
from bitcert.decoder.trees import TreeClassifier
from bitcert.decoder.votes import VotesClassifier
from bitcert.errors import InputError
from bitcert.folder import OUTPUT_FILES, check_output_folder, remove_output, write_output
from bitcert.losses import is_users, parse_losses
from bitcert.network import Architecture, Network, OpaqueModel, operations_in_words
from bitcert.report import render_report, terminal_summary, tree_lines, vote_lines
from bitcert.report.text import beside_guessing, estimated, percent_up
from bitcert.search import Checkpoint, Compressed, Run
from bitcert.search.compression import (
    BestCertificate,
    certified,
    certify_best,
    compress_built_in,
    plan_memory_bytes,
    search_checkpoint,
)
from bitcert.search.request import CertifyRequest, declared_helpers
from bitcert.stability import StabilityProfile, network_hash
from bitcert.theory.table import BoundTable


@dataclass(frozen=True, eq=False)
class _Loaded:
    """What the options name: the library's request, the given network with its helper, and what the report shows."""

    request: CertifyRequest
    network: LoadedNetwork | None
    helper: Helper
    profile: StabilityProfile | None
    bounds: BoundTable | None


def certify_network(options: CertifyOptions) -> None:
    """Compress a network and certify how often it, or the original one, will be wrong on new data."""
    options.check()
    options.check_output(OUTPUT_FILES)
    for folder in options.option_folders.values():
        check_output_folder(folder)
    errors = stderr_console()
    with progress_bar() as progress:
        loaded = _load(options, progress)
    _print_notes(options, loaded)
    run = Run(options.seed, options.seconds(loaded.request.sample), loaded.request.search_delta, options.device.value)
    run.checkpoint = _checkpoint(options, loaded)
    with stopped_by_interrupt(run, errors):
        found = _search(loaded, run, errors) if options.searches else _compress(options, loaded, run)
    for each in (found, *found.others):
        of_option = options.option_folders.get(each.compressed.option)
        places = [options.out if each is found else None, of_option]
        _write(each, loaded, [place for place in places if place is not None])
    told = {each.compressed.option for each in (found, *found.others)}
    for option, folder in options.option_folders.items():
        if option not in told:
            remove_output(folder)
    if run.checkpoint is not None and not options.searches and not run.stopped:
        run.checkpoint.remove()
    _print_results(options, loaded, found, run)


def _write(found: BestCertificate, loaded: _Loaded, folders: Sequence[Path]) -> None:
    """Verify a certificate from its files, and write them and the report."""
    files = {**message_files(found.compressed), CERTIFICATE_FILE: found.certificate.to_json().encode()}
    with progress_bar() as progress:
        verification = _verify_files(files, loaded.request, found, progress)
    if verification.status is not Status.VALID:
        expected = "the files just made to verify"
        raise InputError(expected, verification.reason, "report this as a bug with the command you ran")
    lines = [f"{line.name}: {line.detail}" for line in verification.lines]
    for folder in folders:
        # before the pictures: nothing in a profile from elsewhere may cost the certificate
        write_output(folder, files)
    candidates = found.compressed.candidates
    shown = loaded.profile, loaded.bounds, _rules(found), found.sample.most_frequent_errors
    report = render_report(found.certificate, candidates, lines, *shown)
    for folder in folders:
        write_output(folder, {**files, REPORT_FILE: report.encode()})


def _rules(found: BestCertificate) -> list[str]:
    """What the certified classifier does, if it is a decision tree or a sum of votes."""
    classifier = decode_message(found.compressed.message, found.compressed.helper).classifier
    table, columns = found.sample.table, found.sample.columns
    classes = () if table is None else table.schema.classes
    categories = {} if table is None else table.schema.categories
    if isinstance(classifier, TreeClassifier):
        return tree_lines(classifier.tree, columns, classes, categories)
    if isinstance(classifier, VotesClassifier):
        return vote_lines(classifier.votes, columns, classes, categories)
    return []


def _load(options: CertifyOptions, progress: Progress) -> _Loaded:
    """Data and networks, in the order in which their refusals are most helpful."""
    chosen = parse_options(options.option or [], options.layers, options.rest)
    codecs = () if options.codec is None else chosen_codecs(options.codec, chosen)
    stability = read_results(StabilityProfile, options.profile, "--profile")
    table = read_results(BoundTable, options.bounds, "--bounds")
    sample = options.load_sample(progress)
    parse_losses(options.losses, sample.num_classes)
    held = load_holdout(options.holdout, sample, options.download, progress)
    preprocessing = options.preprocessing(sample)
    model, network, public, prior, unlabelled = options.model, None, None, None, None
    if model is not None and not options.trains_prior_model and not options.names_helper_only:
        network = options.load_network(sample)
    helper = Helper.for_sample(sample, None if network is None else network.described, preprocessing)
    if options.helper is not None and options.searches:
        public = load_helper_network(model, options.helper, sample, preprocessing)
    elif network is not None and options.helper is not None:
        weights = load_helper_weights(model, options.helper, network.captured(), sample, preprocessing)
        helper = replace(helper, weights=weights)
    if options.unlabelled is not None:
        unlabelled = load_unlabelled_for(options.unlabelled, sample, options.download, progress, held)
    if options.prior_split is not None and model is not None:
        prior = prior_model(model, lambda: network or load_network(model, None, sample, preprocessing))
    request = CertifyRequest(
        sample,
        None if network is None else network.predictor,
        {} if network is None else network.values,
        preprocessing,
        helper_network=public,
        unlabelled=unlabelled,
        prior_fraction=options.split_fraction(sample),
        prior_seed=options.prior_seed or 0,
        prior_model=prior,
        losses=options.losses,
        holdout=held,
        delta=options.delta,
        codecs=codecs,
        families=() if options.family is None else (options.family.value,),
        fine_tune=options.fine_tune is not False,
        name="original network" if model is None else told_name(model),
        looks=LookBook.for_output(options.out, options.look or 1),
    )
    shown = _of_this_network(stability, request, "--profile"), _of_this_network(table, request, "--bounds")
    return _Loaded(request, network, helper, *shown)


def _search(loaded: _Loaded, run: Run, console: Console) -> BestCertificate:
    with live_board(console) as board:
        run.progress = board.progress
        return certify_best(loaded.request, run, watch=board.watch)


def _compress(options: CertifyOptions, loaded: _Loaded, run: Run) -> BestCertificate:
    with progress_bar() as progress:
        run.progress = progress
        compressed = _compress_one_way(options, loaded, run)
        return certified(loaded.request, compressed, None, run, declared=(loaded.helper,))


def _compress_one_way(options: CertifyOptions, loaded: _Loaded, run: Run) -> Compressed:
    request, network, helper = loaded.request, loaded.network, loaded.helper
    if network is not None:
        return encode_best(request.codecs, network.captured(), request.sample, helper, run)
    return compress_built_in(request.sample, helper, run, options.trained_family(request.sample))


def _checkpoint(options: CertifyOptions, loaded: _Loaded) -> Checkpoint:
    if options.searches:
        return search_checkpoint(options.out, loaded.request, options.seed)
    return checkpoint_beside(options.out, [loaded.request.identity(options.seed), loaded.helper.content_hash])


def _verify_files(
    files: dict[str, bytes], request: CertifyRequest, found: BestCertificate, progress: Progress
) -> Verification:
    """Verify as a stranger would: decode afresh from the files alone."""
    predictor, original = found.compressed.helper.predictor, found.original
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            Path(folder, name).write_bytes(content)
        return verify(
            Path(folder, CERTIFICATE_FILE),
            request.sample,
            model=predictor if isinstance(predictor, OpaqueModel) else None,
            original=original,
            unlabelled=None if original is None else original.unlabelled,
            losses=[name for name in request.losses if is_users(name)],
            counts=found.counts,
            progress=progress,
            limit=WorkLimit(None),
        )


def _of_this_network(shown: Results | None, request: CertifyRequest, option: str) -> Results | None:
    """A profile or table of bounds; one of another network is shown too, but named so."""
    if shown is None:
        return None
    seen = request.network
    if isinstance(seen, Network) and network_hash(seen) == shown.network["content_hash"]:
        return shown
    note(f"Note: {option} is of another network than this one; the report says so.")
    return shown.named(f"{shown.network['name']} (ANOTHER network than the one certified here)")


def _print_notes(options: CertifyOptions, loaded: _Loaded) -> None:
    """Say before a long run what it will take."""
    seen, sample = loaded.request.network, loaded.request.sample
    memory = None if isinstance(seen, OpaqueModel) else plan_memory_bytes(sample, seen)
    size = "" if memory is None else f", about {memory / 2**20:,.0f} MiB beside the program"
    if options.prior_split == AUTO_SPLIT:
        fraction = loaded.request.prior_fraction
        note(f"Note: --prior-split auto is {fraction:g} for {len(sample):,} examples.")
    note_buckets(sample)
    kind = "search" if options.searches else "training"
    note(f"Plan: {len(sample):,} samples, at most {options.seconds(sample):g} s of {kind}{size}.")
    rest = len(sample) - int((loaded.request.prior_fraction or 0) * len(sample))
    networks = [each.predictor for each in declared_helpers(loaded.request) if isinstance(each.predictor, Architecture)]
    if networks:
        least, *_, most = sorted([counting_operations(each, rest) for each in networks] * 2)
        more = "" if least == most else f", with the largest network that may be trained {operations_in_words(most)}"
        note(f"Counting a message once takes {operations_in_words(least)}{more}.")
    if seen is not None:
        options.note_weights("the weights that the factory itself sets are compressed")


def _print_results(options: CertifyOptions, loaded: _Loaded, found: BestCertificate, run: Run) -> None:
    if options.helper is not None and found.compressed.helper.weights is None:
        how = "" if options.searches else " (see --option base=file)"
        note(f"Note: the message does not refer to the weights of --helper{how}.")
    if found.interrupted:
        note(
            f"Interrupted after {run.seconds:.0f} s: the certificate is valid, a longer search may find a better one. "
            "The same command goes on."
        )
    for option, why in found.compressed.missing.items():
        note(f"Note: nothing was certified of {option}: {why}")
    if options.json_output:
        print(found.certificate.to_json(), end="")
        return
    console = Console(highlight=False)
    console.print(terminal_summary(found.certificate, _rules(found), found.sample.most_frequent_errors))
    if loaded.network is not None and loaded.network.refusal:
        console.print(f"Certified as an opaque module, because capture failed: {loaded.network.refusal}", markup=False)
    if options.searches:
        console.print(f"Candidates tried: {len(found.compressed.candidates):,} (listed in the report).")
    if found.compressed.others or found.compressed.missing:
        console.print(_table_of_options(options, found))
    out = options.out
    console.print(f"Verified from the files. Results: {out / REPORT_FILE}, {out / CERTIFICATE_FILE}", markup=False)


def _table_of_options(options: CertifyOptions, found: BestCertificate) -> Table:
    """What could be certified, the best first, and where the certificate of each is."""
    title = "What can be certified of this network (each holds, and all of them together)"
    table = Table("what", "bound", "errors", "bits", "certificate", title=title, title_justify="left")
    for each in (found, *found.others):
        made, option = each.certificate, each.compressed.option
        bound = percent_up(made.bound) + (", no more than guessing" if beside_guessing(made) else "")
        counts = bound, f"{made.errors:,}", f"{made.message_bits:,}"
        table.add_row(*map(Text, (option, *counts, str(options.option_folders[option]))))
    told = {each.compressed.option for each in found.others}
    for left in (other for other in found.compressed.others if other.option not in told):
        judged = left.candidates[0]
        counts = estimated(percent_up(judged.bound), judged.estimated), f"{judged.errors:,}", f"{judged.message_bits:,}"
        table.add_row(*map(Text, (left.option, *counts, "none: it says no more than guessing")))
    judged_too = {each.option for each in (found.compressed, *found.compressed.others)}
    for option in (each for each in options.option_folders if each not in judged_too):
        why = found.compressed.missing.get(option, "its layers cannot be seen")
        table.add_row(*map(Text, (option, "–", "", "", f"none: {why}")))
    return table
