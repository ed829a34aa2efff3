"""The certificate for a terminal: the sentence, then a small table.

Text of the certificate is shown as text: no markup is read in it and no control character reaches the terminal.
"""

from __future__ import annotations

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bitcert.certificates.certificate import Certificate
from bitcert.report.certificate.claims import counted_on, loss_rows, original_facts, rest_facts, split_facts
from bitcert.report.text import (
    bound_rows,
    clean,
    condition_rows,
    delta_text,
    foundation,
    group_sections,
    helper_size,
    holdout_facts,
    number,
    self_contained,
    share,
)

__all__ = ["terminal_summary"]

MOST_ROWS = 6
MAX_NAME = 40


def terminal_summary(certificate: Certificate) -> Group:
    """The plain sentence, errors, message bits by section, the bounds, the hold-out line, and what they rest on.

    >>> from rich.console import Console
    >>> Console().print(terminal_summary(certificate))  # doctest: +SKIP
    """
    table = Table.grid(padding=(0, 2))
    table.add_column(overflow="fold")
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold", style="dim")
    _add_counts(table, certificate)
    _add_sections(table, certificate)
    _add_bounds(table, certificate)
    style = "bold yellow" if certificate.vacuous else "bold"
    basis = foundation(certificate)
    warning = [Text(basis, style="yellow")] if basis else []
    rests = [_condition(kind, text) for kind, text in condition_rows(certificate)]
    return Group(
        Text(clean(certificate.sentence), style=style),
        *warning,
        Padding(table, (1, 0, 0, 2)),
        Padding(Text("It holds if"), (1, 0, 0, 2)),
        *rests,
    )


def _condition(kind: str, text: str) -> Padding:
    without = " (the self-contained bound does without this)" if kind == "helper" else ""
    return Padding(Text(f"- {text}{without}", style="yellow" if kind == "broken" else ""), (0, 0, 0, 4))


def _row(table: Table, label: str, value: str, note: str = "", style: str = "") -> None:
    table.add_row(Text(label, style=style), Text(value, style=style), Text(note))


def _add_counts(table: Table, certificate: Certificate) -> None:
    rate = share(certificate.errors, certificate.samples)
    counts = f"{number(certificate.errors)} of {number(certificate.samples)}"
    if certificate.near_ties:
        counts += f", {number(certificate.near_ties)} near-ties included"
    _row(table, f"errors on {counted_on(certificate)}", rate, counts)
    split = split_facts(certificate)
    if split is not None:
        note = f"spent on the helper: fraction {split['fraction']}, seed {split['seed']}, declared beforehand"
        _row(table, "prior part", split["samples"], note)


def _add_sections(table: Table, certificate: Certificate) -> None:
    _row(table, "message", f"{number(certificate.message_bits)} bits")
    shown, rest = group_sections(certificate.sections, MOST_ROWS)
    for name, bits in shown + ([rest] if rest else []):
        _row(table, f"  {clean(name, MAX_NAME)}", f"{number(bits)} bits", share(bits, certificate.message_bits))


def _add_original(table: Table, certificate: Certificate) -> bool:
    """The two steps to the original network; whether there are any."""
    facts = original_facts(certificate)
    if facts is None:
        return False
    note = f"{facts['name']}, hash {facts['hash']}; delta = {delta_text(certificate.delta)}"
    _row(table, "bound on the original network", facts["bound"], note, "bold")
    note = (
        f"{facts['disagreements']} of {facts['samples']} unlabelled examples of {facts['data']}, look {facts['look']}"
    )
    _row(table, "  differs from the compressed one", facts["rate"], note)
    _row(table, "  on new data at most", facts["disagreement"], f"delta = {facts['disagreement_delta']}")
    note = f"the compressed network's own bound, delta = {facts['compressed_delta']}"
    _row(table, "  errors of the compressed one", facts["compressed"], note)
    return True


def _add_losses(table: Table, certificate: Certificate) -> None:
    whose = "" if certificate.original is None else "of the compressed network only; "
    for loss in loss_rows(certificate):
        note = f"{whose}{loss['mean']} on {counted_on(certificate)}; {loss['form']}, delta = {loss['delta']}"
        note += f"; self-contained {loss['self_contained']}"
        _row(table, f"bound, {loss['name']}", loss["bound"], note)


def _add_bounds(table: Table, certificate: Certificate) -> None:
    transferred = _add_original(table, certificate)
    paid = certificate.delta_ledger[0][1] if certificate.delta_ledger else certificate.delta
    for index, (label, value) in enumerate(bound_rows(certificate.bounds)):
        number_, _, word = value.partition(" (")
        counts = f"{'of the compressed network' if transferred else 'the form that counts'}, delta = {delta_text(paid)}"
        note = word.rstrip(")") or ("" if index else counts)
        _row(table, f"bound, {clean(label, MAX_NAME)}", number_, note, "" if index or transferred else "bold")
    whose = "of the original network, " if transferred else ""
    number_, _, word = self_contained(certificate).partition(" (")
    note = f"{whose}the helper ({helper_size(certificate)} to describe) charged like the message, not trusted"
    _row(table, "bound, self-contained", number_, f"{word.rstrip(')')}: {note}" if word else note, "bold")
    _add_losses(table, certificate)
    rest = rest_facts(certificate)
    if rest is not None:
        note = f"the helper's network makes {rest['errors']} errors on {rest['samples']}"
        _row(table, "holding out the rest would have said", rest["bound"], note)
    held = holdout_facts(certificate)
    if held is not None:
        name = clean(held["name"], MAX_NAME)
        note = f"{held['errors']} errors on {held['samples']} held-out examples of {name}"
        _row(table, "holding out would have said", held["bound"], note)
