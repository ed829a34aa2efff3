"""``bitcert predict``: a certified classifier at work on new data."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, TextIO

from typer import Argument, Option

from bitcert.certificates.loading import load
from bitcert.cli.common import load_opaque, note
from bitcert.cli.executors import ExecutorOptions
from bitcert.locking import replacing
from bitcert.report.text import self_contained


@dataclass(frozen=True, kw_only=True)
class PredictOptions(ExecutorOptions):
    """The options of the verb."""

    certificate: Annotated[Path, Argument(help="Folder of certify's results, or certificate.json in it.")]
    data: Annotated[str, Option(help="New data like those that were certified: name (its test part) or path.")]
    schema: Annotated[Path | None, Option(help="Of a table: the schema that it was certified with.")] = None
    model: Annotated[str | None, Option(help="package.module:factory of an opaque network; runs that code.")] = None
    download: Annotated[bool, Option(help="Download built-in data that are not found.")] = False
    out: Annotated[Path | None, Option(help="CSV file for the classes; by default they are printed.")] = None


def predict_classes(options: PredictOptions) -> None:
    """Use a certified classifier on new data: a class for each example."""
    model = None if options.model is None else partial(load_opaque, options.model)
    certified = load(options.certificate, model=model, schema=options.schema)
    classes = certified.predict(certified.read(options.data, options.download))
    names = certified.class_names
    answers = (names[label] if names else str(label) for label in classes)
    if options.out is None:
        _write(sys.stdout, answers)
    else:
        with replacing(options.out) as fresh, fresh.open("w", newline="", encoding="utf-8") as file:
            _write(file, answers)
    certificate = certified.certificate
    note(f"{certificate.sentence} Self-contained: {self_contained(certificate)}. Not verified here: bitcert verify.")


def _write(file: TextIO, answers: Iterable[str]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["class"])
    writer.writerows([answer] for answer in answers)
