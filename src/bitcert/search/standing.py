"""Where each contender of a search stands, and the checkpoint that a killed or prolonged search goes on from.

The checkpoint holds messages, counts and candidates; it is this machine's own note, not evidence: the certificate of
the message that wins is computed from the message and the data alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace

from bitcert.codecs.best import without_unused_weights
from bitcert.decoder import decode_message
from bitcert.errors import BitcertError, DecodeError
from bitcert.run import Candidate, Compressed, Run, message_tensor
from bitcert.search.contender import Contender, Row


@dataclass(eq=False)
class Standing:
    """A contender, its best message so far, and the time it has had.

    Attributes:
        contender: whose.
        state: what :class:`~bitcert.search.contender.Row` says of it.
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
        found = Compressed(self.message, ledger, contender.helper, (judged,), contender.option)
        return without_unused_weights(found)

    def row(self) -> Row:
        """For a table: the best message, that of the attempt that is running included."""
        best, seen = self.verdict, self._glimpse
        if seen is not None and (best is None or seen.bound < best.bound):
            best = seen
        seconds = self.seconds
        if self.running is not None:
            seconds = self.running.seconds if self.contender.continues else seconds + self.running.seconds
        if best is None:
            return Row(self.contender.name, self.state, seconds)
        return Row(self.contender.name, self.state, seconds, best.message_bits, best.errors, best.bound)


def save_standings(run: Run, standings: Iterable[Standing], unfinished: tuple[str, float] | None) -> None:
    """Write the run's checkpoint: every contender's best message, the candidates, and what is being tried."""
    assert run.checkpoint is not None
    rows, tensors = [], {}
    for k, standing in enumerate(standings):
        if standing.verdict is not None:
            tensors[f"message/{k}"] = message_tensor(standing.message)
        rows.append(
            {
                "name": standing.contender.name,
                "seconds": standing.seconds,
                "longest": standing.longest,
                "message": k,
                "verdict": None if standing.verdict is None else asdict(standing.verdict),
            }
        )
    values = {
        "contenders": rows,
        "candidates": [asdict(candidate) for candidate in run.candidates],
        "unfinished": unfinished,
        "seconds": run.seconds,
    }
    run.checkpoint.save(values, tensors)


def restore_standings(run: Run, standings: Mapping[str, Standing]) -> tuple[str, float] | None:
    """Go on from the run's checkpoint, if it has one; the attempt that was interrupted is returned."""
    loaded = run.checkpoint.load() if run.checkpoint is not None else None
    if loaded is None or "contenders" not in loaded[0]:
        return None
    values = loaded[0]
    run.candidates[:] = [Candidate(**candidate) for candidate in values["candidates"]]
    run.spent_before(float(values["seconds"]))
    for row in values["contenders"]:
        standing = standings.get(row["name"])
        if standing is None:
            continue
        standing.seconds, standing.longest = float(row["seconds"]), float(row["longest"])
        if row["verdict"] is not None:
            message = loaded[1][f"message/{row['message']}"].numpy().tobytes()
            if not _is_readable(message, standing):
                standing.seconds = standing.longest = 0.0
                continue
            standing.message, standing.verdict, standing.state = message, Candidate(**row["verdict"]), "tried"
    unfinished = values["unfinished"]
    if unfinished is None or unfinished[0] not in standings:
        return None
    return str(unfinished[0]), float(unfinished[1])


def _is_readable(message: bytes, standing: Standing) -> bool:
    """Whether the present program can decode it; one of a damaged file, or of another program, is sought anew."""
    try:
        decode_message(message, standing.contender.helper)
    except DecodeError:
        return False
    return True
