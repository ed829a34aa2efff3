"""Run every shell command a Markdown file prints, in order, in a scratch copy: documentation is a test.

Blocks fenced as ``console`` hold commands on lines beginning with ``$``; all other lines are output and not compared,
except that a line ``... exit N`` after a command states its exit code. Blocks fenced as ``python`` are run too.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[tuple[list[str], int]]:
    """Every command (as an argument list) with the exit code it states."""
    found: list[tuple[list[str], int]] = []
    for language, body in BLOCK.findall(text):
        if language == "python":
            found.append(([sys.executable, "-c", body], 0))
            continue
        for line in body.splitlines():
            if line.startswith("$ "):
                found.append((["bash", "-euc", line[2:]], 0))
            elif line.startswith("... exit "):
                found[-1] = (found[-1][0], int(line.split()[-1]))
    return found


def main(path: Path) -> None:
    """Run them all; stop at the first whose exit code differs."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "bitcert")
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".git", "out*", ".hypothesis", ".venv"))
        venv = Path(sys.executable).parent
        environment = {**os.environ, "PATH": f"{venv}:{os.environ['PATH']}"}
        for command, code in commands(path.read_text()):
            if command[-1].startswith(("make ", "git clone")):
                continue  # these are what CI itself does
            print("+", command[-1], flush=True)
            result = subprocess.run(command, cwd=folder, env=environment, check=False)
            if result.returncode != code:
                sys.exit(f"exit code {result.returncode}, expected {code}: {command[-1]}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
