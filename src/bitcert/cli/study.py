"""``bitcert study``: the tables and figures of the papers, the paper's number beside ours."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich.console import Console
from typer import Argument, Option

from bitcert.cli.common import duration, intermediate_folder, note, progress_bar
from bitcert.cli.options import Device, refuse_both
from bitcert.errors import InputError
from bitcert.folder import STUDY_FILES, check_output_folder, write_output
from bitcert.locking import replacing
from bitcert.report import render_studies, study_files, study_summary
from bitcert.run import Run, check_seed
from bitcert.stability.settings import check_available
from bitcert.studies import Size, Study, StudyResult, find_studies, run_study
from bitcert.studies.running import RESULT_FILE, check_study, is_there, read_result, state_of

REPORT = "report.html"


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """The options of the verb."""

    name: Annotated[str | None, Argument(help="A study, or a paper for all of its studies; a list without.")] = None
    quick: Annotated[bool, Option("--quick", help="The smallest size, two minutes at most.")] = False
    full: Annotated[bool, Option("--full", help="As the paper did it, whatever it takes.")] = False
    data_dir: Annotated[Path | None, Option(help="Folder that holds the data sets; by default BITCERT_DATA.")] = None
    resume: Annotated[bool, Option("--resume", help="Keep finished studies; unfinished ones always go on.")] = False
    report: Annotated[bool, Option("--report", help="Write one page of all that has been run; runs nothing.")] = False
    seed: Annotated[int, Option(help="Seed of the named random streams.")] = 0
    device: Annotated[Device, Option(help="Where to train.")] = Device.cpu
    download: Annotated[bool, Option(help="Download built-in data that are not found.")] = False
    out: Annotated[Path, Option(help="Folder of all studies, one folder each.")] = Path("studies")
    json_output: Annotated[bool, Option("--json", help="Print JSON only.")] = False

    @property
    def size(self) -> Size:
        """How much is carried out."""
        refuse_both(self.quick and self.full, "--quick", "--full")
        return Size.QUICK if self.quick else Size.FULL if self.full else Size.DEFAULT


def run_studies(options: StudyOptions) -> None:
    """Every table and figure of the papers, the paper's number beside ours; without a name, a list of them."""
    chosen, size = find_studies(options.name), options.size
    if options.data_dir is not None:
        if not options.data_dir.is_dir():
            raise InputError("a folder for --data-dir", str(options.data_dir), "name one that is there")
        os.environ["BITCERT_DATA"] = str(options.data_dir)
    if options.report:
        _write_report(chosen, options)
    elif options.name is None:
        _list(chosen, options)
    else:
        _check(chosen, size, options)
        results = [_one(study, size, options) for study in chosen]
        if options.json_output:
            texts = [result.to_json().rstrip() for result in results]
            print(texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]")


def _check(chosen: Sequence[Study], size: Size, options: StudyOptions) -> None:
    """Refuse before any work whatever one of the studies would be refused for."""
    check_seed(options.seed)
    check_available(options.device.value)
    for study in chosen:
        folder = options.out / study.name
        check_output_folder(folder, STUDY_FILES)
        if (folder / RESULT_FILE).exists():
            read_result(study, folder)
        check_study(study, size, options.out, options.download)


def _one(study: Study, size: Size, options: StudyOptions) -> StudyResult:
    folder, state = options.out / study.name, state_of(study, options.out)
    result = state.result if options.resume else None
    if result is None or (result.size, result.seed) != (size.value, options.seed):
        cost = study.cost(size)
        note(
            f"Plan: {study.name} ({size.value}), about {cost.seconds:,.0f} s on two cores, {cost.memory:,} MiB of "
            f"memory, {cost.disk:,} MiB of disk."
        )
        with progress_bar() as progress, intermediate_folder(folder, "pieces") as pieces:
            run = Run(options.seed, device=options.device.value, progress=progress)
            result = run_study(study, size, options.out, run, pieces=pieces)
            progress("drawing", 0.0)
            write_output(folder, study_files(result), STUDY_FILES)
    if not options.json_output:
        console = Console(highlight=False)
        console.print(study_summary(result))
        console.print(f"Results: {folder / REPORT}, {folder / 'table.md'}", markup=False)
    return result


def _list(chosen: Sequence[Study], options: StudyOptions) -> None:
    states = [state_of(study, options.out) for study in chosen]
    if options.json_output:
        entries = [
            {
                "name": study.name,
                "title": study.title,
                "printed": study.printed,
                "needs": list(study.needs),
                "seconds": {size.value: study.cost(size).seconds for size in Size},
                "state": state.word,
                "size": None if state.result is None else state.result.size,
            }
            for study, state in zip(chosen, states, strict=True)
        ]
        print(json.dumps(entries, indent=1))
        return
    print(f"{'study':26}{'state':16}" + "".join(f"{size.value:>12}" for size in Size))
    for study, state in zip(chosen, states, strict=True):
        word = state.word if state.result is None else f"done ({state.result.size})"
        data = ", ".join(name if is_there(name) else f"{name} (missing)" for name in study.needs) or "none"
        print(f"{study.name:26}{word:16}" + "".join(f"{duration(study.cost(size).seconds):>12}" for size in Size))
        print(textwrap.fill(f"{study.title}. Data: {data}.", 78, initial_indent="  ", subsequent_indent="  "))


def _write_report(chosen: Sequence[Study], options: StudyOptions) -> None:
    results = []
    for study in chosen:
        state = state_of(study, options.out)
        if state.why:
            note(f"Left out: {state.why}")
        if state.result is not None:
            results.append(state.result)
    if not results:
        got, do = f"none in {options.out}", "run some first: bitcert study NAME"
        raise InputError("results of studies for --report", got, do)
    path = options.out / REPORT
    with replacing(path) as partial:
        partial.write_text(render_studies(results), encoding="utf-8")
    print(f"Page of {len(results)} of {len(chosen)} studies: {path}")
