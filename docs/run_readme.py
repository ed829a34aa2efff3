"""Run every command that Markdown files print, in order, in one scratch copy: documentation is a test.

A command that an earlier file has printed too is not run again: each page may repeat what it builds on. Blocks fenced
as ``console`` hold commands on lines beginning with ``$``; other lines are output and are not compared, except that a
line ``... exit N`` states the exit code of the command before. Blocks fenced as ``python`` are run too.
``make`` commands are left out: running them from a clean clone is what CI itself does. The processor time of every
command is printed: together they should take minutes. So what pages in ``docs/`` do with bitcert runs in
forks of one process that has loaded the program; those of other files start it anew, as a reader does.
"""

import importlib
import os
import re
import resource
import runpy
import shlex
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```", re.DOTALL | re.MULTILINE)


FORKED = re.compile(r"(?:cd (?P<folder>[\w./-]+) && )?bitcert (?P<arguments>[^|&;<>$`*]+)")
LOADED = ("torch", "bitcert.search.compression", "bitcert.report", "bitcert.certificates.verification")


@dataclass
class Command:
    """A command line as arguments, and the exit code the text states."""

    arguments: list[str]
    exit_code: int = 0


def commands(text: str) -> list[Command]:
    """Every command of the text, in order."""
    found: list[Command] = []
    for language, body in BLOCK.findall(text):
        if language == "python":
            found.append(Command([sys.executable, "-c", body]))
            continue
        for line in body.splitlines():
            if line.startswith("$ "):
                found.append(Command(["bash", "-euc", line[2:]]))
            elif line.startswith("... exit "):
                found[-1].exit_code = int(line.split()[-1])
    return found


def cpu_seconds() -> float:
    """Processor time of all commands that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run_forked(work: Callable[[], object], folder: Path, environment: dict[str, str]) -> int:
    """Do something in a fork of this process; its exit code."""
    child = os.fork()
    if not child:
        code = 1
        try:
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(environment)
            work()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run(command: Command, folder: Path, environment: dict[str, str], anew: bool) -> None:
    """Run one command, in a new process or a fork; end the program if its exit code is not the stated one."""
    shown = command.arguments[-1]
    if shown.startswith("make "):
        print("-", shown, "(CI does)", flush=True)
        return
    print("+", shown, flush=True)
    before = cpu_seconds()
    forked = FORKED.fullmatch(shown)
    if anew:
        code = subprocess.run(command.arguments, cwd=folder, env=environment, check=False).returncode
    elif command.arguments[0] == sys.executable:
        block = folder / ".block.py"
        block.write_text(shown)
        code = run_forked(lambda: runpy.run_path(str(block), run_name="__main__"), folder, environment)
    elif forked is not None:
        main = importlib.import_module("bitcert.cli").main
        words, place = shlex.split(forked["arguments"]), folder / (forked["folder"] or "")
        code = run_forked(lambda: main(words), place, environment)
    else:
        code = subprocess.run(command.arguments, cwd=folder, env=environment, check=False).returncode
    if code != command.exit_code:
        sys.exit(f"exit code {code}, expected {command.exit_code}: {shown}")
    print(f"= {cpu_seconds() - before:.0f} s", flush=True)


def main(pages: list[Path]) -> None:
    """Run them all; stop at the first whose exit code differs."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "bitcert")
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".git", "out*", "site", ".hypothesis", ".venv"))
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        environment["BITCERT_STATE"] = str(folder / ".state")  # what is looked at here is no look of the user's
        earlier: list[Command] = []
        for page in pages:
            print("#", page, flush=True)
            printed = commands(page.read_text())
            for command in printed:
                if command not in earlier:
                    run(command, folder, environment, page.parent.name != "docs")
            earlier += printed
        print(f"{cpu_seconds():.0f} s of processor time")


if __name__ == "__main__":
    for module in LOADED:
        importlib.import_module(module)
    main([Path(page) for page in sys.argv[1:]])
