"""The search for the best certificate: all contenders briefly, then fewer and fewer of them with more time.

Successive halving (Jamieson & Talwalkar 2016) on the certificate itself: every contender gets a small share of the
time, those with the smallest bounds go on (or start again with a longer schedule), and the last one gets what is left;
where the user has a choice of options, the leaders of two share it. The best message of all rounds is kept. Choosing it
is free: all are words of one prefix code (:mod:`bitcert.search.contender`), so the number of contenders, rounds and
candidates enters no bound.

A stopped search (:meth:`~bitcert.run.Run.stop`) returns the best message so far; a killed one goes on from the
checkpoints of search and contenders, and so does one that was given more time. Not guaranteed: that the contender which
leads after its share would have led in the end, nor the same message twice, because the search follows the clock.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bitcert.data import Sample
from bitcert.errors import BitcertError, InputError
from bitcert.run import Candidate, Checkpoint, Compressed, Run
from bitcert.search.contender import (
    Board,
    Contender,
    Standing,
    Watch,
    check_helpers,
    check_message,
    restore_standings,
    save_standings,
)
from bitcert.search.judging import Judge

EARLY_SHARE = 0.4
"""Part of the time that is spent before the last round."""
KEPT_OF = 3
"""One in so many contenders goes on from one round to the next, at least one."""
FIRST_SHARE = 0.6
"""Part of the last round's time for the best contender, where that of another option gets the rest."""
WORTHWHILE = 0.02
"""Less of the time than this is not shared out once more."""
SAVE_SECONDS = 20.0
"""Between two checkpoints of the list of candidates while a contender runs."""
_SLACK_SECONDS = 0.05


def num_rounds(num_contenders: int) -> int:
    """Rounds until one is left.

    >>> [num_rounds(n) for n in (1, 2, 5, 6, 12)]
    [1, 2, 2, 3, 3]
    """
    rounds = 1
    while num_contenders > 1:
        num_contenders, rounds = _num_kept(num_contenders), rounds + 1
    return rounds


def _num_kept(num_contenders: int) -> int:
    return max(1, num_contenders // KEPT_OF)


def entrants(contenders: Sequence[Contender], budget_seconds: float) -> tuple[Contender, ...]:
    """Those that the time is enough for, by their own least seconds; the first at any rate.

    Where a share is too short, the last in the list of those that cannot use it is left out first.
    """
    chosen = list(contenders)
    while len(chosen) > 1:
        first_round = _first_round_seconds(len(chosen), budget_seconds)
        late = [c for c in chosen[1:] if c.least_seconds > _part(c, chosen, first_round)]
        if not late:
            break
        chosen.remove(late[-1])
    return tuple(chosen)


def _first_round_seconds(num_contenders: int, budget_seconds: float) -> float:
    rounds = num_rounds(num_contenders)
    return budget_seconds if rounds == 1 else EARLY_SHARE * budget_seconds / (rounds - 1)


def _part(contender: Contender, among: Sequence[Contender], seconds: float) -> float:
    return seconds * contender.weight / sum(c.weight for c in among)


@dataclass(eq=False)
class _Search:
    sample: Sample
    judge: Judge
    run: Run
    watch: Watch
    standings: Sequence[Standing]
    total: float
    unfinished: tuple[Standing, float] | None = None
    saved_at: float = 0.0

    def rounds(self, entered: Sequence[Standing]) -> None:
        """Every round, until one contender is left or the time is over."""
        if self.unfinished is not None and not self.is_over():
            self.attempt(*self.unfinished)
        left, rounds = list(entered), num_rounds(len(entered))
        early = _first_round_seconds(len(entered), self.total)
        for number in range(1, rounds + 1):
            among = [standing.contender for standing in left]
            for standing in left:
                if self.is_over(standing.contender.option):
                    continue
                last = self.time_left * (1.0 if standing is left[-1] else FIRST_SHARE) if number == rounds else 0.0
                self.attempt_for(standing, _part(standing.contender, among, early) if number < rounds else last)
            if number < rounds - 1:
                left = kept_of(left, _num_kept(len(left)))
            elif number < rounds:
                # more than two would get too little time each
                left = kept_of(left, 1)[:2]
        self.spend(entered)

    def spend(self, entered: Sequence[Standing]) -> None:
        """Give what is left, where the last one ended early, to each in the order of their bounds."""
        for standing in ranked(entered):
            if self.is_over() or self.time_left < WORTHWHILE * self.total:
                return
            self.attempt_for(standing, self.time_left)

    def attempt_for(self, standing: Standing, seconds: float) -> None:
        """Give a contender so many seconds, as far as there are; what it has used counts where it continues."""
        used = standing.seconds if standing.contender.continues else 0.0
        self.attempt(standing, used + max(_SLACK_SECONDS, min(seconds, self.time_left)))

    @property
    def time_left(self) -> float:
        return self.run.budget_seconds - self.run.seconds

    def is_over(self, option: str | None = None) -> bool:
        """Whether to end: stopped or out of time, with at least one message, and this option (if any) was tried."""
        if self.run.fraction < 1.0 or all(s.verdict is None for s in self.standings):
            return False
        tried = {s.contender.option for s in self.standings if s.was_tried}
        return self.run.stopped or option is None or option in tried

    def attempt(self, standing: Standing, seconds: float) -> None:
        """Run a contender until it has had so many seconds and judge its message, unless it has had them before."""
        if standing.longest and standing.longest >= seconds - _SLACK_SECONDS:
            return
        contender = standing.contender
        part, started = self.part(standing, seconds), self.run.seconds
        standing.state, standing.running = "running", part
        self.unfinished = standing, seconds
        self.save()
        self.show()
        try:
            compressed = contender.compress(self.sample, contender.helper, part)
        except BitcertError as error:
            standing.refuse(error)
        else:
            check_message(contender, compressed)
            self.take(standing, compressed)
        finally:
            standing.running = None
        if not self.run.stopped:
            self.unfinished = None
            standing.longest = seconds
            if part.checkpoint is not None and not contender.continues:
                part.checkpoint.remove()
        before = standing.seconds if contender.continues else 0.0
        # Seconds of a killed attempt that this one went on from were not on the search's own clock.
        lost = part.seconds - before - (self.run.seconds - started)
        self.run.spent_before(self.run.seconds + max(0.0, lost))
        standing.seconds += part.seconds - before
        self.save()
        self.show()

    def part(self, standing: Standing, seconds: float) -> Run:
        """The contender's own run; what it books is shown at once."""
        contender = standing.contender
        part = self.run.share(seconds, contender.name)
        if not contender.continues and self.run.checkpoint is not None:
            part.checkpoint = self.run.checkpoint.part(f"{contender.name} for {seconds:.3f} s")

        def watch(candidate: Candidate) -> None:
            self.run.candidates.append(self.listed(contender, candidate))
            if self.judge.original is None:
                standing.glimpse(candidate)
            if self.run.seconds - self.saved_at > SAVE_SECONDS:
                self.save()
            self.show()

        part.watch = watch
        return part

    def listed(self, contender: Contender, candidate: Candidate) -> Candidate:
        """A candidate of a contender as the list of all candidates names it."""
        alone = " (the surrogate alone)" if self.judge.original is not None else ""
        return replace(candidate, name=f"{contender.name}: {candidate.name}{alone}", seconds=self.run.seconds)

    def take(self, standing: Standing, compressed: Compressed) -> None:
        """Judge a message and keep it if it is the contender's best."""
        contender = standing.contender
        verdict = self.judge.judge(compressed, self.run.progress)
        standing.offer(compressed.message, verdict)
        known = {(c.name, c.errors, c.message_bits) for c in self.run.candidates}
        # what it tried before it was killed and resumed is listed too
        for candidate in (self.listed(contender, c) for c in compressed.candidates):
            if (candidate.name, candidate.errors, candidate.message_bits) not in known:
                self.run.candidates.append(candidate)
        if self.judge.original is not None or not compressed.candidates:
            name = "with the disagreement predicted" if self.judge.original is not None else "message"
            self.run.candidates.append(replace(verdict, name=f"{contender.name}: {name}", seconds=self.run.seconds))

    def save(self) -> None:
        """Write the search's own checkpoint, if there is one."""
        if self.run.checkpoint is not None:
            save_standings(self.run, self.standings, self.unfinished)
            self.saved_at = self.run.seconds

    def show(self) -> None:
        """Tell the watcher how things stand."""
        rows = tuple(standing.row() for standing in self.standings)
        self.watch(Board(rows, self.run.seconds, self.run.budget_seconds))

    def best(self) -> Compressed:
        """The best message of all, with everything that was tried."""
        firsts = kept_of(self.standings, 0)
        if not firsts:
            raise next(s.refusal for s in self.standings if s.refusal is not None)
        best, *others = (standing.compressed() for standing in firsts)
        candidates = tuple(sorted(self.run.candidates, key=lambda c: c.seconds))
        missing = {s.contender.option: s.why_none for s in reversed(self.standings)}
        for standing in firsts:
            del missing[standing.contender.option]
        return replace(best, candidates=candidates, others=tuple(others), missing=missing)


def ranked(standings: Sequence[Standing]) -> list[Standing]:
    """Those that have a message, best first by the certificate."""
    return sorted((s for s in standings if s.verdict is not None), key=lambda standing: standing.rank)


def kept_of(standings: Sequence[Standing], most: int) -> list[Standing]:
    """The best of them, and the best of every option: who asks for several is not left with one."""
    found = ranked(standings)
    firsts = {standing.contender.option: standing for standing in reversed(found)}
    return [s for k, s in enumerate(found) if k < most or firsts[s.contender.option] is s]


def search(
    contenders: Sequence[Contender],
    sample: Sample,
    judge: Judge,
    run: Run,
    *,
    watch: Watch | None = None,
    before: float = 0.0,
) -> Compressed:
    """The message with the best certificate that the contenders find in the run's time.

    Args:
        contenders: in the order of their promise; those that the time is too short for are left out.
        sample: the training sample, on which errors are counted (the rest, with a declared prior part).
        judge: of the same sample.
        run: seed, seconds for all contenders together, delta, checkpoint of the search; stopping it ends the search
            with the best message so far.
        watch: called with the state of the search whenever it changes.
        before: seconds of the run that were used before the search, for a prior network, say.

    Raises:
        InputError: no contenders, or two that read one family with different helper strings.
        BitcertError: every contender refuses; the first refusal is told.
    """
    if not contenders:
        raise InputError("at least one way to compress", "none", "allow a family or a codec")
    check_helpers(contenders)
    total = max(_SLACK_SECONDS, run.budget_seconds - before)
    entered = entrants(contenders, total)
    standings = [Standing(c, "waiting" if c in entered else "too little time") for c in contenders]
    with tempfile.TemporaryDirectory() as folder:
        kept = run.checkpoint
        if kept is None:
            # Contenders that continue need theirs even where nobody will resume the search.
            run.checkpoint = Checkpoint(Path(folder, "search.safetensors"), "this search")
        try:
            unfinished = restore_standings(run, standings)
            running = _Search(sample, judge, run, watch or (lambda board: None), standings, total, unfinished)
            running.rounds([standing for standing in standings if standing.contender in entered])
            return running.best()
        finally:
            run.checkpoint = kept
