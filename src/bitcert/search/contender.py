"""A contender of the search: a way to compress, its helper string, where it stands, and the search's checkpoint.

All contenders write words of one prefix code: a message opens with the number of its family, and to each family belongs
one helper string, declared before anything is tried. So ``decode`` is one fixed map from messages to classifiers, and
the union bound is over messages alone: choosing the best message of all contenders after seeing every error count costs
nothing (docs/theory.md section 2). Two helpers for one family would be two codes, whose choice nobody pays for:
:func:`check_helpers` refuses them. Public weights that a message does not refer to are left out of its helper; that too
is a fixed function of the message.

The checkpoint, which a killed or prolonged search goes on from, holds messages, counts and candidates; it is this
machine's own note, not evidence: the certificate of the message that wins is computed from the message and the data
alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Protocol

from bitcert.codecs.best import without_unused_weights
from bitcert.coding import MessageReader
from bitcert.data import Sample
from bitcert.decoder import Helper, abstaining, decode_message
from bitcert.errors import BitcertError, DecodeError, InputError
from bitcert.run import Candidate, Compressed, Run, message_tensor


class Compressor(Protocol):
    """What a contender runs; it returns its best message when the run's time is over or the run is stopped."""

    def __call__(self, sample: Sample, helper: Helper, run: Run) -> Compressed:
        """The best message found in the run's time, of at least one that was tried."""
        ...


@dataclass(frozen=True, eq=False)
class Contender:
    """One way to compress.

    Args:
        name: for tables; unique in a search.
        family: number of the family of its messages.
        compress: the compressor.
        helper: what its messages are decoded with.
        continues: whether a longer budget goes on from the checkpoint of a shorter one. A training whose schedule
            follows its budget does not: it starts again with the longer one.
        weight: its part of a round's time, relative to the others'.
        least_seconds: below this it is not worth starting.
        option: what its messages are of, where the user has a choice between several; the leaders of the two best
            options share the last round, and the best message of each option is kept.
    """

    name: str
    family: int
    compress: Compressor
    helper: Helper
    continues: bool = True
    weight: float = 1.0
    least_seconds: float = 0.0
    option: str = ""


def check_helpers(contenders: Sequence[Contender]) -> None:
    """Refuse contenders that would read messages of one family with different helper strings.

    Raises:
        InputError: naming the family, or a name that two contenders have.
    """
    names = [contender.name for contender in contenders]
    if len(set(names)) < len(names):
        raise InputError("contenders of different names", ", ".join(names)[:200], "rename one")
    for family in {contender.family for contender in contenders}:
        helpers = [contender.helper for contender in contenders if contender.family == family]
        problems = {replace(helper, weights=None).content_hash for helper in helpers}
        weights = {helper.weights.content_hash for helper in helpers if helper.weights is not None}
        if len(problems) > 1 or len(weights) > 1:
            expected = f"one helper string for all messages of family {family}"
            raise InputError(expected, f"{max(len(problems), len(weights))}", "leave out one of the networks")


def check_message(contender: Contender, compressed: Compressed) -> None:
    """Refuse a message of another family, or for another helper string, than its contender declared.

    Raises:
        InputError: a helper that changed under way would be a choice that no bits pay for.
    """
    declared, used = contender.helper, compressed.helper
    same = used.content_hash in (declared.content_hash, replace(declared, weights=None).content_hash)
    if not same or MessageReader(compressed.message).family != contender.family:
        got = f"another one from {contender.name}"
        raise InputError("messages of the family and helper that were declared", got, "report this as a bug")


@dataclass(frozen=True)
class Row:
    """What is known of a contender, for a live table.

    Attributes:
        name: of the contender.
        state: ``waiting``, ``running``, ``tried``, or why it is out.
        seconds: of its own so far.
        message_bits: of its best message, or ``None`` before there is one.
        errors: of that message on the training sample.
        bound: of that message; for a certificate of the original network the predicted disagreement is in it, and it
            is ``None`` until that was counted.
        estimated: whether that bound is an estimate.
    """

    name: str
    state: str
    seconds: float = 0.0
    message_bits: int | None = None
    errors: int | None = None
    bound: float | None = None
    estimated: bool = False


@dataclass(frozen=True)
class Board:
    """A search at one moment: all contenders in their order, and the clock."""

    rows: tuple[Row, ...]
    seconds: float
    budget_seconds: float

    @property
    def best(self) -> Row | None:
        """The row with the smallest bound so far."""
        found = [row for row in self.rows if row.bound is not None]
        return min(found, key=lambda row: (row.bound, row.message_bits), default=None)


Watch = Callable[[Board], None]


@dataclass(eq=False)
class Standing:
    """A contender, its best message so far, and the time it has had.

    Attributes:
        contender: whose.
        state: what :class:`Row` says of it.
        seconds: used in all rounds.
        longest: budget of the longest attempt that was finished.
        message: the best so far.
        verdict: of that message.
        refusal: why it cannot be used here.
        running: the attempt that is under way.
    """

    contender: Contender
    state: str = "waiting"
    seconds: float = 0.0
    longest: float = 0.0
    message: bytes = b""
    verdict: Candidate | None = None
    refusal: BitcertError | None = None
    running: Run | None = None
    _glimpse: Candidate | None = None

    @property
    def was_tried(self) -> bool:
        """Whether an attempt was finished, or refused."""
        return self.longest > 0 or self.verdict is not None or self.refusal is not None

    @property
    def why_none(self) -> str:
        """In words for the user, why there is no message."""
        if self.refusal is not None:
            return str(self.refusal)
        return "the time is too short for it; give a longer one"

    @property
    def rank(self) -> tuple[float, int, int]:
        """By the certificate; contenders without a message come last."""
        return (2.0, 0, 0) if self.verdict is None else self.verdict.rank

    def offer(self, message: bytes, verdict: Candidate) -> None:
        """Keep the message if it is the best one."""
        self.state = "tried"
        if self.verdict is None or verdict.rank < self.verdict.rank:
            self.message, self.verdict = message, verdict

    def refuse(self, error: BitcertError) -> None:
        """It cannot compress this problem; a message from an earlier round stays."""
        self.refusal = error
        self.state = "tried" if self.verdict is not None else "not for this problem"

    def glimpse(self, candidate: Candidate) -> None:
        """A candidate of an attempt that is still running."""
        if self._glimpse is None or candidate.bound < self._glimpse.bound:
            self._glimpse = candidate

    def compressed(self) -> Compressed:
        """The best message with its ledger, decoded afresh, and what it was judged to be worth."""
        contender, verdict = self.contender, self.verdict
        assert verdict is not None
        ledger = decode_message(self.message, contender.helper).ledger
        judged = replace(verdict, name=contender.name, seconds=self.seconds)
        found = without_unused_weights(Compressed(self.message, ledger, contender.helper, (judged,), contender.option))
        if verdict.abstains is None:
            return found
        message = abstaining.write(self.message, verdict.abstains)
        return replace(found, message=message, ledger=decode_message(message, found.helper).ledger)

    def row(self) -> Row:
        """For a table: the best message, that of the attempt that is running included."""
        found = [candidate for candidate in (self.verdict, self._glimpse) if candidate is not None]
        seconds = self.seconds
        if self.running is not None:
            seconds = self.running.seconds if self.contender.continues else seconds + self.running.seconds
        row = Row(self.contender.name, self.state, seconds)
        if not found:
            return row
        best = min(found, key=lambda candidate: candidate.bound)
        told = {name: getattr(best, name) for name in ("message_bits", "errors", "bound", "estimated")}
        return replace(row, **told)


def save_standings(run: Run, standings: Sequence[Standing], unfinished: tuple[Standing, float] | None) -> None:
    """Write the run's checkpoint: every contender's best message, the candidates, and what is being tried."""
    assert run.checkpoint is not None
    rows = [
        {
            "name": standing.contender.name,
            "seconds": standing.seconds,
            "longest": standing.longest,
            "verdict": None if standing.verdict is None else asdict(standing.verdict),
        }
        for standing in standings
    ]
    tensors = {s.contender.name: message_tensor(s.message) for s in standings if s.verdict is not None}
    values = {
        "contenders": rows,
        "candidates": [asdict(candidate) for candidate in run.candidates],
        "unfinished": None if unfinished is None else (unfinished[0].contender.name, unfinished[1]),
        "seconds": run.seconds,
    }
    run.checkpoint.save(values, tensors)


def restore_standings(run: Run, standings: Sequence[Standing]) -> tuple[Standing, float] | None:
    """Go on from the run's checkpoint, if it has one; the attempt that was interrupted is returned."""
    loaded = run.checkpoint.load() if run.checkpoint is not None else None
    if loaded is None or "contenders" not in loaded[0]:
        return None
    values, tensors = loaded
    run.candidates[:] = [Candidate(**candidate) for candidate in values["candidates"]]
    run.spent_before(float(values["seconds"]))
    known = {standing.contender.name: standing for standing in standings}
    for row in values["contenders"]:
        standing = known.get(row["name"])
        if standing is None:
            continue
        if row["verdict"] is not None:
            message = tensors[row["name"]].numpy().tobytes()
            try:
                decode_message(message, standing.contender.helper)
            except DecodeError:
                # of a damaged file, or of another program: it is sought anew
                continue
            standing.message, standing.verdict, standing.state = message, Candidate(**row["verdict"]), "tried"
        standing.seconds, standing.longest = float(row["seconds"]), float(row["longest"])
    name, seconds = values["unfinished"] or ("", 0.0)
    return (known[name], float(seconds)) if name in known else None
