"""The command line: one file a verb. Displays and parses; every number comes from the library."""

from bitcert.cli.app import main

__all__ = ["main"]
