"""A certificate as one self-contained HTML page (inline SVG, no script, light or dark, any width), and on a terminal.

Both show what the certificate says; they do NOT check it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from markupsafe import Markup
from rich.console import Group
from rich.padding import Padding
from rich.text import Text

from bitcert.certificates.certificate import Certificate
from bitcert.report import text as words
from bitcert.report.bounds.display import bounds_section
from bitcert.report.certificate.claims import (
    abstains,
    counted_on,
    errors_on,
    holdout_facts,
    loss_rows,
    original_facts,
    rest_facts,
    split_facts,
)
from bitcert.report.certificate.figures import MAX_POINTS, plot_bound_surface, plot_history, plot_sections
from bitcert.report.certificate.standing import standing, weak_because
from bitcert.report.model import MAX_NAME, Columns, Fact, Picture, Table, facts_grid, message_facts, render
from bitcert.report.stability.display import stability_section
from bitcert.report.text import bound_rows, clean, delta_text, number, percent_up, self_contained, share
from bitcert.run import Candidate
from bitcert.stability.profile import StabilityProfile
from bitcert.theory.table import BoundTable

MOST_ROWS = 12
MOST_TERMINAL_ROWS = 6
MOST_CANDIDATES = 20
MOST_RULES = 40
MOST_LISTED = 300
MOST_LINES = 100


def render_report(
    certificate: Certificate,
    candidates: Sequence[Candidate] = (),
    verification_lines: Sequence[str] = (),
    profile: StabilityProfile | None = None,
    bounds: BoundTable | None = None,
    rules: Sequence[str] = (),
    most_frequent: float | None = None,
) -> str:
    """The report of a certificate as the text of one HTML file, the same for the same arguments.

    Args:
        certificate: what to report.
        candidates: the messages that were tried, for the training curve.
        verification_lines: what a verification said, one sentence each.
        profile: noise stability of the network that was compressed, shown as a section of its own.
        bounds: every bound of the papers on that network, shown as a section with this certificate on its axis.
        rules: lines that say what the certified classifier does, of a decision tree.
        most_frequent: errors of always naming the training sample's most frequent class, in [0, 1].

    Raises:
        InputError: the certificate's counts are impossible (more errors than samples, delta outside (0, 1)).
    """
    samples = certificate.samples
    best = sorted(candidates, key=lambda candidate: candidate.bound)[:MOST_CANDIDATES]
    tried = sorted(candidates, key=lambda candidate: candidate.seconds)[:MOST_LISTED]
    some = f" (the best {len(best)})" if len(candidates) > len(best) else ""
    return render(
        "report.html.j2",
        title=certificate.sentence,
        lead=f"bitcert certificate · {certificate.data.get('name', 'unnamed data')}",
        headline=certificate.sentence,
        certificate=certificate,
        rules=Markup("\n").join(" " * (len(line) - len(line.lstrip(" "))) + words.clean(line) for line in rules),
        **_sections(certificate),
        bounds=bound_rows(certificate.bounds)[:MOST_LINES],
        delta_ledger=certificate.delta_ledger[:MOST_LINES],
        holdout=holdout_facts(certificate),
        original=original_facts(certificate),
        split=split_facts(certificate),
        rest=rest_facts(certificate),
        losses=loss_rows(certificate),
        counted_on=counted_on(certificate),
        errors_on=errors_on(certificate),
        conditions=words.condition_rows(certificate),
        beside_guessing=words.beside_guessing(certificate),
        foundation=words.foundation(certificate),
        standing=standing(certificate, most_frequent),
        weak_because=weak_because(certificate),
        pictures=_pictures(certificate, candidates),
        best_candidates=_tried(best, samples, f"candidate{some}"),
        all_candidates=_tried(tried if len(candidates) > MOST_CANDIDATES else [], samples),
        num_candidates=len(candidates),
        num_estimated=sum(candidate.estimated for candidate in candidates),
        verification_lines=list(verification_lines)[:MOST_LINES],
        details=_details(certificate),
        stability=None if profile is None else stability_section(profile),
        other_bounds=None if bounds is None else bounds_section(bounds, certificate.bound),
    )


def _sections(certificate: Certificate) -> dict[str, object]:
    total, listed = sum(bits for _, bits in certificate.sections), list[tuple[str, int]]()
    if len(certificate.sections) > MOST_ROWS:
        listed = words.group_sections(certificate.sections, MOST_LISTED)
    shown = [*words.group_sections(certificate.sections, MOST_ROWS), ("sum", total)]
    rows = [(name, number(bits), share(bits, certificate.message_bits)) for name, bits in shown]
    return {
        "sections": Table(("section", "bits", "share"), rows, total=len(rows) - 1),
        "all_sections": Table(("section", "bits"), [(clean(name, 120), number(bits)) for name, bits in listed]),
        "sections_sum": total,
    }


def _tried(candidates: Sequence[Candidate], samples: int, title: str = "candidate") -> Table:
    columns: Columns = (
        (title, lambda each: clean(each.name, 120)),
        ("errors", lambda each: share(each.errors, samples)),
        ("bits", lambda each: number(each.message_bits)),
        ("bound", lambda each: words.estimated(percent_up(each.bound), each.estimated)),
    )
    return Table.of(columns, candidates)


def _pictures(certificate: Certificate, candidates: Sequence[Candidate]) -> list[Picture]:
    sections = (
        f"The {number(certificate.message_bits)} bits of the message by what they describe. "
        "Every bit that was chosen after seeing the data is in here."
    )
    which = "This certificate" if certificate.certifies == "compressed" else "The compressed network's part"
    surface = (
        f"{which} is the round mark. A shorter message moves it to the left, fewer training errors move it to a lower "
        f"curve. All curves: {number(certificate.samples)} samples, exact binomial tail."
    )
    history = "Each dot is a complete message that was tried; the diamond is the one with the lowest bound."
    if len(candidates) > MAX_POINTS:
        history += f" {MAX_POINTS} of {number(len(candidates))} are drawn."
    axes = "The bound against message length and errors"
    pictures = [
        Picture.of("sections", "Where the bits go", sections, partial(plot_sections, certificate)),
        Picture.of("bound", axes, surface, partial(plot_bound_surface, certificate)),
        Picture.of("history", "Training curve", history, partial(plot_history, candidates, certificate.samples)),
    ]
    return pictures if candidates else pictures[:2]


def _details(certificate: Certificate) -> list[tuple[str, list[tuple[str, str]]]]:
    groups: dict[str, Mapping[str, Any] | None] = {
        "Data": certificate.data,
        "Helper (known before the data)": certificate.helper,
        "Commitment to the helper": certificate.commitment,
        "Message": certificate.message,
        "Decision rule": certificate.decision_rule,
        "Prior split": certificate.prior,
        "Original network": certificate.original,
        "Versions": certificate.versions,
    }
    return [
        (title, [(key, _plain(value)) for key, value in list(group.items())[:MOST_LINES]])
        for title, group in groups.items()
        if group is not None
    ]


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def terminal_summary(certificate: Certificate, rules: Sequence[str] = (), most_frequent: float | None = None) -> Group:
    """The plain sentence, errors, message bits by section, the bounds, the hold-out line, and what they rest on.

    The rules of a small decision tree come first, those of a large one are left to the report.

    >>> from rich.console import Console
    >>> Console().print(terminal_summary(certificate))  # doctest: +SKIP
    """
    below = [words.beside_guessing(certificate), words.foundation(certificate)]
    return Group(
        Text(clean(certificate.sentence), style="bold yellow" if certificate.vacuous else "bold"),
        *(Text(each, style="yellow") for each in below if each),
        *(Padding(Text(line), (0, 0, 0, 2)) for line in (rules if len(rules) <= MOST_RULES else ())),
        facts_grid(_facts(certificate)),
        *(
            Padding(Text(line, style="dim"), (1 if k == 0 else 0, 0, 0, 2))
            for k, line in enumerate(standing(certificate, most_frequent))
        ),
        Padding(Text("It holds if"), (1, 0, 0, 2)),
        *(_condition(kind, text) for kind, text in words.condition_rows(certificate)),
    )


def _condition(kind: str, text: str) -> Padding:
    without = " (the self-contained bound does without this)" if kind == "helper" else ""
    return Padding(Text(f"- {text}{without}", style="yellow" if kind == "broken" else ""), (0, 0, 0, 4))


def _facts(certificate: Certificate) -> Iterator[Fact]:
    counts = f"{number(certificate.errors)} of {number(certificate.samples)}"
    if abstains(certificate):
        counts += ", where the surrogate answers"
    elif certificate.near_ties:
        counts += f", {number(certificate.near_ties)} near-ties included"
    yield Fact(f"errors on {counted_on(certificate)}", share(certificate.errors, certificate.samples), counts)
    split = split_facts(certificate)
    if split is not None:
        note = f"spent on the helper: fraction {split['fraction']}, seed {split['seed']}, declared beforehand"
        yield Fact("prior part", split["samples"], note)
    yield from message_facts(certificate.message_bits, certificate.sections, MOST_TERMINAL_ROWS)
    yield from _original(certificate)
    yield from _bounds(certificate)
    yield from _losses(certificate)
    rest, held = rest_facts(certificate), holdout_facts(certificate)
    if rest is not None:
        note = f"the helper's network makes {rest['errors']} errors on {rest['samples']}"
        yield Fact("holding out the rest would have said", rest["bound"], note)
    if held is not None:
        name = clean(held["name"], MAX_NAME)
        note = f"{held['errors']} errors on {held['samples']} held-out examples of {name}"
        yield Fact("holding out would have said", held["bound"], note)


def _original(certificate: Certificate) -> Iterator[Fact]:
    """The two steps to the original network."""
    facts = original_facts(certificate)
    if facts is None:
        return
    note = f"{facts['name']}, hash {facts['hash']}; delta = {delta_text(certificate.delta)}"
    yield Fact("bound on the original network", facts["bound"], note, "bold")
    note = (
        f"{facts['disagreements']} of {facts['samples']} unlabelled examples of {facts['data']}, look {facts['look']}"
    )
    silent = abstains(certificate)
    differs = "  differs or abstains" if silent else "  differs from the compressed one"
    yield Fact(differs, facts["rate"], note)
    yield Fact("  on new data at most", facts["disagreement"], f"delta = {facts['disagreement_delta']}")
    note = f"the compressed network's own bound, delta = {facts['compressed_delta']}"
    yield Fact(f"  {'wrong answers' if silent else 'errors'} of the compressed one", facts["compressed"], note)


def _bounds(certificate: Certificate) -> Iterator[Fact]:
    transferred = certificate.original is not None
    paid = certificate.delta_ledger[0][1] if certificate.delta_ledger else certificate.delta
    whose = "of the compressed network's answers" if abstains(certificate) else "of the compressed network"
    counts = f"{whose if transferred else 'the form that counts'}, delta = {delta_text(paid)}"
    for index, (label, value) in enumerate(bound_rows(certificate.bounds)):
        bound, _, word = value.partition(" (")
        note = word.rstrip(")") or ("" if index else counts)
        yield Fact(f"bound, {clean(label, MAX_NAME)}", bound, note, "" if index or transferred else "bold")
    bound, _, word = self_contained(certificate).partition(" (")
    whose, size = "of the original network, " if transferred else "", words.helper_size(certificate)
    note = f"{whose}the helper ({size} to describe) charged like the message, not trusted"
    yield Fact("bound, self-contained", bound, f"{word.rstrip(')')}: {note}" if word else note, "bold")


def _losses(certificate: Certificate) -> Iterator[Fact]:
    whose = "" if certificate.original is None else "of the compressed network only; "
    for loss in loss_rows(certificate):
        note = f"{whose}{loss['mean']} on {counted_on(certificate)}; {loss['form']}, delta = {loss['delta']}"
        yield Fact(f"bound, {loss['name']}", loss["bound"], f"{note}; self-contained {loss['self_contained']}")
