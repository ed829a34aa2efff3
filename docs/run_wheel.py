"""Build the wheel and the sdist, install the wheel in a fresh environment, and use it outside the repository.

What a stranger has after ``pip install bitcert``: no repository beside it, no development packages. The commands are
all those of the README, after its command that copies the examples, and a few more. The files stay in ``DIST`` of
``python docs/run_wheel.py [DIST]`` (``dist``).
"""

import os
import re
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

from run_readme import commands

ROOT = Path(__file__).resolve().parent.parent
COPY = re.compile(r"`(cp -r [^`]*share/bitcert[^`]*)`")
FURTHER = (
    "bitcert --version",
    "bitcert verify records/digits/certificate.json",
    "bitcert predict out-cnn --data new.npz --out classes.csv",
    "bitcert export out-cnn --to state_dict --out classifier.safetensors",
    "bitcert export out-cnn --to hub --out card",
    "bitcert verify card/certificate.json",
    "bitcert counts --errors 26 --samples 1797 --bits 504",
    "python -m bitcert --help",
)
NEW_DATA = "import numpy as np; np.savez('new.npz', x=np.zeros((3, 1, 8, 8), np.uint8))"


def build(dist: Path) -> Path:
    """The wheel; the sdist lies beside it."""
    with tempfile.TemporaryDirectory() as name:
        venv.create(name, with_pip=True)
        python = Path(name) / "bin" / "python"
        install = [python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", "hatchling"]
        subprocess.run(install, check=True)
        subprocess.run([python, "-m", "hatchling", "build", "-d", dist.resolve()], check=True, cwd=ROOT)
    (wheel,) = sorted(dist.glob("bitcert-*.whl"))
    return wheel


def check_content(wheel: Path) -> None:
    """Say what is in the wheel; refuse one without its licence, its type marker or its description's links."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith(".dist-info/METADATA"))).decode()
    shared = ("share/bitcert/examples/lenet.py", "share/bitcert/records/digits/message.bin")
    for part in ("bitcert/py.typed", "licenses/LICENSE", *shared):
        assert any(name.endswith(part) for name in names), f"no {part} in {wheel}"
    assert "](docs/" not in metadata, "a relative link on the page of the package"
    print(f"{wheel.name}: {len(names)} files, {wheel.stat().st_size:,} bytes")


def main(dist: Path) -> None:
    """Build, install, run."""
    dist.mkdir(parents=True, exist_ok=True)
    for old in dist.glob("bitcert-*"):
        old.unlink()
    wheel = build(dist)
    check_content(wheel)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        venv.create(folder / "env", with_pip=True)
        programs = folder / "env" / "bin"
        install = [programs / "python", "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt"]
        subprocess.run([*install, wheel], check=True)
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "BITCERT"))}
        environment = {**kept, "PATH": f"{programs}:{kept['PATH']}", "BITCERT_STATE": str(folder / "state")}
        work = folder / "work"
        work.mkdir()
        subprocess.run([programs / "python", "-c", NEW_DATA], check=True, cwd=work, env=environment)
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        printed = [command.arguments for command in commands(readme) if not command.arguments[-1].startswith("make ")]
        further = [["bash", "-euc", command] for command in (*COPY.findall(readme), *FURTHER)]
        for arguments in (further[0], *printed, *further[1:]):
            print("+", arguments[-1], flush=True)
            program = programs / "python" if arguments[0] == sys.executable else arguments[0]
            subprocess.run([program, *arguments[1:]], check=True, cwd=work, env=environment)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "dist"))
