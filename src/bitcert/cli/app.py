"""The ``bitcert`` program: its verbs, and how failures are told (one sentence, exit code 2)."""

from __future__ import annotations

import sys

import click
import typer
from rich.console import Console

from bitcert.cli.certify import certify_command
from bitcert.cli.check import check_command
from bitcert.cli.verify import verify_command
from bitcert.errors import BitcertError

app = typer.Typer(
    name="bitcert",
    help="Compress a trained classifier and certify, from its training data alone, how often it will be wrong.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("certify")(certify_command)
app.command("verify")(verify_command)
app.command("check")(check_command)


def main(arguments: list[str] | None = None) -> None:
    """Run the program; never shows a traceback for a failure a user can meet."""
    errors = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    try:
        app(args=arguments, standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        errors.print("bitcert: interrupted; run the same command again to go on from the last checkpoint")
        sys.exit(130)
    except BitcertError as error:
        errors.print(f"bitcert: {error}")
        sys.exit(error.exit_code)
    except MemoryError:
        errors.print("bitcert: expected enough memory, ran out of it; see `bitcert check`, or give fewer samples")
        sys.exit(2)
    except OSError as error:
        where = f" at {error.filename}" if error.filename else ""
        errors.print(f"bitcert: expected to read and write files, got {error.strerror or error}{where}; check the disk")
        sys.exit(2)
