"""Measures of many networks as frozen records: rows, rank correlations, CSV and a data frame.

A row is one network, an entry one measure of it; an entry without a value says why. The file is read from strangers, so
reading checks types and ranges; it does NOT show that the numbers are true.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from scipy.stats import rankdata

from bitcert.canonical import Source, Stored, require
from bitcert.errors import InputError
from bitcert.theory.ranks import Association, conditional, granulated, kendall, names_of, spearman
from bitcert.theory.value import BoundValue, Status

if TYPE_CHECKING:
    import pandas

LEAST = 3
"""Networks with a value and a gap, below which no correlation is given."""
Value = str | int | float | bool


@dataclass(frozen=True)
class Reading:
    """One measure of one network.

    Attributes:
        value: ``None`` if it was not computed or a float cannot hold it (then ``log10`` has it).
        log10: of the value; ``None`` if not computed or the value is 0.
        status: see :class:`bitcert.theory.value.Status`.
        why: one sentence.
    """

    value: float | None
    log10: float | None
    status: str
    why: str

    @classmethod
    def of(cls, found: BoundValue) -> Reading:
        """From what a bound says."""
        return cls(found.value, found.log10, str(found.status), found.why[:1000])

    @property
    def order(self) -> float | None:
        """What networks are ordered by: the logarithm, ``-inf`` for exactly 0; ``None`` where there is no value."""
        return -math.inf if self.log10 is None and self.value == 0 else self.log10


@dataclass(frozen=True)
class SurveyRow:
    """One network.

    Attributes:
        name, content_hash, num_parameters, depth, width: of the network; depth and width of its weight layers.
        errors, samples: on the training sample.
        holdout_errors, holdout_samples: on held-out labels, or ``None``.
        gamma: margin of the measures that need one; ``None`` where its rule gives no positive one.
        hyperparameters: as given.
        readings: by measure.
        seconds: that it took.
    """

    name: str
    content_hash: str
    num_parameters: int
    depth: int
    width: int
    errors: int
    samples: int
    holdout_errors: int | None
    holdout_samples: int | None
    gamma: float | None
    hyperparameters: Mapping[str, Any]
    readings: Mapping[str, Reading]
    seconds: float

    @property
    def training_error(self) -> float:
        """Fraction of errors on the training sample."""
        return self.errors / self.samples

    @property
    def holdout_error(self) -> float | None:
        """Fraction of errors on held-out labels."""
        if self.holdout_errors is None or self.holdout_samples is None:
            return None
        return self.holdout_errors / self.holdout_samples

    @property
    def gap(self) -> float | None:
        """The generalization gap: held-out error less training error."""
        held = self.holdout_error
        return None if held is None else held - self.training_error

    def value(self, measure: str) -> float | None:
        """The value of a measure, if there is one."""
        found = self.readings.get(measure)
        return None if found is None else found.value


@dataclass(frozen=True)
class Correlation:
    """How well a measure orders the networks by their gap (:mod:`bitcert.theory.ranks`).

    Attributes:
        measure: its name.
        networks: that have a value and a gap; no coefficient below three.
        kendall, spearman: with p-values that are not corrected for how many measures there are.
        granulated: mean of ``by_hyperparameter``; ``None`` without hyperparameters.
        by_hyperparameter: ``psi_i``, among networks that differ in it alone.
        conditional: smallest normalised conditional information, given what ``given`` names.
    """

    measure: str
    networks: int
    kendall: Association | None
    spearman: Association | None
    granulated: float | None
    by_hyperparameter: Mapping[str, float | None]
    conditional: float | None
    given: tuple[str, ...]


@dataclass(frozen=True)
class Survey(Stored):
    """Measures of many networks of one training sample.

    Attributes:
        sample: ``name``, ``content_hash``, ``num_samples``.
        holdout: ``name``, ``num_samples``, or ``None``.
        measures: names, in order.
        rows: one for each network that could be used.
        refused: of the other networks, why not.
        settings: of the run.
        versions: of the program and what it rests on.
    """

    SOURCE: ClassVar = Source("survey.json", "bitcert survey", "bitcert-survey-1")

    sample: Mapping[str, Any]
    holdout: Mapping[str, Any] | None
    measures: tuple[str, ...]
    rows: tuple[SurveyRow, ...]
    refused: Mapping[str, str]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]

    @property
    def hyperparameters(self) -> list[str]:
        """Names of those that differ between the networks."""
        return names_of([row.hyperparameters for row in self.rows])

    @property
    def measured(self) -> list[str]:
        """Measures that have a value for at least one network."""
        return [name for name in self.measures if any(row.readings[name].order is not None for row in self.rows)]

    def missing(self, measure: str) -> dict[str, list[str]]:
        """Why a measure has no value: networks by reason."""
        found: dict[str, list[str]] = {}
        for row in self.rows:
            if row.readings[measure].order is None:
                found.setdefault(row.readings[measure].why, []).append(row.name)
        return found

    def pairs(self, measure: str) -> list[tuple[float, float, SurveyRow]]:
        """Base-10 logarithm of the measure and gap of every network that has both; exactly 0 is ``-inf``."""
        found = ((row.readings[measure].order, row.gap, row) for row in self.rows)
        return [(order, gap, row) for order, gap, row in found if order is not None and gap is not None]

    def correlation(self, measure: str) -> Correlation:
        """How well a measure orders the networks by their gap."""
        pairs = self.pairs(measure)
        orders, gaps, own = [pair[0] for pair in pairs], [pair[1] for pair in pairs], [pair[2] for pair in pairs]
        if len(pairs) < LEAST:
            return Correlation(measure, len(pairs), None, None, None, {}, None, ())
        names = self.hyperparameters
        chosen = [{name: row.hyperparameters[name] for name in names} for row in own]
        by_axis = granulated(orders, gaps, chosen) if names else {}
        known = [value for value in by_axis.values() if value is not None]
        least = conditional(orders, gaps, chosen) if names else None
        return Correlation(
            measure=measure,
            networks=len(pairs),
            kendall=kendall(orders, gaps),
            spearman=spearman(orders, gaps),
            granulated=math.fsum(known) / len(known) if known else None,
            by_hyperparameter=by_axis,
            conditional=None if least is None else least[0],
            given=() if least is None else least[1],
        )

    def correlations(self) -> tuple[Correlation, ...]:
        """Of every measure that has a value, the best ordering first.

        Measures of less than half as many networks as the others come behind, and those without a coefficient last.
        """
        found = [self.correlation(name) for name in self.measured]
        most = max((each.networks for each in found), default=0)

        def place(each: Correlation) -> tuple[bool, float]:
            return 2 * each.networks < most, -abs(each.kendall.value) if each.kendall else 1.0

        return tuple(sorted(found, key=place))

    def distinct(self, names: Sequence[str]) -> list[str]:
        """The measures without those that order the same networks just as an earlier one does."""
        found: dict[tuple[object, ...], str] = {}
        for name in names:
            pairs = self.pairs(name)
            ranks = rankdata([order for order, _, _ in pairs]).tolist()
            found.setdefault((*ranks, *(row.name for _, _, row in pairs)), name)
        return list(found.values())

    def table(self) -> tuple[list[str], list[list[Any]]]:
        """Titles and rows: what is known of each network, hyperparameters, and its measures; ``None`` for no value."""
        facts = ("num_parameters", "depth", "width", "training_error", "holdout_error", "gap", "gamma")
        settings = list(self.rows[0].hyperparameters)
        titles = ["network", *settings, *facts, *self.measured]
        return titles, [
            [
                row.name,
                *(row.hyperparameters[name] for name in settings),
                *(getattr(row, fact) for fact in facts),
                *(row.value(name) for name in self.measured),
            ]
            for row in self.rows
        ]

    def correlation_table(self) -> tuple[list[str], list[list[Any]]]:
        """Titles and rows of :meth:`correlations`."""
        names = self.hyperparameters if any(row.hyperparameters for row in self.rows) else []
        titles = ["measure", "networks", "kendall", "kendall_p", "spearman", "spearman_p"]
        titles += ["granulated", *(f"granulated_{name}" for name in names), "conditional", "conditional_given"]
        return titles, [
            [
                *(each.measure, each.networks, *_two(each.kendall), *_two(each.spearman), each.granulated),
                *(each.by_hyperparameter.get(name) for name in names),
                *(each.conditional, " ".join(each.given)),
            ]
            for each in self.correlations()
        ]

    def to_csv(self) -> str:
        """:meth:`table` as CSV; no value is an empty field."""
        return as_csv(*self.table())

    def to_pandas(self) -> pandas.DataFrame:
        """:meth:`table` as a data frame, a row for each network.

        Raises:
            InputError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise InputError("pandas for a data frame", "none installed", "pip install pandas, or to_csv()") from error
        titles, rows = self.table()
        return pandas.DataFrame(rows, columns=titles)

    def check(self) -> None:
        """Refuse counts that cannot be, and rows that do not fit together."""
        require(bool(self.rows), "no row")
        for row in self.rows:
            counts = [(row.errors, row.samples)]
            if row.holdout_errors is not None and row.holdout_samples is not None:
                counts.append((row.holdout_errors, row.holdout_samples))
            require(all(0 <= errors <= samples > 0 for errors, samples in counts), "impossible counts")
            alike = set(row.readings) == set(self.measures) and set(row.hyperparameters) == set(
                self.rows[0].hyperparameters
            )
            require(alike, "rows of different measures or hyperparameters")
            for reading in row.readings.values():
                Status(reading.status)
                numbers = (reading.value, reading.log10)
                require(all(number is None or math.isfinite(number) for number in numbers), "an infinite value")


def _two(found: Association | None) -> tuple[float | None, float | None]:
    return (None, None) if found is None else (found.value, found.p_value)


def as_csv(titles: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Rows under their titles as CSV."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(titles)
    writer.writerows(rows)
    return file.getvalue()
