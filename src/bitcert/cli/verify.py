"""``bitcert verify``: a stranger's check of a certificate from its files and the data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text
from typer import Argument, Option

from bitcert.certificates.reading import CannotCheckError, Checker, InvalidError, read_certificate
from bitcert.certificates.verification import Status, Verification, verify
from bitcert.certificates.workload import MAX_OPERATIONS, WorkLimit
from bitcert.cli.common import load_opaque, load_original, note, progress_bar
from bitcert.cli.executors import ExecutorOptions, usable_cores
from bitcert.counting import Progress
from bitcert.data import Role, load_sample
from bitcert.data.names import canonical_name
from bitcert.errors import InputError
from bitcert.report.text import condition_rows, helper_size, self_contained
from bitcert.shards import Executor, LocalWorkers


@dataclass(frozen=True, kw_only=True)
class VerifyOptions(ExecutorOptions):
    """The options of the verb."""

    certificate: Annotated[Path, Argument(help="certificate.json, with message.bin beside it.")]
    data: Annotated[str | None, Option(help="The training data: name or path; found by name if left out.")] = None
    schema: Annotated[Path | None, Option(help="Of a table: the schema that it was certified with.")] = None
    label: Annotated[str | None, Option(help="Of a table: the label's column; said by the certificate.")] = None
    model: Annotated[str | None, Option(help="package.module:factory of an opaque network; runs that code.")] = None
    original: Annotated[
        str | None,
        Option(help="The original network, where it is certified: FILE.pt2, FILE.onnx or package.module:factory."),
    ] = None
    weights: Annotated[str | None, Option(help="Weights of --original: .safetensors or state dict.")] = None
    unlabelled: Annotated[
        str | None, Option(help="The unlabelled data: name (its test part) or path; found by name if left out.")
    ] = None
    loss: Annotated[list[str] | None, Option(help="package.module:function of the certificate to run; may repeat.")] = (
        None
    )
    commitment: Annotated[
        str | None, Option(help="The hash of bitcert helper that was published before the data were opened.")
    ] = None
    download: Annotated[bool, Option(help="Download built-in data that are not found.")] = False
    max_operations: Annotated[float, Option(help="Operations that counting may take at most; a day on one core.")] = (
        MAX_OPERATIONS
    )
    json_output: Annotated[bool, Option("--json", help="Print the outcome as JSON.")] = False

    def executor(self) -> Executor:
        """By default all cores, up to four."""
        if self.workers is None and self.ray is None and (cores := usable_cores()) > 1:
            return LocalWorkers(cores)
        return super().executor()


def verify_certificate(options: VerifyOptions) -> None:
    """Check a certificate: exit 0 valid, 1 invalid (says which line fails), 2 cannot be checked (says why)."""
    model, original, most = options.model, options.original, options.max_operations
    if options.weights is not None and original is None:
        raise InputError("an original network for --weights", "weights alone", "name it first, with --original")
    if not 0 < most < float("inf"):
        raise InputError("a positive number for --max-operations", f"{most:g}", "give e.g. 1e16")
    with progress_bar() as progress:
        if options.download:
            _download(options, progress)
        outcome = verify(
            options.certificate,
            options.data,
            model=None if model is None else partial(load_opaque, model),
            original=None if original is None else partial(load_original, original, options.weights),
            unlabelled=options.unlabelled,
            losses=tuple(options.loss or ()),
            commitment=options.commitment,
            progress=progress,
            limit=WorkLimit(int(most), note),
            label=options.label,
            schema=options.schema,
        )
    if options.json_output:
        print(json.dumps(_described(outcome), indent=1))
    else:
        _show(outcome)
    raise typer.Exit(int(outcome.status))


def _download(options: VerifyOptions, progress: Progress) -> None:
    """Fetch the built-in data that are asked for, or that the certificate names, if they are not on this machine."""
    names = [options.data, options.unlabelled]
    if options.data is None:
        try:
            names.append(str(read_certificate(options.certificate, Checker()).data.get("name")))
        except (CannotCheckError, InvalidError):
            return  # verify says what is wrong with it
    for name in names:
        if name is not None and canonical_name(name) is not None:
            load_sample(name, Role.TRAIN, download=True, progress=progress)


def _described(outcome: Verification) -> dict[str, object]:
    lines = [{"name": line.name, "holds": line.holds, "detail": line.detail} for line in outcome.lines]
    found = {"status": outcome.status.name.lower(), "reason": outcome.reason, "lines": lines}
    if outcome.certificate is not None:
        stated = outcome.certificate
        found |= {"bound": stated.bound, "self_contained": stated.self_contained, "conditions": stated.conditions}
    return found


def _show(outcome: Verification) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for line in outcome.lines:
        mark = ("ok  " if line.checked else "note") if line.holds else "FAIL"
        console.print(Text(f"{mark} {line.name}: {line.detail}", style="" if line.holds else "bold red"))
    if outcome.status is Status.VALID:
        assert outcome.certificate is not None
        certificate = outcome.certificate
        charged = (
            f"Self-contained bound, with {helper_size(certificate)} of helper charged: {self_contained(certificate)}."
        )
        console.print(Text(f"VALID. {certificate.sentence} {charged}", style="bold green"))
        ends = {"helper": " (not needed by the self-contained bound)"}
        rests = (f"{text}{ends.get(kind, '')}" for kind, text in condition_rows(certificate))
        console.print(Text(f"This holds if {'; '.join(f'({k}) {text}' for k, text in enumerate(rests, start=1))}."))
    elif outcome.status is Status.INVALID:
        console.print(Text(f"INVALID: {outcome.reason}", style="bold red"))
    else:
        console.print(Text(f"CANNOT CHECK: {outcome.reason}", style="bold yellow"))
