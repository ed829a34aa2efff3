"""One self-contained HTML page for a certificate: inline SVG, no script, nothing fetched, light or dark, any width.

Every text of the certificate may come from a stranger: the template escapes all of it, control characters are taken
out, and a content security policy in the page forbids anything that would have to be loaded or run. The page shows
what the certificate says; it does NOT check it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from bitcert.certificates.certificate import Certificate
from bitcert.report import text as words
from bitcert.report.bounds.page import bounds_section
from bitcert.report.certificate import claims as claims_words
from bitcert.report.certificate.figures import MAX_POINTS, plot_bound_surface, plot_history, plot_sections
from bitcert.report.drawing import to_svg
from bitcert.report.stability.page import stability_section
from bitcert.report.templating import Picture, get_template
from bitcert.run import Candidate

if TYPE_CHECKING:
    from bitcert.stability.profile import StabilityProfile
    from bitcert.theory.table import BoundTable

__all__ = ["render_report"]

MOST_ROWS = 12
MOST_CANDIDATES = 20
MOST_LISTED = 300
MOST_LINES = 100


def render_report(
    certificate: Certificate,
    candidates: Sequence[Candidate] = (),
    verification_lines: Sequence[str] = (),
    profile: StabilityProfile | None = None,
    bounds: BoundTable | None = None,
) -> str:
    """The report of a certificate as the text of one HTML file, the same for the same arguments.

    Args:
        certificate: what to report.
        candidates: the messages that were tried, for the training curve.
        verification_lines: what a verification said, one sentence each.
        profile: noise stability of the network that was compressed, shown as a section of its own.
        bounds: every bound of the papers on that network, shown as a section with this certificate on its axis.

    Raises:
        InputError: the certificate's counts are impossible (more errors than samples, delta outside (0, 1)).
    """
    shown, rest = words.group_sections(certificate.sections, MOST_ROWS)
    listed, unlisted = words.group_sections(certificate.sections, MOST_LISTED)
    return get_template("report.html.j2").render(
        certificate=certificate,
        words=words,
        sections=shown + ([rest] if rest else []),
        all_sections=listed + ([unlisted] if unlisted else []) if rest else [],
        sections_sum=sum(bits for _, bits in certificate.sections),
        bounds=words.bound_rows(certificate.bounds)[:MOST_LINES],
        delta_ledger=certificate.delta_ledger[:MOST_LINES],
        holdout=words.holdout_facts(certificate),
        original=claims_words.original_facts(certificate),
        split=claims_words.split_facts(certificate),
        rest=claims_words.rest_facts(certificate),
        losses=claims_words.loss_rows(certificate),
        counted_on=claims_words.counted_on(certificate),
        conditions=words.condition_rows(certificate),
        foundation=words.foundation(certificate),
        pictures=_pictures(certificate, candidates),
        best_candidates=sorted(candidates, key=lambda candidate: candidate.bound)[:MOST_CANDIDATES],
        all_candidates=sorted(candidates, key=lambda candidate: candidate.seconds)[:MOST_LISTED]
        if len(candidates) > MOST_CANDIDATES
        else [],
        num_candidates=len(candidates),
        verification_lines=list(verification_lines)[:MOST_LINES],
        details=_details(certificate),
        stability=None if profile is None else stability_section(profile),
        other_bounds=None if bounds is None else bounds_section(bounds, certificate.bound),
    )


def _pictures(certificate: Certificate, candidates: Sequence[Candidate]) -> list[Picture]:
    pictures = [_sections_picture(certificate), _bound_picture(certificate)]
    if candidates:
        pictures.append(_history_picture(certificate, candidates))
    return pictures


def _picture(figure: Any, name: str, title: str, caption: str) -> Picture:
    return Picture(title, Markup(to_svg(figure, name, f"{title}. {caption}")), caption)


def _sections_picture(certificate: Certificate) -> Picture:
    figure, _ = plot_sections(certificate)
    caption = (
        f"The {words.number(certificate.message_bits)} bits of the message by what they describe. "
        "Every bit that was chosen after seeing the data is in here."
    )
    return _picture(figure, "sections", "Where the bits go", caption)


def _bound_picture(certificate: Certificate) -> Picture:
    figure, _ = plot_bound_surface(certificate)
    which = "This certificate" if certificate.certifies == "compressed" else "The compressed network's part"
    caption = (
        f"{which} is the round mark. A shorter message moves it to the left, fewer training errors move it to a lower "
        f"curve. All curves: {words.number(certificate.samples)} samples, exact binomial tail."
    )
    return _picture(figure, "bound", "The bound against message length and errors", caption)


def _history_picture(certificate: Certificate, candidates: Sequence[Candidate]) -> Picture:
    figure, _ = plot_history(candidates, certificate.samples)
    caption = "Each dot is a complete message that was tried; the diamond is the one with the lowest bound."
    if len(candidates) > MAX_POINTS:
        caption += f" {MAX_POINTS} of {words.number(len(candidates))} are drawn."
    return _picture(figure, "history", "Training curve", caption)


def _details(certificate: Certificate) -> list[tuple[str, list[tuple[str, str]]]]:
    groups: dict[str, Mapping[str, Any]] = {
        "Data": certificate.data,
        "Helper (known before the data)": certificate.helper,
        "Commitment to the helper": certificate.commitment,
        "Message": certificate.message,
        "Decision rule": certificate.decision_rule,
        **({} if certificate.prior is None else {"Prior split": certificate.prior}),
        **({} if certificate.original is None else {"Original network": certificate.original}),
        "Versions": certificate.versions,
    }
    return [
        (title, [(key, _plain(value)) for key, value in list(group.items())[:MOST_LINES]])
        for title, group in groups.items()
    ]


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
