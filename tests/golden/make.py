"""Writes the golden messages: ``python tests/golden/make.py``.

Each ``NAME.bin`` is a whole message; ``manifest.json`` says what it decodes to, and lists the fixed grids that the
indices in messages refer to. New messages are added; what is there already is only replaced with ``--breaking``: other
bytes for the same weights, or other weights from the same bytes, make every certificate out there unverifiable, which
is a breaking release with a migration note.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bitcert.coding import MAX_MAGNITUDE, Ledger, MessageReader, MessageWriter, step_size
from bitcert.coding.coders import CODERS
from bitcert.coding.steps import MAX_EXPONENT
from bitcert.coding.trees import Comparison, Leaf, Split, Subject
from bitcert.coding.votes import Ramp, Side, Term, Votes
from bitcert.data import Column, Schema, Table
from bitcert.decoder import Helper, HelperWeights, abstaining, decode_message, network_head, trees, votes
from bitcert.decoder import head as bank_head
from bitcert.decoder import network as quantised
from bitcert.decoder import tensors as composed
from bitcert.decoder.features.banks import BANKS, bank_groups
from bitcert.decoder.tensors import Base, ComposedMessage, SubspaceCode, TensorCode
from bitcert.decoder.transforms import NUMBERS, TRANSFORMS, Coefficients, Draws, Target, subspace
from bitcert.decoder.transforms.sketch import Ensembles, matrix_hash
from bitcert.errors import DecodeError
from bitcert.network import Architecture, ParameterSpec, capture

FOLDER = Path(__file__).parent
MANIFEST = FOLDER / "manifest.json"

Integers = NDArray[np.int64]
Json = dict[str, object]

_LISTED = 40
_RAW_FAMILY = 1000
_DIGITS = Helper(input_shape=(1, 8, 8), num_classes=10)
_COLOUR = Helper(input_shape=(3, 12, 12), num_classes=4, classes_inferred=True)
_VECTORS = Helper(input_shape=(6,), num_classes=3, classes_inferred=True)


@dataclass(frozen=True)
class Golden:
    """A message of today's encoder and the reader of what any message of its kind decodes to."""

    encode: Callable[[], tuple[bytes, Ledger]]
    decode: Callable[[bytes], Json]


@dataclass(frozen=True)
class Names:
    """All that the quantised family needs of a network to code it."""

    parameters: tuple[ParameterSpec, ...]


_NETWORK = Names(
    (
        ParameterSpec("stem.weight", (6, 1, 3, 3), "weight"),
        ParameterSpec("stem.bias", (6,), "bias"),
        ParameterSpec("norm.weight", (6,), "scale"),
        ParameterSpec("body.weight", (8, 6, 3, 3), "weight"),
        ParameterSpec("body.bias", (8,), "bias"),
        ParameterSpec("table", (5, 8), "table"),
        ParameterSpec("order", (4,), "buffer"),
        ParameterSpec("head.weight", (10, 32), "weight"),
        ParameterSpec("head.bias", (10,), "bias"),
    )
)


def pattern(num_values: int, purpose: str, zeros: int = 80, size: int = 3) -> Integers:
    """Integers from SHA-256, about ``zeros`` in 100 of them zero, the others up to ``size``; the same for ever."""
    values = []
    for place in range(num_values):
        draw = int.from_bytes(hashlib.sha256(f"{purpose}/{place}".encode()).digest()[:8], "big")
        magnitude = 0 if draw % 100 < zeros else 1 + draw // 200 % size
        values.append(-magnitude if draw // 100 % 2 else magnitude)
    return np.array(values, dtype=np.int64)


def _integers(values: Integers) -> Json:
    """A tensor as the manifest tells it: in full if it is short, by its hash in any case."""
    flat = values.ravel()
    told: Json = {"sha256": hashlib.sha256(flat.astype("<i8").tobytes()).hexdigest(), "shape": list(values.shape)}
    if flat.size <= _LISTED:
        told["values"] = flat.tolist()
    else:
        told["nonzero"] = int(np.count_nonzero(flat))
    return told


def float32_hash(tensors: list[torch.Tensor]) -> str:
    """SHA-256 of tensors as little-endian float32, one after another."""
    digest = hashlib.sha256()
    for tensor in tensors:
        assert tensor.dtype == torch.float32
        digest.update(tensor.contiguous().numpy().astype("<f4").tobytes())
    return digest.hexdigest()


def _expect(same_family: bool) -> None:
    if not same_family:
        raise DecodeError("a message of the same family", "another one", "see make.py")


def _ledger(ledger: Ledger) -> list[list[object]]:
    return [list(section) for section in ledger.sections]


def _bank(index: int | None, helper: Helper, unused: int) -> Golden:
    """A head on a bank of which ``unused`` in 100 rows are zero."""
    bank = None if index is None else BANKS[index]
    shape = (len(bank_groups(bank, helper.input_shape)), helper.num_classes)

    def encode() -> tuple[bytes, Ledger]:
        weights = pattern(shape[0] * shape[1], f"bank {index}", 40).reshape(shape)
        weights[pattern(shape[0], f"bank rows {index}", unused) == 0] = 0
        return bank_head.write(bank, weights, helper)

    def decode(message: bytes) -> Json:
        decoded = decode_message(message, helper)
        head = decoded.classifier
        _expect(isinstance(head, bank_head.BankHead))
        return {
            "ledger": _ledger(decoded.ledger),
            "bank": None if head.bank is None else BANKS.index(head.bank),
            "weights": _integers(head.weights),
            "float32": float32_hash([torch.from_numpy(head.weights).float()]),
        }

    return Golden(encode, decode)


def _quantised(name: str, zeros: int, silent: tuple[int, ...]) -> Golden:
    """A network of every kind of tensor; the filters of the units in ``silent`` are zero, as after pruning."""

    def encode() -> tuple[bytes, Ledger]:
        integers, exponents = {}, {}
        for place, spec in enumerate(_NETWORK.parameters):
            values = pattern(spec.num_entries, f"{name} {spec.name}", zeros, 40).reshape(spec.shape)
            if spec.name.startswith("stem"):
                values[list(silent)] = 0
            if spec.name == "body.weight":
                values[:, list(silent)] = 0
            integers[spec.name], exponents[spec.name] = values, 0 if spec.kind == "buffer" else place - 14
        return quantised.write(_NETWORK, integers, exponents)

    def decode(message: bytes) -> Json:
        reader = MessageReader(message)
        _expect(reader.family == quantised.FAMILY)
        integers, exponents = quantised.read_integers(reader, _NETWORK)
        weights = quantised.dequantise(_NETWORK, integers, exponents)
        return {
            "ledger": _ledger(reader.finish()),
            "exponents": exponents,
            "weights": {name: _integers(values) for name, values in integers.items()},
            "float32": float32_hash([weights[spec.name] for spec in _NETWORK.parameters]),
        }

    return Golden(encode, decode)


def raw_tensors() -> dict[str, tuple[Integers, NDArray[np.intp] | None]]:
    """Tensors that reach every branch of the integer code, with their contexts."""
    return {
        "empty": (np.zeros(0, dtype=np.int64), None),
        "one": (np.array([-1]), None),
        "zeros": (np.zeros(5000, dtype=np.int64), None),
        "large": (np.array([0, MAX_MAGNITUDE, -MAX_MAGNITUDE, 15, -16, 17, 1 << 20]), None),
        "contexts": (pattern(600, "contexts", 70, 4), np.arange(600, dtype=np.intp) // 200),
        "dense": (pattern(2000, "dense", 5, 3000), None),
        "long": (pattern(30_000, "long", 97, 6), None),
    }


def _raw() -> Golden:
    def encode() -> tuple[bytes, Ledger]:
        writer = MessageWriter(_RAW_FAMILY)
        for name, (values, contexts) in raw_tensors().items():
            with writer.section(f"choice before {name}") as bits:
                bits.elias_gamma(len(name))
                bits.elias_delta(1 + len(values))
                bits.signed(-len(name))
            writer.integers(name, values, contexts)
        return writer.finish()

    def decode(message: bytes) -> Json:
        reader = MessageReader(message)
        told: Json = {"family": reader.family}
        for name, (_, contexts) in raw_tensors().items():
            with reader.section(f"choice before {name}") as bits:
                choices = [bits.elias_gamma(), bits.elias_delta(), bits.signed()]
            told[name] = {"choices": choices, "values": _integers(reader.integers(name, choices[1] - 1, contexts))}
        return {"ledger": _ledger(reader.finish()), "float32": None, **told}

    return Golden(encode, decode)


def coder_arrays() -> dict[str, Integers]:
    """Arrays that the entropy coders of family 4 code in each of their ways."""
    rows, columns = pattern(1200, "rows", 92).reshape(20, 60), pattern(1200, "columns", 92).reshape(60, 20)
    rows[::3] = pattern(420, "full rows", 40).reshape(7, 60)
    columns[:, ::3] = pattern(420, "full columns", 40).reshape(60, 7)
    both = pattern(1600, "both", 60).reshape(40, 40)
    both[1::2], both[:, 1::2] = both[1::2] * (both[1::2] > 2), both[:, 1::2] * (both[:, 1::2] > 2)
    silent = pattern(900, "silent", 30).reshape(10, 10, 3, 3)
    silent[[1, 4, 7]], silent[:, [0, 9]] = 0, 0
    levels = np.array([-700, -30, 0, 9, 5000])[pattern(800, "levels", 0, 4) % 5]
    return {"rows": rows, "columns": columns, "both": both, "silent": silent, "levels": levels.reshape(40, 20)}


def _coders() -> Golden:
    def encode() -> tuple[bytes, Ledger]:
        writer = MessageWriter(_RAW_FAMILY)
        for label, integers in coder_arrays().items():
            for number, coder in CODERS.items():
                if coder.fits(integers):
                    with writer.section(f"{label} {number}") as bits:
                        coder.write(bits, integers)
        return writer.finish()

    def decode(message: bytes) -> Json:
        reader = MessageReader(message)
        told: Json = {"family": reader.family}
        for label, integers in coder_arrays().items():
            for number, coder in CODERS.items():
                if coder.fits(integers):
                    with reader.section(f"{label} {number}") as bits:
                        told[f"{label} {number}"] = _integers(coder.read(bits, integers.shape))
        return {"ledger": _ledger(reader.finish()), "float32": None, **told}

    return Golden(encode, decode)


TRANSFORM_CASES: dict[str, tuple[tuple[str, Target, tuple[int, ...]], ...]] = {
    "identity": (("", Target("w", (3, 4), "weight"), ()),),
    "none": (("", Target("w", (3, 4), "weight"), ()),),
    "signs": (
        ("average", Target("w", (5, 30), "weight"), (40, 0)),
        ("least squares", Target("w", (5, 30), "weight"), (40, 1)),
    ),
    "hadamard": (
        ("average", Target("w", (5, 30), "weight"), (40, 0)),
        ("least squares", Target("w", (5, 30), "weight"), (40, 1)),
    ),
    "filter projection": (("", Target("w", (3, 2, 3, 3), "weight", (4, 4)), (12, 3)),),
    "factors": (("", Target("w", (6, 7), "weight"), (2,)),),
    "separator": (("", Target("w", (2, 20), "weight"), ()),),
    "separator projection": (("", Target("w", (2, 20), "weight"), (15,)),),
    "mask": (
        ("signs", Target("w", (6, 7), "weight"), (0,)),
        ("normal", Target("w", (6, 7), "weight"), (1,)),
    ),
    "heavy tail": (("", Target("w", (6, 7), "weight"), (3,)),),
}
"""Every transform with settings that reach its branches; the sketch, whose coefficients must fit, has its own case."""


def _float64_hash(values: NDArray[np.float64]) -> str:
    return hashlib.sha256(np.ascontiguousarray(values, dtype="<f8").tobytes()).hexdigest()


def transforms() -> Json:
    """What every transform makes of fixed coefficients: hashes of float64 arrays."""
    told: Json = {}
    for name, cases in TRANSFORM_CASES.items():
        transform = TRANSFORMS[NUMBERS[name]]
        for label, target, settings in cases:
            shapes = transform.shapes(target, settings)
            sizes = [int(np.prod(shape, dtype=np.int64)) for shape in shapes]
            arrays = [np.abs(pattern(size, f"{name} {place}", 30, 9)) for place, size in enumerate(sizes)]
            code = tuple(Coefficients(a.reshape(s), -5) for a, s in zip(arrays, shapes, strict=True))
            values = transform.expand(target, settings, code, Draws(7, target.name))
            told[f"{name} {label}".strip()] = [list(values.shape), _float64_hash(values)]
    for kind in subspace.Kind:
        for allocation in subspace.Allocation:
            settings = (int(kind), 30, int(allocation))
            shapes = subspace.shapes((60, 20, 5), settings)
            sizes = [int(np.prod(shape, dtype=np.int64)) for shape in shapes]
            code = tuple(
                Coefficients(pattern(size, f"subspace {place}", 30, 9).reshape(shape), -5)
                for place, (shape, size) in enumerate(zip(shapes, sizes, strict=True))
            )
            values = subspace.expand((60, 20, 5), settings, code, Draws(7, "subspace"))
            told[f"subspace {kind.name} {allocation.name}".lower()] = [list(values.shape), _float64_hash(values)]
    target, matrix = Target("w", (20, 20), "weight"), pattern(400, "sketch", 97, 5).reshape(20, 20)
    draws = Draws(7, target.name)
    sketch = Ensembles.draw(draws, (20, 20), (14, 14), 4).sketch(matrix)
    settings = (14, 14, 4, matrix_hash(matrix))
    values = TRANSFORMS[NUMBERS["sketch"]].expand(target, settings, (Coefficients(sketch, 0),), draws)
    told["sketch"] = [list(values.shape), _float64_hash(values)]
    return told


def _small_architecture() -> Architecture:
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        convolutions = (torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 3, 3), torch.nn.ReLU())
        linear = (torch.nn.Flatten(), torch.nn.Linear(48, 8), torch.nn.ReLU(), torch.nn.Linear(8, 10))
        return capture(torch.nn.Sequential(*convolutions, *linear), torch.zeros(2, 1, 8, 8)).architecture
    finally:
        torch.set_default_dtype(default)


def _composed() -> Golden:
    """A small convolutional network, another transform or base for each tensor."""
    helper = Helper((1, 8, 8), 10, predictor=_small_architecture())
    plan: dict[str, tuple[str, tuple[int, ...], Base]] = {
        "0.weight": ("mask", (1,), Base.NEUTRAL),
        "0.bias": ("identity", (), Base.NEUTRAL),
        "2.weight": ("filter projection", (9, 2), Base.NEUTRAL),
        "2.bias": ("none", (), Base.NEUTRAL),
        "5.weight": ("hadamard", (30, 0), Base.RANDOM),
        "5.bias": ("subspace", (), Base.NEUTRAL),
        "7.weight": ("heavy tail", (1,), Base.NEUTRAL),
        "7.bias": ("subspace", (), Base.RANDOM),
    }

    def arrays(name: str, shapes: tuple[tuple[int, ...], ...]) -> tuple[Coefficients, ...]:
        sizes = [int(np.prod(shape, dtype=np.int64)) for shape in shapes]
        patterns = [np.abs(pattern(size, f"{name} {place}", 40, 4)) for place, size in enumerate(sizes)]
        return tuple(Coefficients(p.reshape(s), -9) for p, s in zip(patterns, shapes, strict=True))

    def encode() -> tuple[bytes, Ledger]:
        codes = {}
        for target in composed.targets(helper.predictor):
            name, settings, base = plan[target.name]
            shapes = () if name == "subspace" else TRANSFORMS[NUMBERS[name]].shapes(target, settings)
            codes[target.name] = TensorCode(name, settings, arrays(target.name, shapes), base)
        settings = (int(subspace.Kind.SPARSE), 6, int(subspace.Allocation.SHARED))
        section = SubspaceCode(settings, arrays("subspace", subspace.shapes((8, 10), settings)))
        return composed.write(helper, ComposedMessage(codes, 2, section))

    def decode(message: bytes) -> Json:
        decoded = decode_message(message, helper)
        net = decoded.classifier
        _expect(isinstance(net, quantised.QuantisedNetwork))
        names = [spec.name for spec in helper.predictor.parameters]
        return {
            "ledger": _ledger(decoded.ledger),
            "description": decoded.description,
            "shapes": [list(net.weights[name].shape) for name in names],
            "float32": float32_hash([net.weights[name] for name in names]),
        }

    return Golden(encode, decode)


def _network_head(form: network_head.Form, source: int, classes: int, inferred: bool) -> Golden:
    """A helper network of every kind of layer with fixed weights, and what the message adds to it."""
    architecture = _small_architecture()
    values = {
        spec.name: torch.from_numpy(pattern(spec.num_entries, spec.name, 20, 30).reshape(spec.shape) / 64).float()
        for spec in architecture.parameters
    }
    weights = HelperWeights.of(architecture, values)
    helper = Helper((1, 8, 8), classes, predictor=architecture, classes_inferred=inferred, weights=weights)
    has_logits = form is network_head.Form.HEAD
    code = network_head.NetworkHeadCode(form, source, True, has_logits, 0 if has_logits else -7)

    def encode() -> tuple[bytes, Ledger]:
        if form is network_head.Form.NETWORK:
            return network_head.write(helper, network_head.NetworkHeadCode(form))
        rows = network_head.num_features(helper, code)
        head = pattern(rows * classes, f"network head {source}", 60).reshape(rows, classes)
        head[pattern(rows, f"network head rows {source}", 70) == 0] = 0
        return network_head.write(helper, replace(code, weights=head))

    def decode(message: bytes) -> Json:
        decoded = decode_message(message, helper)
        found = decoded.classifier.code
        head = np.zeros((0, 0), dtype=np.int64) if found.weights is None else found.weights
        return {
            "ledger": _ledger(decoded.ledger),
            "description": decoded.description,
            "choices": [int(found.form), found.source, int(found.root), int(found.with_logits), found.exponent],
            "weights": _integers(head),
            "float32": float32_hash([torch.from_numpy(head).float()]),
        }

    return Golden(encode, decode)


def _table(classifier: object, kind: type, name: str) -> Json:
    """What a classifier of a table is, and what it answers on a pattern of six columns."""
    _expect(isinstance(classifier, kind))
    inputs = pattern(6 * 64, f"{name} inputs", 30, 40).reshape(64, 6).astype(np.float32)
    logits = classifier.logits(inputs, torch.float32)
    answers = _integers(logits.argmax(1).numpy().astype(np.int64))
    return {name: asdict(getattr(classifier, name)), "answers": answers, "float32": float32_hash([logits])}


def _of_table(write: Callable[[], tuple[bytes, Ledger]], helper: Helper, kind: type, name: str) -> Golden:
    def decode(message: bytes) -> Json:
        decoded = decode_message(message, helper)
        told: Json = {"ledger": _ledger(decoded.ledger), "description": decoded.description}
        if decoded.abstains_within:
            told["abstains within"] = decoded.abstains_within.hex()
        return told | _table(decoded.classifier, kind, name)

    return Golden(write, decode)


def _votes() -> Golden:
    """Votes with every kind of condition: a ramp, an equality, a pair with two factors, a product."""
    ramp, near = Ramp(Subject(0), -3.5, 1), Side(Comparison(Subject(2), 2.0))
    equal, pair = Side(Comparison(Subject(2), 1.0, equal=True), passed=False), Comparison(Subject(1, 3, -0.5), 0.75)
    found = Votes(
        (2, -1, 0),
        (
            Term((ramp,), (0, 3, -2)),
            Term((near,), (1, 0, 0)),
            Term((equal, Side(Comparison(Subject(5), 4.0))), (0, 0, 5)),
            Term((Side(pair),), (-4, 0, 1)),
        ),
    )
    return _of_table(lambda: votes.write(found, _VECTORS), _VECTORS, votes.VotesClassifier, "votes")


def _declared() -> Golden:
    """A tree that tests declared categories, of which one column has three and one has five."""
    columns = tuple(Column(f"c{k}", categories=tuple("vwxyz"[: {1: 3, 4: 5}.get(k, 0)])) for k in range(6))
    helper = Helper((6,), 3, table=Table(Schema(columns), tuple(f"c{k}" for k in range(6))))
    one, other = Comparison(Subject(4), 3.0, equal=True), Comparison(Subject(1), 1.0, equal=True)
    tree = Split(one, Leaf(2), Split(Comparison(Subject(0), 2.5), Leaf(0), Split(other, Leaf(1), Leaf(0))))
    return _of_table(lambda: trees.write(tree, helper), helper, trees.TreeClassifier, "tree")


def _abstaining() -> Golden:
    """A tree that abstains where its two largest logits differ by less than a threshold."""
    tree = Split(Comparison(Subject(1), 0.5), Leaf(0), Leaf(2))

    def write() -> tuple[bytes, Ledger]:
        message = abstaining.write(trees.write(tree, _VECTORS)[0], -7)
        return message, decode_message(message, _VECTORS).ledger

    return _of_table(write, _VECTORS, trees.TreeClassifier, "tree")


def _tree() -> Golden:
    """A decision tree with every kind of test, some of them twice."""
    first, pair = Comparison(Subject(4), 20.0), Comparison(Subject(1, 3, -0.25), -1.5)
    equal, other = Comparison(Subject(0), 3.0, equal=True), Comparison(Subject(4), float(np.float32(21.7)))
    right = Split(first, Leaf(1), Split(Comparison(Subject(2), 0.0), Leaf(0), Leaf(1)))
    tree = Split(first, Split(pair, Leaf(0), Split(other, Leaf(1), Leaf(2))), Split(equal, right, Leaf(2)))

    return _of_table(lambda: trees.write(tree, _VECTORS), _VECTORS, trees.TreeClassifier, "tree")


GOLDEN: dict[str, Golden] = {
    "raw": _raw(),
    "tree": _tree(),
    "tree-declared": _declared(),
    "tree-abstaining": _abstaining(),
    "votes": _votes(),
    "bank-digits": _bank(3, _DIGITS, 90),
    "bank-colour": _bank(4, _COLOUR, 97),
    "bank-vectors": _bank(None, _VECTORS, 30),
    "bank-mirrored": _bank(9, _COLOUR, 98),
    "bank-second-edges": _bank(10, _DIGITS, 95),
    "bank-waves": _bank(11, _COLOUR, 98),
    "quantised-dense": _quantised("dense", 20, ()),
    "quantised-pruned": _quantised("pruned", 85, (0, 3, 4)),
    "coders": _coders(),
    "helper-network": _network_head(network_head.Form.NETWORK, 0, 10, False),
    "helper-network-head": _network_head(network_head.Form.HEAD, 3, 4, True),
    "helper-network-correction": _network_head(network_head.Form.CORRECTION, 1, 10, False),
    "composed": _composed(),
}


def grids() -> Json:
    """Everything that an index in a message may refer to."""
    steps = [step_size(exponent).hex() for exponent in range(-MAX_EXPONENT, MAX_EXPONENT + 1)]
    return {
        "banks": [asdict(bank) for bank in BANKS],
        "first steps": steps[:8],
        "steps": hashlib.sha256("\n".join(steps).encode()).hexdigest(),
    }


def entry(message: bytes, golden: Golden) -> Json:
    """What the manifest says of one message."""
    return {"sha256": hashlib.sha256(message).hexdigest(), "bytes": len(message), "decoded": golden.decode(message)}


def _new_files() -> Iterator[tuple[Path, bytes]]:
    manifest: Json = {"grids": grids(), "transforms": transforms(), "messages": {}}
    messages: dict[str, object] = {}
    for name, golden in GOLDEN.items():
        message, _ = golden.encode()
        messages[name] = entry(message, golden)
        yield FOLDER / f"{name}.bin", message
    manifest["messages"] = messages
    yield MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode()


def _only_adds(present: bytes, today: bytes) -> bool:
    before, after = json.loads(present), json.loads(today)
    old, new = before.get("transforms", {}), after["transforms"]
    kept = all(new.get(name) == told for name, told in old.items())
    grids = all(_longer(told, after["grids"].get(name)) for name, told in before["grids"].items())
    return kept and grids and before["messages"].items() <= after["messages"].items()


def _longer(old: object, new: object) -> bool:
    """Whether ``new`` is ``old``, with entries appended if it is a list."""
    if isinstance(old, list) and isinstance(new, list):
        return old == new[: len(old)]
    return bool(old == new)


def main(breaking: bool) -> int:
    """Write what is missing or, with ``breaking``, everything; returns the exit status."""
    files = dict(_new_files())
    present = {path: path.read_bytes() for path in files if path.exists()}
    changed = [path.name for path, old in present.items() if path != MANIFEST and old != files[path]]
    if MANIFEST in present and not _only_adds(present[MANIFEST], files[MANIFEST]):
        changed.append(MANIFEST.name)
    if changed and not breaking:
        print(f"nothing written; today these would differ: {', '.join(changed)}")
        return 1
    for path, content in files.items():
        path.write_bytes(content)
    return 0


if __name__ == "__main__":
    sys.exit(main("--breaking" in sys.argv[1:]))
