"""The ``bitcert`` program: its verbs, and how failures are told (one sentence, exit code 2)."""

from __future__ import annotations

import io
import sys

import typer

from bitcert.cli.bounds import compute_bounds
from bitcert.cli.certify import certify_network
from bitcert.cli.check import check
from bitcert.cli.compare import compare_codecs
from bitcert.cli.compress import compress_network
from bitcert.cli.helper import print_commitment
from bitcert.cli.measure import measure_network
from bitcert.cli.options import as_command
from bitcert.cli.verify import verify_certificate
from bitcert.errors import BitcertError
from bitcert.network.memory import is_out_of_memory

app = typer.Typer(
    name="bitcert",
    help="Compress a trained classifier and certify, from its training data alone, how often it will be wrong.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
# Newer typers carry click inside, so its base class of wrong usage is found rather than imported.
_UsageError = typer.BadParameter.__mro__[2]
_NO_MEMORY = "expected enough memory, ran out of it; see `bitcert check`, or give fewer samples"
INTERRUPTED = 130

VERBS = {
    "certify": certify_network,
    "verify": verify_certificate,
    "helper": print_commitment,
    "check": check,
    "measure": measure_network,
    "compress": compress_network,
    "compare": compare_codecs,
    "bounds": compute_bounds,
}
for name, run in VERBS.items():
    app.command(name)(as_command(run))


def main(arguments: list[str] | None = None) -> None:
    """Run the program; never shows a traceback for a failure a user can meet."""
    for stream in (sys.stdout, sys.stderr):
        # A name in a file that the terminal cannot show must not end the program.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        code = app(args=arguments or ["--help"], standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except _UsageError as error:
        sys.exit(_tell(error.format_message().replace("Value error, ", "") + " (see bitcert --help)"))
    except BitcertError as error:
        sys.exit(_tell(str(error), error.exit_code))
    except MemoryError:
        sys.exit(_tell(_NO_MEMORY))
    except OSError as error:
        where = f" at {error.filename}" if error.filename else ""
        sys.exit(_tell(f"expected to read and write files, got {error.strerror or error}{where}; check the disk"))
    except RuntimeError as error:
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
