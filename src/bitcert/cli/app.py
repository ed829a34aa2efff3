"""The ``bitcert`` program: its verbs, and how failures are told (one sentence, exit code 2).

A verb is loaded when it is called, so that help and version need neither torch nor what draws.
"""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer

from bitcert import __version__
from bitcert.errors import BitcertError

# Newer typers carry click inside, so its base class of wrong usage is found rather than imported.
_UsageError = typer.BadParameter.__mro__[2]
_NO_MEMORY = "expected enough memory, ran out of it; see `bitcert check`, or give fewer samples"
INTERRUPTED = 130

VERBS = {
    "certify": (
        "certify_network",
        "Compress a network and certify how often it, or the original one, will be wrong on new data.",
    ),
    "verify": (
        "verify_certificate",
        "Check a certificate: exit 0 valid, 1 invalid (says which line fails), 2 cannot be checked (says why).",
    ),
    "predict": ("predict_classes", "Use a certified classifier on new data: a class for each example."),
    "export": (
        "export_classifier",
        "Write a certified classifier in another format, its certificate in the file.",
    ),
    "counts": (
        "print_bound",
        "The bound alone, from your own numbers: errors, examples, bits of the message, delta.",
    ),
    "helper": (
        "print_commitment",
        "Print the hash that commits to a helper; publish it before the data are opened. No label is read.",
    ),
    "check": ("check", "Say what of a network is understood, plan memory and time, and what could be certified of it."),
    "plan": (
        "plan_counting",
        "Plan time and memory of counting on more data and workers than are at hand, from a measured cost.",
    ),
    "measure": ("measure_network", "Measure why a network can be compressed: its noise stability on a sample."),
    "compress": ("compress_network", "Compress a network into a message, and say what the codec's paper predicted."),
    "compare": (
        "compare_codecs",
        "Compare all codecs on a network: bits, errors, deviations, bounds, theory beside practice.",
    ),
    "randomise": (
        "randomise_network",
        "Certify a classifier that draws its weights anew for every answer (PAC-Bayes); not the network itself.",
    ),
    "bounds": (
        "compute_bounds",
        "Every bound of the papers on one network, side by side: what is proved, what is only measured.",
    ),
    "survey": (
        "survey_networks",
        "Measure all networks of a folder, and say which measure orders them by their generalization gap.",
    ),
    "study": (
        "run_studies",
        "Every table and figure of the papers, the paper's number beside ours; without a name, a list of them.",
    ),
}
"""Of each verb its function in the module of its name, and the first line of that function's docstring."""


def _tell_version(wanted: bool) -> None:
    if wanted:
        print(f"bitcert {__version__}")
        raise typer.Exit


def _program(arguments: Sequence[str]) -> typer.Typer:
    """The program with the verb that is called in full and the others by name."""
    app = typer.Typer(
        name="bitcert",
        help="Compress a trained classifier and certify, from its training data alone, how often it will be wrong.",
        add_completion=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def options(
        version: Annotated[
            bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Show the version and exit.")
        ] = False,
    ) -> None: ...

    typed = _typed_so_far() or arguments
    called = next((argument for argument in typed if not argument.startswith("-")), None)
    for name, (function, summary) in VERBS.items():
        if name != called:
            app.command(name, help=summary)(_not_loaded)
            continue
        as_command = importlib.import_module("bitcert.cli.options").as_command
        app.command(name)(as_command(getattr(importlib.import_module(f"bitcert.cli.{name}"), function)))
    return app


def _typed_so_far() -> list[str]:
    """What stands on the line that a shell wants to be completed; empty in a call proper."""
    if "_BITCERT_COMPLETE" not in os.environ:
        return []
    return (os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS", "")).split()[1:]


@contextmanager
def _ended_by_term() -> Iterator[None]:
    """SIGTERM, which queues and containers send, ends the program as Ctrl-C does: what is finished is kept."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _not_loaded() -> None:
    raise AssertionError("only the verb that is called is loaded")


def main(arguments: list[str] | None = None) -> None:
    """Run the program; never shows a traceback for a failure a user can meet."""
    for stream in (sys.stdout, sys.stderr):
        # A name in a file that the terminal cannot show must not end the program.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    arguments = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        with _ended_by_term():
            code = _program(arguments)(args=arguments, prog_name="bitcert", standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except _UsageError as error:
        sys.exit(_tell(error.format_message().replace("Value error, ", "") + " (see bitcert --help)"))
    except BitcertError as error:
        if {"-v", "--verbose"} & set(arguments):
            traceback.print_exc()
        sys.exit(_tell(str(error), error.exit_code))
    except MemoryError:
        sys.exit(_tell(_NO_MEMORY))
    except OSError as error:
        where = f" at {error.filename}" if error.filename else ""
        sys.exit(_tell(f"expected to read and write files, got {error.strerror or error}{where}; check the disk"))
    except RuntimeError as error:
        from bitcert.network.memory import is_out_of_memory  # loads torch, which is there if it raised this

        if not is_out_of_memory(error):
            raise
        sys.exit(_tell(_NO_MEMORY))
    if code == INTERRUPTED:
        _tell("interrupted; run the same command again to go on from what is finished")
    sys.exit(code or 0)


def _tell(sentence: str, code: int = 2) -> int:
    """Say why on one line of stderr; the exit code is returned."""
    print(f"bitcert: {' '.join(sentence.split())}", file=sys.stderr)
    return code
