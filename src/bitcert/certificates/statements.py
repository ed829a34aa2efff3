"""What a certificate states beside its counts, each statement recomputed from the others: no data are needed for that.

The division of delta, the bounds of the counts that are claimed, the step to the original network, the hold-out line,
the rule that errors were counted by, and what is said of the helper: its length, its commitment, the conditions. The
counts themselves are counted again in :mod:`bitcert.certificates.verification`.

Not checked, because no file can show it: that the claims were chosen before their bounds were seen.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from bitcert.canonical import same_json
from bitcert.certificates.certificate import HOLDOUT_KEYS, MESSAGE_FILE, MESSAGE_KEYS, VERSIONED, Certificate
from bitcert.certificates.conditions import conditions
from bitcert.certificates.original import ORIGINAL_KEYS, SHARED, UNLABELLED_KEYS, identity_hash, trials_of
from bitcert.certificates.reading import CannotCheckError, Checker, InvalidError, has_form
from bitcert.counting import DecisionRule
from bitcert.decoder import Helper
from bitcert.decoder.commitment import COMMITMENT_KEYS, Commitment, num_choices, problem_of
from bitcert.decoder.description import SplitClaim, helper_ledger
from bitcert.decoder.program import decoder_hash
from bitcert.errors import BudgetError, InputError
from bitcert.losses import LOSS_KEYS
from bitcert.network import OpaqueModel
from bitcert.proof import (
    ConfidenceBudget,
    OccamBound,
    disagreement_bound,
    holdout_bound,
    occam_bound,
    self_contained_bound,
)
from bitcert.proof.claims import delta_plan, theorem_text

RELATIVE_TOLERANCE = 1e-12
_HASH = re.compile("[0-9a-f]{64}")


def close(claimed: object, recomputed: float) -> bool:
    """Whether a claimed number is the recomputed one, up to the last digits of a float."""
    return type(claimed) is float and math.isclose(claimed, recomputed, rel_tol=RELATIVE_TOLERANCE, abs_tol=0.0)


def loss_names(certificate: Certificate) -> tuple[str, ...]:
    """Names of the further losses, of entries whose form is right.

    Raises:
        InvalidError: an entry has another form.
    """
    for entry in certificate.losses:
        if not has_form(
            entry, LOSS_KEYS, name=str, values=str, total=int, mean=float, bound=float, self_contained=float
        ):
            raise InvalidError(f"losses: entries of {', '.join(sorted(LOSS_KEYS))} were expected")
    return tuple(entry["name"] for entry in certificate.losses)


def _stated_choices(certificate: Certificate) -> int:
    """How many declared helpers share delta; what is no list is refused where the commitment is checked."""
    lists = [certificate.commitment.get(key) for key in ("architectures", "weights")]
    return num_choices(*(each if isinstance(each, list) else [] for each in lists))


def _stated_look(certificate: Certificate) -> int | None:
    """The number of the look at the unlabelled sample, as stated; ``None`` where there is none.

    Raises:
        InvalidError: it is no number.
    """
    if certificate.original is None:
        return None
    look = certificate.original.get("look")
    if not isinstance(look, int) or isinstance(look, bool):
        raise InvalidError(
            "original network's description: the number of the look at its unlabelled sample was expected"
        )
    return look


def check_statements(certificate: Certificate, check: Checker) -> None:
    """Bounds, hold-out line and form: what a certificate says by itself."""
    _check_bounds(certificate, check)
    _check_holdout(certificate, check)
    _check_form(certificate, check)


def _check_form(certificate: Certificate, check: Checker) -> None:
    known = set(certificate.versions) == {"python", *VERSIONED}
    if known:
        check.trust("versions", "stated by the maker, not checked")
    else:
        check.line("versions", False, f"python and {', '.join(VERSIONED)} were expected")
    # Any other name could point out of the folder, or at a device.
    named = set(certificate.message) == MESSAGE_KEYS and certificate.message["file"] == MESSAGE_FILE
    check.line("message name", named, f"{MESSAGE_FILE} beside the certificate")


def _check_delta(certificate: Certificate, check: Checker) -> tuple[OccamBound, tuple[float, ...]]:
    """The Occam bound at its part of delta, and all parts: exactly those of the claims made, in the fixed division."""
    names = loss_names(certificate)
    try:
        plan = delta_plan(certificate.delta, names, _stated_look(certificate), _stated_choices(certificate))
        budget = ConfidenceBudget(certificate.delta)
        parts = tuple(budget.withdraw(entry.name, entry.amount) for entry in plan)
        bound = occam_bound(certificate.errors, certificate.samples, certificate.message_bits, parts[0])
    except (InputError, BudgetError) as error:
        raise InvalidError(f"bound: {error}") from None
    spent = certificate.delta_ledger == tuple((entry.name, entry.amount) for entry in plan)
    each = "spent once" if len(parts) == 1 else "in parts of " + ", ".join(f"{part:g}" for part in parts)
    check.line("delta", spent, f"{certificate.delta:g} {each}")
    return bound, parts


def _check_bounds(certificate: Certificate, check: Checker) -> None:
    bound, parts = _check_delta(certificate, check)
    recomputed = {"binomial": bound.binomial, "kl_chernoff": bound.kl_chernoff, "hoeffding": bound.hoeffding}
    same = set(recomputed) == set(certificate.bounds) and all(
        close(certificate.bounds[name], value) for name, value in recomputed.items()
    )
    check.line("bounds", same, ", ".join(f"{name} {value:.6f}" for name, value in recomputed.items()))
    transferred = certificate.original is not None
    whole = [bound.binomial, _self_contained(certificate, parts[0])]
    if transferred:
        whole = _check_transfer(certificate, parts[1], tuple(whole), check)
    check.line("bound", close(certificate.bound, whole[0]), f"{whole[0]:.6f} recomputed")
    same = close(certificate.self_contained, whole[1])
    size = "the helper's description is unknown" if certificate.helper_bits is None else f"{certificate.helper_bits:,}"
    check.line("self-contained bound", same, f"{whole[1]:.6f} recomputed with the bits of the helper: {size}")
    bounded = any(entry["values"] != "0 or 1" for entry in certificate.losses)
    theorem = theorem_text(prior=certificate.prior is not None, bounded=bounded, original=transferred)
    whose = "original" if transferred else "compressed"
    stated = certificate.theorem == theorem and certificate.certifies == whose
    check.line("theorem", stated, f"{'disagreement' if transferred else 'Occam'} bound of the {whose} network")


def _self_contained(certificate: Certificate, delta: float) -> float:
    """The bound of the compressed network that charges for the helper's description, of the length that is stated."""
    if certificate.helper_bits is None:
        return 1.0
    counts = certificate.errors, certificate.samples, certificate.message_bits
    try:
        return self_contained_bound(*counts, certificate.helper_bits, delta)
    except InputError as error:
        raise InvalidError(f"self-contained bound: {error}") from None


def _check_transfer(
    certificate: Certificate, delta: float, compressed: tuple[float, ...], check: Checker
) -> list[float]:
    """The arithmetic of the step to the original network, paid with ``delta``.

    Args:
        certificate: the claims.
        delta: of the disagreement.
        compressed: bounds on the compressed network's error.
        check: where the lines go.

    Returns:
        The bounds on the original network's error.
    """
    claimed = certificate.original
    assert claimed is not None
    usable = (
        has_form(claimed, ORIGINAL_KEYS, name=str, disagreements=int, look=int)
        and identity_hash(claimed) == claimed["hash"]
    )
    data = claimed.get("unlabelled")
    keys = UNLABELLED_KEYS | ({SHARED} if isinstance(data, Mapping) and SHARED in data else set())
    usable = usable and has_form(data, keys, name=str, hash=str, samples=int)
    check.line("original network's description", usable, "form and hash")
    try:
        trials = trials_of(claimed)
        apart = holdout_bound(claimed["disagreements"], trials, delta)
        bounds = [disagreement_bound(each, claimed["disagreements"], trials, delta) for each in compressed]
    except (InputError, KeyError, TypeError) as error:
        raise InvalidError(f"disagreement: {error}") from None
    check.line("disagreement", close(claimed["disagreement_bound"], apart), f"{apart:.6f} recomputed at {delta:g}")
    return bounds


def _check_holdout(certificate: Certificate, check: Checker) -> None:
    if certificate.holdout is None:
        return
    claimed = certificate.holdout
    same = has_form(claimed, HOLDOUT_KEYS, name=str, hash=str)
    if same:
        try:
            bound = holdout_bound(claimed["errors"], claimed["samples"], certificate.delta)
            same = close(claimed["bound"], bound)
        except InputError:
            same = False
    check.line("hold-out line", same, "agrees with its own counts (comparison only; its data were not read)")


def check_rule(certificate: Certificate, helper: Helper, check: Checker, abstains_within: float = 0.0) -> DecisionRule:
    """The rule that errors are counted by, which is the program's for this helper and, of a surrogate, this message."""
    ours = DecisionRule(helper.batch_size, abstains_within=abstains_within)
    claimed = certificate.decision_rule
    # only code outside the program may be without a second way in float64
    allowed = (True, False) if isinstance(helper.predictor, OpaqueModel) else (True,)
    known = any(same_json(claimed, ours.describe(double)) for double in allowed)
    detail = (
        f"right in {ours.dtype} and in {claimed.get('second_dtype')}, batches of {ours.batch_size} and of half; gaps "
        f"within {ours.tolerance:g}, or within {ours.rounding:g} times the difference of both, count as errors"
    )
    detail += f"; it abstains at gaps below {abstains_within:g}" if abstains_within else ""
    check.line("decision rule", known, detail)
    return ours


def _stated_split(certificate: Certificate) -> SplitClaim | None:
    prior = certificate.prior
    return None if prior is None else SplitClaim(prior["fraction"], prior["seed"])


def check_helper_bits(certificate: Certificate, helper: Helper, check: Checker) -> None:
    """The helper's description, written again."""
    known = not isinstance(helper.predictor, OpaqueModel) or helper.predictor.sources
    sections = helper_ledger(helper, _stated_split(certificate)).sections if known else ()
    found = f"{sum(bits for _, bits in sections):,} bits" if known else "source code of the network not found"
    check.line("helper's description", certificate.helper_sections == sections, f"{found} in {len(sections)} sections")


def check_conditions(certificate: Certificate, helper: Helper, check: Checker) -> None:
    """The conditions, which no file can show, are those of such a certificate."""
    stated = certificate.conditions == conditions(certificate, helper)
    check.line("conditions", stated, f"{len(certificate.conditions)} are stated, as they are for such a certificate")


def check_commitment(certificate: Certificate, helper: Helper, published: str | None, check: Checker) -> None:
    """Whether the helper is one of those committed to, and whether that is the commitment that was published.

    Raises:
        CannotCheckError: the committed decoder is not this program's.
        InvalidError: the helper was not committed to, or to another hash.
    """
    claimed = certificate.commitment
    usable = has_form(claimed, COMMITMENT_KEYS, architectures=list, weights=list)
    if not usable or type(claimed["num_classes"]) not in (int, type(None)):
        check.line("commitment", False, f"{', '.join(sorted(COMMITMENT_KEYS))} were expected")
    architectures, weights = (tuple(map(str, claimed[key])) for key in ("architectures", "weights"))
    problem, split = problem_of(certificate.helper), _stated_split(certificate)
    commitment = Commitment(problem, claimed["num_classes"], architectures, weights, split)
    covered = same_json(commitment.describe(), claimed) and commitment.covers(certificate.helper)
    # a number of classes that was not declared is in the message, or it is the width of a declared network
    covered = covered and (commitment.num_classes is not None or helper.classes_inferred or helper.fixes_classes)
    check.line("commitment", covered, f"{commitment.hash[:16]}… is that of a declaration which has this helper in it")
    if published is None:
        check.trust("commitment published", f"not checked; compare with --commitment {commitment.hash}")
        return
    given = published.strip().lower()
    if not _HASH.fullmatch(given):
        raise CannotCheckError(
            f"a commitment of 64 hexadecimal digits was expected, got {given[:64]!r}; pass what bitcert helper --hash "
            "printed"
        )
    check.line("commitment published", given == commitment.hash, f"{given} given, {commitment.hash} found")
    if certificate.helper["decoder"] != decoder_hash():
        raise CannotCheckError(
            "the commitment is to a decoder with other source code than this program's; install the version of "
            f"bitcert that made the certificate ({certificate.versions.get('bitcert')})"
        )
