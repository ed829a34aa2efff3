"""``python -m bitcert`` is ``bitcert``."""

from bitcert.cli import main

main()
