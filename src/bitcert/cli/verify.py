"""``bitcert verify``: a stranger's check of a certificate from its files and the data."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from bitcert.certificates.certificate import Certificate
from bitcert.certificates.verification import Status, Verification, verify
from bitcert.certificates.workload import MAX_OPERATIONS, WorkLimit
from bitcert.cli.common import load_opaque, load_original, progress_bar
from bitcert.errors import InputError
from bitcert.report.text import condition_rows, helper_size, self_contained


def verify_command(
    certificate: Annotated[Path, typer.Argument(help="certificate.json, with message.bin beside it.")],
    data: Annotated[
        str | None, typer.Option(help="The training data: name or path; found by name if left out.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="package.module:factory of an opaque network; runs that code.")
    ] = None,
    original: Annotated[
        str | None,
        typer.Option(help="The original network, where it is certified: FILE.pt2 or package.module:factory."),
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Weights of --original: .safetensors or state dict.")] = None,
    unlabelled: Annotated[
        str | None, typer.Option(help="The unlabelled data: name (its test part) or path; found by name if left out.")
    ] = None,
    loss: Annotated[
        list[str] | None, typer.Option(help="package.module:function of the certificate to run; may repeat.")
    ] = None,
    commitment: Annotated[
        str | None, typer.Option(help="The hash of bitcert helper that was published before the data were opened.")
    ] = None,
    max_operations: Annotated[
        float, typer.Option(help="Operations that counting may take at most; a day on one core.")
    ] = MAX_OPERATIONS,
    json_output: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Check a certificate: exit 0 valid, 1 invalid (says which line fails), 2 cannot be checked (says why)."""
    if weights is not None and original is None:
        raise InputError("an original network for --weights", "weights alone", "name it first, with --original")
    if not 0 < max_operations < float("inf"):
        raise InputError("a positive number for --max-operations", f"{max_operations:g}", "give e.g. 1e16")
    console, errors = Console(highlight=False, soft_wrap=True), Console(stderr=True, highlight=False, soft_wrap=True)
    limit = WorkLimit(int(max_operations), partial(errors.print, markup=False))
    with progress_bar(Console(stderr=True)) as progress:
        make = None if model is None else partial(load_opaque, model)
        load = None if original is None else partial(load_original, original, weights)
        outcome = verify(
            certificate,
            data,
            model=make,
            original=load,
            unlabelled=unlabelled,
            losses=tuple(loss or ()),
            commitment=commitment,
            progress=progress,
            limit=limit,
        )
    if json_output:
        lines = [{"name": line.name, "holds": line.holds, "detail": line.detail} for line in outcome.lines]
        found = {"status": outcome.status.name.lower(), "reason": outcome.reason, "lines": lines}
        if outcome.certificate is not None:
            stated = outcome.certificate
            found |= {"bound": stated.bound, "self_contained": stated.self_contained, "conditions": stated.conditions}
        print(json.dumps(found, indent=1))
    else:
        _show(console, outcome)
    raise typer.Exit(int(outcome.status))


def _conditions(certificate: Certificate) -> list[str]:
    """Every condition in one clause; those that the self-contained bound does without say so."""
    ends = {"helper": " (not needed by the self-contained bound)"}
    return [f"({k}) {text}{ends.get(kind, '')}" for k, (kind, text) in enumerate(condition_rows(certificate), start=1)]


def _show(console: Console, outcome: Verification) -> None:
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
        console.print(Text(f"This holds if {'; '.join(_conditions(certificate))}."))
    elif outcome.status is Status.INVALID:
        console.print(Text(f"INVALID: {outcome.reason}", style="bold red"))
    else:
        console.print(Text(f"CANNOT CHECK: {outcome.reason}", style="bold yellow"))
