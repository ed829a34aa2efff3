"""The further claims of a certificate, counted again: losses, the original network, the hold-out line of a split.

Everything that is a count is counted leniently and strictly (:class:`bitcert.counting.Level`), as
:mod:`bitcert.certificates.verification` does with the errors. Whatever needs something the reviewer did not pass (the
original network, a user's loss) is left open and named; all else is still checked.

Not checked, because no file can show it: that the unlabelled examples were drawn independently of both networks, and
that the claims were chosen before their bounds were seen.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from bitcert.certificates.certificate import REST_KEYS, Certificate
from bitcert.certificates.original import (
    ORIGINAL_KEYS,
    UNLABELLED_KEYS,
    Counts,
    MakeOriginal,
    Original,
    check_unlabelled,
    helper_network,
    identity_hash,
    unlabelled_sample,
)
from bitcert.certificates.reading import CannotCheckError, Checker, InvalidError, read_numbers
from bitcert.certificates.workload import WorkLimit
from bitcert.counting import (
    Classifier,
    DecisionRule,
    Level,
    LossCount,
    Progress,
    count_disagreements,
    count_losses,
)
from bitcert.data import NAMES, Role, Sample, Table, load_sample, schema_like, shaped_like
from bitcert.decoder import Helper, Preprocessing
from bitcert.decoder.commitment import num_choices
from bitcert.errors import BitcertError, InputError, SampleReuseError
from bitcert.losses import LOSS_KEYS, Loss, is_users, parse_loss
from bitcert.proof import disagreement_bound, holdout_bound

RELATIVE_TOLERANCE = 1e-12
LEVELS = (Level.LENIENT, Level.STRICT)
"""Between the counts at these a claimed count must lie."""


def close(claimed: object, recomputed: float) -> bool:
    """Whether a claimed number is the recomputed one, up to the last digits of a float."""
    return type(claimed) is float and math.isclose(claimed, recomputed, rel_tol=RELATIVE_TOLERANCE, abs_tol=0.0)


# Losses


def loss_names(certificate: Certificate) -> tuple[str, ...]:
    """Names of the further losses, of entries whose form is right.

    Raises:
        InvalidError: an entry has another form.
    """
    for entry in certificate.losses:
        texts = [entry.get("name"), entry.get("values")]
        numbers = [entry.get("mean"), entry.get("bound"), entry.get("self_contained")]
        known = set(entry) == LOSS_KEYS and all(isinstance(text, str) for text in texts)
        if not known or type(entry["total"]) is not int or not all(type(number) is float for number in numbers):
            raise InvalidError(f"losses: entries of {', '.join(sorted(LOSS_KEYS))} were expected")
    return tuple(entry["name"] for entry in certificate.losses)


def load_losses(
    certificate: Certificate, num_classes: int, allowed: Collection[str]
) -> tuple[tuple[Loss, ...], tuple[str, ...]]:
    """The losses that can be counted again, and the names of the user's own that were not allowed to run.

    Raises:
        CannotCheckError: an allowed one cannot be loaded.
        InvalidError: an unknown one.
    """
    known, left_open = [], []
    for name in loss_names(certificate):
        if is_users(name) and name not in allowed:
            left_open.append(name)
            continue
        try:
            known.append(parse_loss(name, num_classes))
        except InputError as error:
            if is_users(name):
                raise CannotCheckError(f"the loss {name}: {error}") from None
            raise InvalidError(f"losses: {error}") from None
    return tuple(known), tuple(left_open)


def check_losses(
    certificate: Certificate, losses: tuple[Loss, ...], counts: tuple[LossCount, LossCount], check: Checker
) -> None:
    """Totals against the counts, means and bounds against the totals; of losses that were not run only the latter."""
    low, high = counts
    run = {loss.name: index for index, loss in enumerate(losses)}
    paid = [amount for _, amount in certificate.delta_ledger[len(certificate.delta_ledger) - len(certificate.losses) :]]
    for entry, delta in zip(certificate.losses, paid, strict=True):
        name, total = entry["name"], entry["total"]
        loss = losses[run[name]] if name in run else Loss(name, _never, zero_one=False)
        line = f"loss {name}"
        check.line(line, entry["values"] == loss.values, f"values {loss.values}")
        if name in run:
            least, most = low.totals[run[name]], high.totals[run[name]]
            check.line(f"{line}, sum", least <= total <= most, f"{total} claimed, between {least} and {most} counted")
        try:
            bound = loss.bound(total, certificate.samples, certificate.message_bits, delta)
            charged = _charged(loss, total, certificate, delta)
        except InputError as error:
            raise InvalidError(f"{line}: {error}") from None
        same = close(entry["mean"], loss.mean(total, certificate.samples)) and close(entry["bound"], bound)
        same = same and close(entry["self_contained"], charged)
        check.line(f"{line}, bound", same, f"{bound:.6f} recomputed at {delta:g}, self-contained {charged:.6f}")


def _charged(loss: Loss, total: int, certificate: Certificate, delta: float) -> float:
    """The bound that charges for the helper's description, of the length that the certificate states."""
    if certificate.helper_bits is None:
        return 1.0
    return loss.bound(total, certificate.samples, certificate.message_bits + certificate.helper_bits, delta)


def _never(*_: object) -> object:
    raise AssertionError("a loss that was not allowed to run")


# The hold-out line of a prior split


def check_rest(certificate: Certificate, helper: Helper, rest: Sample, rule: DecisionRule, check: Checker) -> None:
    """What holding out the rest would have said; counted again where the helper holds the network.

    Raises:
        InvalidError: the line is missing, or does not hold.
    """
    claimed = certificate.rest
    if certificate.prior is None:
        if claimed is not None:
            check.line("hold-out on the rest", False, "a certificate without a prior split has no rest")
        return
    network = helper_network(helper)
    usable = claimed is not None and set(claimed) == REST_KEYS
    usable = usable and type(claimed["errors"]) is int and claimed["in_helper"] is (network is not None)
    if claimed is None or not usable or claimed["samples"] != len(rest):
        check.line("hold-out on the rest", False, f"{', '.join(sorted(REST_KEYS))} of {len(rest)} examples expected")
        return
    try:
        bound = holdout_bound(claimed["errors"], len(rest), certificate.delta)
    except InputError as error:
        raise InvalidError(f"hold-out on the rest: {error}") from None
    found = "comparison only; its network is not in the files"
    holds = close(claimed["bound"], bound)
    if network is not None:
        low, high = (each.errors.errors for each in count_losses(network, rest, rule, levels=LEVELS, quick=True))
        holds = holds and low <= claimed["errors"] <= high
        found = f"{claimed['errors']} errors claimed, between {low} and {high} counted"
    check.line("hold-out on the rest", holds, f"{bound:.6f} recomputed; {found}")


# The original network


@dataclass(frozen=True)
class Given:
    """What a reviewer passed for the original network: how to load it, and the unlabelled data.

    ``counts`` are those of the certificate's maker, who need not count twice.
    """

    original: Original | MakeOriginal | None = None
    unlabelled: Sample | str | Path | None = None
    counts: Counts | None = None
    limit: WorkLimit = field(default_factory=WorkLimit)


def stated_choices(certificate: Certificate) -> int:
    """How many declared helpers share delta; what is no list is refused where the commitment is checked."""
    lists = [certificate.commitment.get(key) for key in ("architectures", "weights")]
    return num_choices(*(each if isinstance(each, list) else [] for each in lists))


def stated_look(certificate: Certificate) -> int | None:
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


def check_transfer(
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
    data = claimed.get("unlabelled")
    usable = set(claimed) == ORIGINAL_KEYS and isinstance(data, dict) and set(data) == UNLABELLED_KEYS
    usable = usable and all(isinstance(text, str) for text in (claimed["name"], data["name"], data["hash"]))
    usable = usable and identity_hash(claimed) == claimed["hash"]
    check.line("original network's description", usable, "form and hash")
    try:
        apart = holdout_bound(claimed["disagreements"], data["samples"], delta)
        bounds = [disagreement_bound(each, claimed["disagreements"], data["samples"], delta) for each in compressed]
    except (InputError, KeyError) as error:
        raise InvalidError(f"disagreement: {error}") from None
    check.line("disagreement", close(claimed["disagreement_bound"], apart), f"{apart:.6f} recomputed at {delta:g}")
    return bounds


def check_original(
    certificate: Certificate,
    compressed: Classifier,
    rule: DecisionRule,
    sample: Sample,
    given: Given,
    check: Checker,
    progress: Progress | None = None,
) -> str:
    """Count the disagreements again; returns what is missing for that, or an empty text.

    Raises:
        CannotCheckError: what was passed cannot be loaded, or is not what the certificate names.
        InvalidError: a line does not hold.
    """
    claimed = certificate.original
    if claimed is None:
        return ""
    if given.original is None:
        network = claimed["factory"] or claimed["name"]
        return f"the original network ({network!r}) is not in the files; pass it with --original and --weights"
    unlabelled = _find_unlabelled(certificate, sample, given)
    _check_unlabelled_data(claimed["unlabelled"], claimed["look"], unlabelled, sample, check)
    original = _load_original(claimed, unlabelled, given)
    rule = replace(rule, batch_size=min(rule.batch_size, original.batch_size))
    given.limit.admit(original.predictor, len(unlabelled))
    try:
        if given.counts is not None:
            low, high = given.counts.disagreements[0], given.counts.disagreements[-1]
        else:
            low, high = count_disagreements(original.classifier, compressed, unlabelled, rule, LEVELS, progress)
    except BitcertError as error:
        raise CannotCheckError(f"the original network: {error}") from None
    found = claimed["disagreements"]
    detail = f"{found} claimed, between {low.disagreements} and {high.disagreements} counted on {len(unlabelled)}"
    check.line("disagreements", low.disagreements <= found <= high.disagreements, detail)
    return ""


def _find_unlabelled(certificate: Certificate, sample: Sample, given: Given) -> Sample:
    if isinstance(given.unlabelled, Sample):
        return unlabelled_sample(given.unlabelled)
    if given.unlabelled is None and isinstance(given.original, Original):
        return given.original.unlabelled
    assert certificate.original is not None
    name = str(certificate.original["unlabelled"]["name"])
    built_in = name.removesuffix(" (test)")
    if given.unlabelled is None and built_in not in NAMES:
        # A stranger's file must not choose which paths of this machine are read.
        raise CannotCheckError(f"the unlabelled data {name!r} are not built in; name them with --unlabelled")
    source = built_in if given.unlabelled is None else given.unlabelled
    try:
        return shaped_like(load_unlabelled(source, sample.num_classes, table=sample.table), sample.input_shape)
    except BitcertError as error:
        raise CannotCheckError(f"the unlabelled data: {error}") from None


def load_unlabelled(source: str | Path, num_classes: int, download: bool = False, table: Table | None = None) -> Sample:
    """Unlabelled examples by name or path: the test part where there are two, its labels dropped.

    Args:
        source: name or path.
        num_classes: of the training sample.
        download: fetch built-in data that are not found.
        table: how the training sample was read, if from a table: another table is read the same way.

    Raises:
        InputError: they cannot be read.
    """
    role, schema = Role.UNLABELLED, schema_like(source, table)
    found = load_sample(source, role, split="test", num_classes=num_classes, download=download, schema=schema)
    return unlabelled_sample(found)


def _check_unlabelled_data(
    claimed: dict[str, object], look: int, unlabelled: Sample, sample: Sample, check: Checker
) -> None:
    if unlabelled.content_hash != claimed["hash"]:
        raise CannotCheckError(
            f"the unlabelled data given ({unlabelled.name}) are not those of the certificate ({claimed['name']!r}): "
            "their content hashes differ; pass them with --unlabelled"
        )
    same = claimed["samples"] == len(unlabelled)
    check.line("unlabelled data", same, f"{claimed['samples']} claimed, {len(unlabelled)} found, hash matches")
    try:
        check_unlabelled(unlabelled, sample)
    except (SampleReuseError, InputError) as error:
        raise InvalidError(f"unlabelled data: {error}") from None
    check.line("unlabelled data apart", True, "none of them is in the training data, byte by byte")
    detail = "assumed independent of the training of both networks, not checked; held-out data were not read"
    check.trust("unlabelled data's origin", detail)
    detail = f"certificate number {look} on these examples, as stated by its maker; earlier ones are assumed counted"
    check.trust("looks at the unlabelled data", detail)


def _load_original(claimed: dict[str, object], unlabelled: Sample, given: Given) -> Original:
    if isinstance(given.original, Original):
        original = given.original
    else:
        assert given.original is not None
        try:
            numbers = read_numbers([claimed["scale"]])[0], read_numbers(claimed["mean"]), read_numbers(claimed["std"])
            original = given.original(unlabelled, Preprocessing(*numbers))
        except BitcertError as error:
            raise CannotCheckError(f"the original network: {error}") from None
    if original.content_hash != claimed["hash"]:
        same_graph = original.predictor.content_hash == claimed["architecture"]
        what = "weights or preprocessing" if same_graph else "architecture"
        raise CannotCheckError(
            f"the network given is not the original of the certificate ({claimed['name']!r}): its {what} differ; "
            "pass the same one with --original and --weights"
        )
    return original
