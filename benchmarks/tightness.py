"""The tightest certificates: ``python benchmarks/tightness.py [NAME ...] [--json] [--records FOLDER]``.

Each row runs the public program (``bitcert certify``, within the effort's time), verifies its files in a fresh process
and prints one JSON object a line: the certificate in words, the bound and the numbers to reach and to beat (in %), the
counts it rests on, seconds, seed, versions and the command. ``--json`` appends them to docs/results-tightness.jsonl,
``--records records`` keeps message and certificate of each row in ``records/NAME``.

    python benchmarks/tightness.py --verify      # all kept certificates, from their files and the data
    python benchmarks/tightness.py --markdown    # the tables of docs/tightness.md from the lines that are kept

Data and checkpoints are found through BITCERT_DATA; rows whose data are missing say so. A helper network too large for
the repository is looked for in ``$BITCERT_DATA/records/NAME/helper.safetensors``; its hash is in the certificate.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS, ABLATIONS = ROOT / "docs" / "results-tightness.jsonl", ROOT / "docs" / "results-ablations.jsonl"
RECORDS = ROOT / "records"
HELPER = "helper.safetensors"
PEERS_BOUND, PEERS_SECONDS = 0.116, 20.0
"""MNIST: the best published bound of a deterministic network, and within how many seconds it is to be reached."""

LENET = ("lenet:lenet5", "lenet_mnist/lenet5_original.pt")
RESNET = ("published:cifar_resnet20", "")
"""Factory and checkpoint; without one the factory reads the published file itself, whose tensors have other names."""
CIFAR = ("--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225")

ABLATION_KEYS = ("idea", "data", "bits", "errors", "bound", "seconds")
COLUMNS = {
    "certificate": "certificate",
    "bound, %": "value",
    "self-contained, %": "self_contained",
    "to reach": "target",
    "best published": "published",
    "errors": "errors",
    "samples": "samples",
    "bits": "message_bits",
    "errors a bit is worth": "errors_a_bit_is_worth",
    "hold-out on the rest, %": "holdout_on_the_rest",
    "seconds": "seconds",
}


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Args:
        certificate: in words.
        data: name of the data set.
        target: the bound to reach, in %, or ``None`` where what is reached is reported.
        published: the best published number, in words.
        effort: of the search.
        original: factory and checkpoint of a network that is certified itself.
        transfer: factory of a public helper network.
        options: further ones of ``bitcert certify``.
    """

    certificate: str
    data: str
    target: float | None
    published: str
    effort: str = "thorough"
    original: tuple[str, str] | None = None
    transfer: str | None = None
    options: tuple[str, ...] = ()

    def network_arguments(self) -> list[str]:
        """Factory and weights of the original network."""
        if self.original is None:
            return []
        spec, file = self.original
        return [spec, *(["--weights", str(data_folder() / "pretrained" / file)] if file else [])]

    def certify_arguments(self, seed: int, budget: float | None) -> list[str]:
        """Of ``bitcert certify``, but for ``--out``."""
        arguments = [*self.network_arguments(), "--data", self.data]
        arguments += ["--effort", self.effort, *([] if budget is None else ["--budget", f"{budget:g}"])]
        return [*arguments, *self.options, "--seed", str(seed), "--json"]

    def verify_arguments(self) -> list[str]:
        """Of ``bitcert verify``, after the file."""
        arguments = self.network_arguments()
        return ["--original", *arguments] if arguments else []


HALF = ("--prior-split", "0.5")
ROWS = {
    "mnist": Row("MNIST, data-free helper, deterministic", "mnist", 5.0, "11.6"),
    "fashion-mnist": Row("Fashion-MNIST, data-free", "fashion-mnist", 20.0, "32.8"),
    "cifar10": Row("CIFAR-10, data-free", "cifar10", 53.0, "55.97"),
    "digits": Row("digits (m = 1,797), data-free, quick", "digits", 30.0, "none", "quick"),
    "mnist-prior": Row("MNIST, helper from a declared half", "mnist", 1.6, "1.5 to 1.7", options=HALF),
    "lenet5-original": Row(
        "original LeNet-5, no prior", "mnist", 7.0, "none", original=LENET, options=("--unlabelled", "mnist")
    ),
    "lenet5-original-prior": Row(
        "original LeNet-5, half as prior",
        "mnist",
        3.0,
        "3.45",
        original=LENET,
        options=("--unlabelled", "mnist", *HALF),
    ),
    "resnet20-original": Row(
        "original ResNet-20, no prior",
        "cifar10",
        None,
        "none",
        original=RESNET,
        options=("--unlabelled", "cifar10", *CIFAR),
    ),
    "resnet20-original-prior": Row(
        "original ResNet-20, half as prior",
        "cifar10",
        None,
        "35.1",
        original=RESNET,
        options=("--unlabelled", "cifar10", *CIFAR, *HALF),
    ),
    "fashion-transfer": Row(
        "Fashion-MNIST, helper network of CIFAR-10", "fashion-mnist", 20.0, "28.2", transfer="transfer:grey_resnet20"
    ),
}
SPECIAL = ("mnist-20s", "ablations")


def data_folder() -> Path:
    """Where data and checkpoints lie: ``BITCERT_DATA``."""
    return Path(os.environ.get("BITCERT_DATA", "."))


def published_helper(row: Row, folder: Path) -> Path:
    """The public helper network's weights, by the names that its factory gives them, as a file in ``folder``."""
    from safetensors.torch import save_file

    assert row.transfer is not None
    path = folder / f"{row.transfer.partition(':')[2]}.safetensors"
    save_file({name: value.contiguous() for name, value in factory(row.transfer).state_dict().items()}, path)
    return path


def factory(spec: str):  # type: ignore[no-untyped-def]
    """The module that a factory of the examples makes."""
    module, _, name = spec.partition(":")
    if str(ROOT / "examples") not in sys.path:
        sys.path.insert(0, str(ROOT / "examples"))
    return getattr(importlib.import_module(module), name)()


def missing_data(row: Row) -> str:
    """Which checkpoints a row misses here; empty if none. Of missing data the program tells itself."""
    if (row.original or row.transfer) and not (data_folder() / "pretrained").exists():
        return "checkpoints not found: set BITCERT_DATA"
    return ""


def bitcert(arguments: list[str]) -> tuple[subprocess.CompletedProcess[str], float, float]:
    """Outcome, seconds and peak memory in GiB of one run of the program, in a fresh process."""
    code = (
        "import resource,sys;from bitcert.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,file=sys.stderr)"
    )
    # The factories of networks lie in these two folders.
    paths = [str(ROOT / "examples"), str(ROOT / "benchmarks"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    start = time.monotonic()
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    return done, time.monotonic() - start, float((done.stderr.split() or ["0"])[-1]) / 2**20


def _command(arguments: list[str]) -> str:
    """The command as anybody can give it: without the folders of this machine."""
    text = " ".join(["bitcert", *arguments])
    return text.replace(str(data_folder()) + os.sep, "$BITCERT_DATA/").replace(str(ROOT) + os.sep, "")


def _why(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
    return next((line for line in lines if "expected" in line), lines[0] if lines else f"exit code {done.returncode}")


def _facts(certificate: dict[str, Any]) -> dict[str, object]:
    """What of a certificate stands in the table."""
    keys = ("errors", "samples", "message_bits", "delta", "description", "versions")
    facts = {key: certificate[key] for key in keys}
    facts["errors_a_bit_is_worth"] = _errors_a_bit_is_worth(certificate)
    rest, original = certificate["rest"], certificate["original"]
    if isinstance(rest, dict):
        facts["holdout_on_the_rest"] = percent(rest["bound"])
        facts["errors_of_prior_network_on_the_rest"] = rest["errors"]
    if isinstance(original, dict):
        unlabelled = original["unlabelled"]
        facts |= {"unlabelled": unlabelled["samples"], "disagreements": original["disagreements"]}
        facts["bound_of_the_surrogate"] = percent(certificate["bounds"]["binomial"])
    return facts


def _errors_a_bit_is_worth(certificate: dict[str, Any]) -> float | None:
    """What the next bit costs: by how many errors fewer it must be paid for; ``None`` where the bound says nothing.

    From ``m kl(q || p) = bits ln 2 + ln(1/delta)``: at a constant bound ``p``, ``-dE / dbits`` at ``q = E / m``.
    """
    q, p = certificate["errors"] / certificate["samples"], certificate["bounds"]["binomial"]
    return round(math.log(2) / math.log(p * (1 - q) / (q * (1 - p))), 3) if 0 < q < p < 1 else None


def certificate_line(name: str, seed: int, budget: float | None, records: Path | None) -> dict[str, object]:
    """Certify, verify in a fresh process, and say what was reached."""
    row = ROWS[name]
    line: dict[str, object] = {"name": name, "certificate": row.certificate, "value": None}
    line |= {"target": row.target, "published": row.published}
    if why := missing_data(row):
        return line | {"why": why}
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary, name) if records is None else records / name
        # A search that goes on from an earlier one would hide the seconds of that one.
        shutil.rmtree(out.with_name(f".{name}.search"), ignore_errors=True)
        arguments = row.certify_arguments(seed, budget)
        if row.transfer is not None:
            helper = published_helper(row, Path(temporary))
            arguments = [row.transfer, "--helper", str(helper), *arguments]
        done, seconds, peak = bitcert(["certify", *arguments, "--out", str(out)])
        told = [part.replace(temporary + os.sep, "") for part in arguments]
        line["command"] = _command(["certify", *told, "--out", f"records/{name}"])
        if done.returncode:
            return line | {"seconds": round(seconds, 1), "why": _why(done)}
        content = json.loads((out / "certificate.json").read_text())
        checked, verify_seconds, _ = bitcert(["verify", str(out / "certificate.json"), *row.verify_arguments()])
    line |= {"value": percent(content["bound"]), "seconds": round(seconds, 1), "seed": seed}
    line |= {"verified": checked.returncode == 0, "verify_seconds": round(verify_seconds, 1)}
    return line | {"peak_gib": round(peak, 2), "cores": os.cpu_count(), **_facts(content)}


def twenty_seconds_line(seed: int) -> dict[str, object]:
    """The seconds, after the data are loaded, until there is a certificate at most as large as the peers' bound."""
    from bitcert import Role, Run, load_sample
    from bitcert.errors import InputError
    from bitcert.search import Board
    from bitcert.search.compression import certify_best
    from bitcert.search.request import CertifyRequest

    line: dict[str, object] = {"name": "mnist-20s", "certificate": "MNIST, the peers' bound in 20 s", "value": None}
    line |= {"target": round(100 * PEERS_BOUND, 1), "published": "11.6 after 1,540 to 14,034 s on a GPU"}
    try:
        sample = load_sample("mnist", Role.TRAIN)
    except InputError as error:
        return line | {"why": str(error)}
    start = time.monotonic()
    reached: list[float] = []

    def watch(board: Board) -> None:
        if board.best is not None and (board.best.bound or 1.0) <= PEERS_BOUND and not reached:
            reached.append(time.monotonic() - start)

    # The check of the message and the count for the certificate come on top of the search.
    run = Run(seed=seed, budget_seconds=0.5 * PEERS_SECONDS)
    content = certify_best(CertifyRequest(sample, families=("head",)), run, watch=watch).certificate
    seconds = time.monotonic() - start
    line |= {"value": percent(content.bound), "seconds": round(seconds, 1), "target_seconds": PEERS_SECONDS}
    line |= {"reached_after": round(reached[0], 1) if reached else None, "seed": seed, "cores": os.cpu_count()}
    return line | _facts(json.loads(content.to_json()))


def read_lines(path: Path) -> list[dict[str, object]]:
    """The JSON lines of a file; none if it is not there."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def verify_record(folder: Path) -> dict[str, object]:
    """Check one kept certificate as a stranger would, in a fresh process."""
    row = ROWS.get(folder.name)
    told = [] if row is None else row.verify_arguments()
    content = json.loads((folder / "certificate.json").read_text())
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(shutil.copytree(folder, Path(temporary, folder.name)))
        if "weights" in content["helper"] and not (place / HELPER).exists():
            _bring_helper(row, place)
        done, seconds, _ = bitcert(["verify", str(place / "certificate.json"), *told, "--json"])
        try:
            outcome = json.loads(done.stdout)
        except ValueError:
            outcome = {"status": "cannot_check", "reason": _why(done)}
        reason = outcome["reason"].replace(temporary + os.sep, "")
    return {
        "name": folder.name,
        "status": outcome["status"],
        "bound": percent(content["bound"]),
        "seconds": round(seconds, 1),
        "reason": reason,
        "command": _command(["verify", f"records/{folder.name}/certificate.json", *told]),
    }


def _bring_helper(row: Row | None, place: Path) -> None:
    """Put a helper network that is not in the repository beside the certificate: kept elsewhere, or made again."""
    kept = data_folder() / "records" / place.name / HELPER
    if kept.exists():
        shutil.copy(kept, place / HELPER)
    elif row is not None and row.transfer is not None and not missing_data(row):
        import torch

        from bitcert import HelperWeights, capture

        data = json.loads((place / "certificate.json").read_text())["data"]
        network = capture(factory(row.transfer), torch.zeros(2, *data["input_shape"]))
        (place / HELPER).write_bytes(HelperWeights.of(network.architecture, network.parameters).to_bytes())


def markdown() -> str:
    """The tables of docs/tightness.md: of every row its kept certificate, and how it was found."""
    kept = {str(line["name"]): line for line in read_lines(RESULTS)}
    known = {
        name: {"certificate": r.certificate, "target": r.target, "published": r.published} for name, r in ROWS.items()
    }
    known["mnist-20s"] = {"certificate": "MNIST, the peers' bound in 20 s"}
    text = table([line | kept.get(name, {}) | _issued(name) for name, line in known.items()], COLUMNS)
    ablations = read_lines(ABLATIONS)
    for by_command in (True, False):
        chosen = [line for line in ablations if ("command" in line) == by_command]
        text += ["", *table(chosen, {key: key for key in ABLATION_KEYS})]
    return "\n".join(text)


def _issued(name: str) -> dict[str, object]:
    """What the kept certificate of a row says; nothing where none is kept."""
    file = RECORDS / name / "certificate.json"
    if not file.exists():
        return {}
    content = json.loads(file.read_text())
    bounds = {"value": percent(content["bound"]), "self_contained": percent(content["self_contained"])}
    return bounds | _facts(content)


def table(lines: list[dict[str, Any]], columns: dict[str, str]) -> list[str]:
    """A table of the lines; ``columns`` names the key of each heading."""
    rows = [[_cell(line.get(key)) for key in columns.values()] for line in lines]
    return [f"| {' | '.join(cells)} |" for cells in (list(columns), ["---"] * len(columns), *rows)]


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else str(value)


def percent(bound: float) -> float:
    """A bound in %, rounded up."""
    return math.ceil(1e5 * bound) / 1e3


def show(lines: Iterable[dict[str, object]], keep: bool) -> list[dict[str, object]]:
    """Print the lines, each as soon as it is there, and append them to the results if asked."""
    shown = []
    for line in lines:
        shown.append(line)
        print(json.dumps(line), flush=True)
        if keep:
            with RESULTS.open("a") as file:
                file.write(json.dumps(line) + "\n")
    return shown


def main() -> int:
    """Run, verify or format what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = (*ROWS, *SPECIAL)
    parser.add_argument("names", nargs="*", help=f"rows among {', '.join(names)}; all if none is named")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", type=float, help="seconds for each row, instead of its effort's")
    parser.add_argument("--json", action="store_true", help=f"append the lines to docs/{RESULTS.name}")
    parser.add_argument("--records", type=Path, help="keep the files of each row in a folder of this one")
    parser.add_argument("--verify", action="store_true", help="verify the certificates kept in records/")
    parser.add_argument("--markdown", action="store_true", help="print the tables of the results that are kept")
    options = parser.parse_args()
    if options.markdown:
        print(markdown())
        return 0
    known = sorted(file.parent.name for file in RECORDS.glob("*/certificate.json")) if options.verify else list(names)
    if unknown := set(options.names) - set(known):
        parser.error(f"unknown rows: {', '.join(sorted(unknown))}; choose among {', '.join(sorted(known))}")
    chosen = options.names or known
    if options.verify:
        outcomes = show((verify_record(RECORDS / name) for name in chosen), False)
        codes = {"valid": 0, "invalid": 1, "cannot_check": 2}
        return max((codes[str(line["status"])] for line in outcomes), default=0)
    for name in chosen:
        if name == "ablations":
            show(read_lines(ABLATIONS), False)
        elif name == "mnist-20s":
            show([twenty_seconds_line(options.seed)], options.json)
        else:
            show([certificate_line(name, options.seed, options.budget, options.records)], options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
