"""What verifying a certificate loads: nothing that only searches, measures or other data need."""

import subprocess
import sys

UNNEEDED = ("bitcert.codecs", "bitcert.stability", "pandas", "scipy", "sklearn")
PROGRAM = f"""
import sys
import bitcert.cli.options, bitcert.cli.verify
from bitcert.data import Role, load_sample
assert len(load_sample("digits", Role.TRAIN)) == 1797
print(*(name for name in {UNNEEDED} if name in sys.modules))
"""


def test_verify_loads_neither_codecs_nor_scipy() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert not done.stdout.split()
