"""What it would cost to say the helper string itself: the bits that ``self_contained`` charges (docs/theory.md section
5).

``bound`` assumes that the helper was fixed before the data were seen. Any number in it that could have been chosen
afterwards is uncounted capacity: the integers of an ``arange``, a factor of two that is repeated, a tuned scale. So the
whole helper is described canonically and entropy-coded, and ``self_contained`` is the bound of message and description
together. The description leaves out what changes no prediction, the names of nodes and parameters; everything else is
in it, number by number. Its sections, each self-delimiting:

* *problem*: number of classes (unless the message says it) and what else there is; the shape of the inputs is the
  data's own;
* *preprocessing*: scale, means and deviations as shortest decimals;
* *architecture*: parameters (kind and shape) and nodes (operation, inputs, attributes), in their order;
* *code*: of an opaque module, the name of its factory, and its source files with their names, byte by byte;
* *helper weights*: 32 bits a number, whether public or trained on a prior part;
* *prior split*: fraction and seed;
* *schema*: of a table, which column is the label, what is declared of the others, and the names of the classes. The
  names of its columns are the data's own.

The program itself (features, built-in networks, decoders) stays trusted; its hash is in the certificate. NOT covered:
what an opaque module's code reads beyond its own files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from bitcert.coding import BitReader, Ledger
from bitcert.coding.adaptive import Coder, Reader, Writer
from bitcert.coding.bitstream import Bits
from bitcert.data import Column, Schema, Table
from bitcert.decoder.helper import Helper, Preprocessing, is_unusual
from bitcert.errors import DecodeError
from bitcert.network import OpaqueModel
from bitcert.network.architecture import Architecture
from bitcert.network.attributes import Attribute, Kind
from bitcert.network.later_operations import LATER_OPERATIONS
from bitcert.network.nodes import INPUT, PARAMETER_KINDS, Node, ParameterSpec
from bitcert.network.operations import FIRST_OPERATIONS, OPERATIONS

FLOAT_BITS = 32
MAX_CODED_BYTES = 1 << 16
"""Longer source code is charged eight bits a byte: coding it would take minutes and change nothing.

Which of the two it is must be said as well. No coded description begins with a name of more bytes than that, so the
flags that announce one, half a chance each, open a description that is written out.
"""

MAX_CODED_TEXTS = 1 << 12
"""The same for the texts of a schema, in bytes: a certificate's search describes its helper again and again."""

_FIRST = tuple(sorted(FIRST_OPERATIONS))
_LATER = tuple(LATER_OPERATIONS)


@dataclass(frozen=True)
class SplitClaim:
    """A declared prior split: what of the sample trained the helper network."""

    fraction: float
    seed: int


def code_shape(coder: Coder, context: str, shape: tuple[int, ...] = ()) -> tuple[int, ...]:
    """Sizes of a tensor."""
    axes = coder.integer((context, "axes"), len(shape))
    return tuple(coder.integer((context, k), shape[k] if k < len(shape) else 0) for k in range(axes))


def code_preprocessing(coder: Coder, given: Preprocessing | None = None) -> Preprocessing:
    """Scale, means and deviations."""
    given = given or Preprocessing()
    scale = coder.number("scale", given.scale)
    channels = coder.integer("channels", len(given.mean))
    pairs = [
        tuple(coder.number(name, values[k] if k < len(values) else 0.0) for k in range(channels))
        for name, values in (("mean", given.mean), ("std", given.std))
    ]
    return Preprocessing(scale, *pairs)


def _code_size(coder: Coder, kind: str, axis: int, earlier: tuple[int, ...], size: int) -> int:
    """One axis of a parameter: as before in this place, as the output width of the parameter before, or in full."""
    place = (kind, axis)
    same, last = coder.same(place, size)
    if not same and earlier and coder.flag((kind, axis, "width"), size == earlier[0]):
        same, last = True, earlier[0]
    coded = last if same else coder.integer(("size", axis), size)
    assert isinstance(coded, int)
    coder.note(place, coded)
    return coded


def _code_parameters(coder: Coder, given: tuple[ParameterSpec, ...]) -> tuple[ParameterSpec, ...]:
    found: list[ParameterSpec] = []
    for k in range(coder.integer("parameters", len(given))):
        spec = given[k] if k < len(given) else ParameterSpec("", (), PARAMETER_KINDS[0])
        kind = PARAMETER_KINDS[coder.symbol("kind", len(PARAMETER_KINDS), PARAMETER_KINDS.index(spec.kind))]
        axes = coder.integer((kind, "axes"), len(spec.shape))
        earlier = found[-1].shape if found else ()
        sizes = [
            _code_size(coder, kind, axis, earlier, spec.shape[axis] if axis < len(spec.shape) else 0)
            for axis in range(axes)
        ]
        found.append(ParameterSpec(f"p{k}", tuple(sizes), kind))
    return tuple(found)


def _code_attribute(coder: Coder, context: tuple[str, str], kind: Kind, value: Attribute) -> Attribute:
    types = kind.types
    index = next((k for k, each in enumerate(types) if type(value) is each), 0)
    chosen = types[coder.symbol((context, "type"), len(types), index)]
    if chosen is bool:
        return coder.flag(context, bool(value))
    if chosen is float:
        return coder.number(context, value if isinstance(value, float) else 0.0)
    if chosen is int:
        return coder.signed(context, value if isinstance(value, int) else 0)
    if chosen is tuple:
        items = value if isinstance(value, tuple) else ()
        count = coder.integer((context, "count"), len(items))
        return tuple(coder.signed((context, min(k, 3)), items[k] if k < len(items) else 0) for k in range(count))
    return None


def _code_input(coder: Coder, op: str, place: int, names: _Names, given: str) -> str:
    """One input of a node: the next parameter not used yet, another one, or a value so many nodes back."""
    context = (op, min(place, 3))
    if coder.flag((context, "parameter"), given in names.parameters):
        index = names.parameters.get(given, 0)
        if not coder.flag((context, "next"), index == names.used):
            return names.parameter(coder.integer("parameter", index))
        return names.parameter(names.used)
    back = len(names.values) - 1 - names.values.get(given, 0)
    return names.value(coder.integer((context, "back"), back))


class _Names:
    """Names on both sides: those of the given architecture while writing, ``p0, n0, ...`` while reading."""

    def __init__(self, parameters: list[str]) -> None:
        self.parameters = {name: k for k, name in enumerate(parameters)}
        self.values: dict[str, int] = {INPUT: 0}
        self.used = 0

    def parameter(self, index: int) -> str:
        """The canonical name of a parameter; the next one not used yet is counted on."""
        self.used = max(self.used, index + 1)
        return f"p{index}"

    def value(self, back: int) -> str:
        """The canonical name of a node's result, or of the input, so many values back."""
        index = len(self.values) - 1 - back
        return f"n{index - 1}" if index else INPUT


def code_architecture(coder: Coder, input_shape: tuple[int, ...], given: Architecture | None = None) -> Architecture:
    """An architecture with the canonical names ``p0, p1, ...`` of parameters and ``n0, n1, ...`` of nodes.

    ``input_shape`` is that of the data, which both sides know.

    Raises:
        DecodeError: while reading, when the bits are no architecture's.
        ShapeError: the same.
    """
    own = () if given is None else given.input_shape
    shape = input_shape if coder.flag("input of the data", own == input_shape) else code_shape(coder, "input", own)
    tokens = coder.flag("tokens", given is not None and given.input_dtype == "int64")
    outputs = coder.integer("outputs", 0 if given is None else given.num_outputs)
    parameters = _code_parameters(coder, () if given is None else given.parameters)
    names = _Names([spec.name for spec in (parameters if given is None else given.parameters)])
    nodes: list[Node] = []
    for k in range(coder.integer("nodes", 0 if given is None else len(given.nodes))):
        node = None if given is None else given.nodes[k]
        nodes.append(_code_node(coder, names, node, k))
        names.values[nodes[-1].name if node is None else node.name] = k + 1
    return Architecture(shape, outputs, tuple(nodes), parameters, "int64" if tokens else "float32")


def _code_operation(coder: Coder, given: str) -> str:
    """A first operation by its number; the number after the last of them, and a later one by its own."""
    number = coder.symbol("op", len(_FIRST) + 1, _FIRST.index(given) if given in FIRST_OPERATIONS else len(_FIRST))
    if number < len(_FIRST):
        return _FIRST[number]
    later = coder.integer("later op", _LATER.index(given) if given in LATER_OPERATIONS else 0)
    if later >= len(_LATER):
        raise DecodeError("an operation that this program knows", f"number {later}", "use a newer version of bitcert")
    return _LATER[later]


def _code_node(coder: Coder, names: _Names, given: Node | None, number: int) -> Node:
    op = _code_operation(coder, _FIRST[0] if given is None else given.op)
    inputs = () if given is None else given.inputs
    count = coder.integer((op, "inputs"), len(inputs))
    found = [_code_input(coder, op, k, names, inputs[k] if k < len(inputs) else "") for k in range(count)]
    attributes: Mapping[str, Attribute] = {} if given is None else given.attributes
    kinds = sorted(OPERATIONS[op].attributes.items())
    coded = {name: _code_attribute(coder, (op, name), kind, attributes.get(name)) for name, kind in kinds}
    return Node(f"n{number}", op, tuple(found), coded)


def _code_problem(coder: Coder, helper: Helper) -> None:
    if not coder.flag("classes inferred", helper.classes_inferred):
        coder.integer("classes", helper.num_classes)
    kind = 0
    if helper.predictor is not None:
        opaque = isinstance(helper.predictor, OpaqueModel)
        kind = 1 if not opaque else 2 if helper.predictor.input_dtype == "float32" else 3
    coder.symbol("predictor", 4, kind)
    coder.flag("weights", helper.weights is not None)


def _code_texts(coder: Coder, context: str, given: tuple[str, ...]) -> tuple[str, ...]:
    count = coder.integer((context, "count"), len(given))
    texts = [given[k].encode() if k < len(given) else b"" for k in range(count)]
    return tuple(coder.octets(context, text).decode("utf-8", "replace") for text in texts)


def code_schema(coder: Coder, names: tuple[str, ...], given: Schema | None = None) -> Schema:
    """A schema with a label, for a table whose columns have these names, which both sides know."""
    given, places = given or Schema(label=names[0]), {name: place for place, name in enumerate(names)}
    label = names[coder.integer("label", places[given.label or ""])]
    columns: list[Column] = []
    for k in range(coder.integer("columns", len(given.columns))):
        column = given.columns[k] if k < len(given.columns) else Column(names[0])
        name = names[coder.integer("column", places[column.name])]
        if coder.flag("use", column.use):
            missing = coder.flag("missing", column.missing)
            columns.append(Column(name, True, missing, _code_texts(coder, "categories", column.categories)))
        else:
            columns.append(Column(name, False))
    return Schema(tuple(columns), label, _code_texts(coder, "classes", given.classes))


def _schema_bits(table: Table) -> int:
    """Bits of a table's schema, the first of which says whether the texts in it are coded or written out.

    Long lists of texts are written out, which costs eight bits a byte and the lengths.
    """
    schema = table.schema
    lists = [*(column.categories for column in schema.columns), schema.classes]
    texts = [text.encode() for each in lists for text in each]
    total = sum(map(len, texts))
    if total <= MAX_CODED_TEXTS:
        return 1 + len(_written(lambda coder: code_schema(coder, table.names, schema)))
    bare = replace(schema, columns=tuple(replace(c, categories=()) for c in schema.columns), classes=())
    rest = _written(lambda coder: code_schema(coder, table.names, bare))
    counts = _written(lambda coder: [coder.integer("count", len(each)) for each in lists])
    lengths = _written(lambda coder: [coder.integer("length", len(text)) for text in texts])
    return 1 + len(rest) + len(counts) + len(lengths) + 8 * total


def _code_split(coder: Coder, split: SplitClaim | None) -> None:
    coder.number("fraction", 0.5 if split is None else split.fraction)
    coder.integer("seed", 0 if split is None else split.seed)


def _code_sources(coder: Coder, factory: str, sources: Mapping[str, bytes]) -> None:
    coder.octets("name", factory.encode())
    for name, content in sorted(sources.items()):
        coder.flag("file", True)
        coder.octets("name", name.encode())
        coder.octets("source", content)
    coder.flag("file", False)


def _written(describe: Callable[[Coder], object]) -> Bits:
    writer = Writer()
    describe(writer)
    return writer.bits()


def architecture_bits(architecture: Architecture) -> Bits:
    """The section of an architecture for data of its input shape.

    >>> import torch
    >>> from bitcert.network import capture
    >>> net = capture(torch.nn.Sequential(torch.nn.Linear(64, 10)), torch.ones(2, 64))
    >>> len(architecture_bits(net.architecture))
    66
    """
    return _written(lambda coder: code_architecture(coder, architecture.input_shape, architecture))


def read_architecture(content: bytes, input_shape: tuple[int, ...]) -> Architecture:
    """The architecture of a section that :func:`architecture_bits` wrote, padded to bytes, with canonical names.

    Raises:
        DecodeError: these bits are no architecture's.
    """
    reader = Reader(BitReader(content))
    found = code_architecture(reader, input_shape)
    reader.finish()
    return found


def helper_ledger(helper: Helper, split: SplitClaim | None = None) -> Ledger:
    """Bits of a helper's description by section; a certificate's ``self_contained`` charges their sum.

    Args:
        helper: the helper string.
        split: the declared prior split that its weights come from, if any.
    """
    sections = [("problem", len(_written(lambda coder: _code_problem(coder, helper))))]
    sections.append(("preprocessing", len(_written(lambda coder: code_preprocessing(coder, helper.preprocessing)))))
    if isinstance(helper.predictor, Architecture):
        sections.append(("architecture", len(architecture_bits(helper.predictor))))
    if isinstance(helper.predictor, OpaqueModel):
        sections.append(("code", _source_bits(helper.predictor)))
    if helper.weights is not None:
        sections.append(("helper weights", FLOAT_BITS * sum(value.size for value in helper.weights.values.values())))
    if split is not None:
        sections.append(("prior split", len(_written(lambda coder: _code_split(coder, split)))))
    if helper.table is not None:
        sections.append(("schema", _schema_bits(helper.table)))
    return Ledger(tuple(sections))


def _source_bits(opaque: OpaqueModel) -> int:
    factory, sources = opaque.factory, opaque.sources
    texts = [factory.encode(), *(text for name, content in sources.items() for text in (name.encode(), content))]
    total = sum(map(len, texts))
    if total <= MAX_CODED_BYTES:
        return len(_written(lambda coder: _code_sources(coder, factory, sources)))
    lengths = _written(lambda coder: [coder.integer("length", len(text)) for text in texts])
    escape = (MAX_CODED_BYTES + 1).bit_length()
    return escape + 8 * total + len(lengths) + len(sources) + 1


def helper_contents(helper: Helper) -> str:
    """What a helper consists of, in words: everything in it that could have been chosen.

    >>> helper_contents(Helper((1, 8, 8), 10, Preprocessing(16.0)))
    'inputs 1x8x8, 10 classes, scale 16'
    """
    shape = "x".join(map(str, helper.input_shape))
    classes = "classes coded in the message" if helper.classes_inferred else f"{helper.num_classes} classes"
    parts = [f"inputs {shape}", classes, f"scale {helper.preprocessing.scale:g}"]
    if helper.preprocessing.mean:
        parts.append(f"{2 * len(helper.preprocessing.mean)} means and deviations")
    if isinstance(helper.predictor, Architecture):
        parts.append(_architecture_contents(helper.predictor))
    elif helper.predictor is not None:
        parts.append(f"the network's Python code and {len(helper.predictor.parameters)} tensor shapes")
    if helper.weights is not None:
        parts.append(f"{sum(value.size for value in helper.weights.values.values()):,} helper weights")
    if helper.table is not None:
        parts.append(_table_contents(helper.table.schema))
    return ", ".join(parts)


def _table_contents(schema: Schema) -> str:
    parts = [f"label {schema.label!r}"]
    counts = (
        ("declared column", len(schema.columns)),
        ("category", sum(len(column.categories) for column in schema.columns)),
        ("class name", len(schema.classes)),
    )
    parts += [_counted(what, number) for what, number in counts if number]
    return ", ".join(parts)


def _counted(what: str, number: int) -> str:
    many = f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"
    return f"{number:,} {what if number == 1 else many}"


def _architecture_contents(architecture: Architecture) -> str:
    values = [value for node in architecture.nodes for value in node.attributes.values()]
    integers = sum(len(value) if isinstance(value, tuple) else type(value) is int for value in values)
    scalars = [value for value in values if isinstance(value, float)]
    unusual = sum(map(is_unusual, scalars))
    return (
        f"an architecture of {len(architecture.nodes)} operations and {len(architecture.parameters)} tensors with "
        f"{integers} integers and {len(scalars)} constants ({unusual} unusual) among its settings"
    )
