"""The kept certificates beside the truth: ``python benchmarks/records.py [NAME ...] [--reissue]``.

Prints one JSON line for each certificate in ``records/``: its bound, the self-contained bound, the bound with the
source code of its features charged as well, and the error on the test images, which no bound knows. All in %.

    python benchmarks/records.py                  # the lines, from the kept files
    python benchmarks/records.py --keep           # the same, appended to docs/results-tightness.jsonl
    python benchmarks/records.py --reissue        # certify the kept messages again, with looks paid, and keep that
    python benchmarks/records.py --markdown       # the table of docs/records.md from the lines that are kept

The features of this program were compared on these data, so a bound that takes them as fixed beforehand is an
illustration. *Features charged* is the bound of someone who believes nothing but Python and torch: the source code that
computes the features (comments and docstrings removed, compressed with LZMA) is charged like bits of the message.
"""

from __future__ import annotations

import argparse
import ast
import json
import lzma
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tightness
import torch

import bitcert
from bitcert import Compressed, Helper, HelperWeights, Preprocessing, Role, capture, load_sample
from bitcert.certificates.certification import Declaration, certify
from bitcert.certificates.looks import LookBook
from bitcert.certificates.original import Original, unlabelled_sample
from bitcert.coding import MessageReader
from bitcert.counting import Classifier
from bitcert.data import PriorSplit, Sample
from bitcert.decoder import decode_message
from bitcert.decoder import head as bank_head
from bitcert.network import Architecture
from bitcert.network.decode import decode_architecture
from bitcert.proof import disagreement_bound, occam_bound

LOOKS = {"lenet5-original": 3, "lenet5-original-prior": 3, "resnet20-original": 3, "resnet20-original-prior": 3}
"""Certificates issued on the same test images so far; which of the last two came first was not kept."""

FEATURE_MODULES = {
    bank_head.FAMILY: ("edges", "banks", "maps"),
}
WAVE_MODULES = ("waves", "front")


@dataclass(frozen=True, eq=False)
class Record:
    """A kept message with everything it needs."""

    name: str
    content: dict[str, Any]
    compressed: Compressed
    split: PriorSplit | None
    full: Sample
    original: Original | None

    @classmethod
    def load(cls, folder: Path) -> Record:
        """From the files of a folder and the data."""
        content = json.loads((folder / "certificate.json").read_text())
        described = content["helper"]
        full = load_sample(content["data"]["name"], Role.TRAIN)
        preprocessing = Preprocessing(described["scale"], tuple(described["mean"]), tuple(described["std"]))
        predictor, weights = _network(folder, described)
        helper = Helper(
            full.input_shape, full.num_classes, preprocessing, predictor, described["classes_inferred"], weights
        )
        message = (folder / "message.bin").read_bytes()
        compressed = Compressed(message, decode_message(message, helper).ledger, helper)
        prior = content["prior"]
        split = None if prior is None else PriorSplit.of(full, prior["fraction"], prior["seed"])
        return cls(folder.name, content, compressed, split, full, _original(folder.name, content))

    @property
    def classifier(self) -> Classifier:
        """What the bound is about."""
        if self.original is not None:
            return self.original.classifier
        return decode_message(self.compressed.message, self.compressed.helper).classifier

    def reissue(self) -> bitcert.Certificate:
        """The certificate of the kept message by today's program, its look at the test images declared."""
        sample = self.full if self.split is None else self.split.rest
        look = LookBook((), LOOKS.get(self.name, 1))
        return certify(
            self.compressed, sample, prior=self.split, original=self.original, declared=Declaration(looks=look)
        )


def _network(folder: Path, described: dict[str, Any]) -> tuple[Architecture | None, HelperWeights | None]:
    """Architecture and weights of the helper; large weights are made again by their factory."""
    if described["architecture"] is None:
        return None, None
    predictor = decode_architecture((folder / "architecture.json").read_text())
    if "weights" not in described:
        return predictor, None
    file = folder / tightness.HELPER
    if file.exists():
        return predictor, HelperWeights.from_bytes(file.read_bytes(), predictor)
    factory = tightness.ROWS[folder.name].transfer
    assert factory is not None
    network = capture(tightness.factory(factory), torch.zeros(2, *predictor.input_shape))
    return predictor, HelperWeights.of(predictor, network.parameters)


def _original(name: str, content: dict[str, Any]) -> Original | None:
    stated = content["original"]
    if stated is None:
        return None
    preprocessing = Preprocessing(stated["scale"], tuple(stated["mean"]), tuple(stated["std"]))
    row = tightness.ROWS[name]
    assert row.original is not None
    module = tightness.factory(row.original[0])
    if row.original[1]:
        state, _ = bitcert.network.read_state_dict(tightness.data_folder() / "pretrained" / row.original[1])
        module.load_state_dict(state)
    unlabelled = unlabelled_sample(load_sample(content["data"]["name"], Role.UNLABELLED, split="test"))
    network = capture(module.eval(), preprocessing(unlabelled.inputs[:2]))
    original = Original.of(network, preprocessing, unlabelled, stated["name"])
    if original.content_hash != stated["hash"]:
        raise SystemExit(f"{name}: not the original network of the kept certificate")
    return original


def feature_code_bits(record: Record) -> int | None:
    """Bits of the source code that computes the features; ``None`` where a network computes them."""
    family = MessageReader(record.compressed.message).family
    if family not in FEATURE_MODULES:
        return None
    modules = FEATURE_MODULES[family]
    head = decode_message(record.compressed.message, record.compressed.helper).classifier
    if isinstance(head, bank_head.BankHead) and head.bank is not None:
        waves = any("wave" in part.kind or part.kind == "mixtures" for part in head.bank.parts)
        modules = (*modules, *(WAVE_MODULES if waves else ()))
    folder = Path(bank_head.__file__).parent / "features"
    text = "\n".join(_bare((folder / f"{name}.py").read_text()) for name in modules)
    return 8 * len(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))


def _bare(source: str) -> str:
    """Source code without comments and docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def error_rate(classifier: Classifier, sample: Sample) -> float:
    """Share of wrong labels in float32, without the care that a claim takes."""
    wrong = 0
    for inputs, labels in sample.batches(500):
        wrong += int((classifier(inputs).argmax(1).numpy() != labels).sum())
    return wrong / len(sample)


def line_of(record: Record) -> dict[str, object]:
    """What the table of docs/records.md says of a record."""
    content, bits = record.content, feature_code_bits(record)
    first, original = content["delta_ledger"][0][1], content["original"]
    charged = None
    if bits is not None:
        extra = bits + sum(size for _, size in content["helper_sections"])
        counts = content["errors"], content["samples"], content["message_bits"] + extra
        charged = occam_bound(*counts, first).binomial
        if original is not None:
            agreed = original["disagreements"], original["unlabelled"]["samples"], content["delta_ledger"][1][1]
            charged = disagreement_bound(charged, *agreed)
    test = load_sample(content["data"]["name"], Role.HOLDOUT, split="test") if record.full.name != "digits" else None
    return {
        "name": f"record {record.name}",
        "certificate": tightness.ROWS[record.name].certificate,
        "bound": tightness.percent(content["bound"]),
        "self_contained": tightness.percent(content["self_contained"]),
        "features_charged": None if charged is None else tightness.percent(charged),
        "feature_code_bits": bits,
        "test_error": None if test is None else round(100 * error_rate(record.classifier, test), 2),
        "training_errors": round(100 * content["errors"] / content["samples"], 2),
        "message_bits": content["message_bits"],
        "look": None if original is None else original["look"],
        "published": tightness.ROWS[record.name].published,
        "command": f"python benchmarks/records.py {record.name}",
    }


COLUMNS = {
    "certificate": "certificate",
    "bound": "bound",
    "self-contained": "self_contained",
    "features charged": "features_charged",
    "test error": "test_error",
    "training errors": "training_errors",
    "message, bits": "message_bits",
    "published": "published",
}


def markdown() -> str:
    """The table of docs/records.md, in %."""
    kept = {str(line["name"]): line for line in tightness.read_lines(tightness.RESULTS)}
    rows = [kept[f"record {name}"] for name in tightness.ROWS if f"record {name}" in kept]
    return "\n".join(tightness.table(rows, COLUMNS))


def lines(names: list[str], reissue: bool) -> Iterator[dict[str, object]]:
    """The lines of the named records, issued again first if asked."""
    for name in names:
        folder = tightness.RECORDS / name
        record = Record.load(folder)
        if reissue:
            (folder / "certificate.json").write_text(record.reissue().to_json())
            record = Record.load(folder)
        yield line_of(record)


def main() -> int:
    """Print the lines, or the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = sorted(file.parent.name for file in tightness.RECORDS.glob("*/certificate.json"))
    parser.add_argument("names", nargs="*", help=f"records among {', '.join(known)}; all if none is named")
    parser.add_argument("--reissue", action="store_true", help="certify the kept messages again")
    parser.add_argument("--keep", action="store_true", help=f"append the lines to docs/{tightness.RESULTS.name}")
    parser.add_argument("--markdown", action="store_true", help="print the table of the lines that are kept")
    options = parser.parse_args()
    if unknown := set(options.names) - set(known):
        parser.error(f"unknown records: {', '.join(sorted(unknown))}; choose among {', '.join(known)}")
    if options.markdown:
        print(markdown())
        return 0
    tightness.show(lines(options.names or known, options.reissue), options.keep)
    return 0


if __name__ == "__main__":
    sys.exit(main())
