"""Architecture JSON from strangers -> :class:`Architecture`, or ``DecodeError``.

Limits are checked in the order of what they protect: bytes of text, duplicate keys and huge numbers while parsing,
types of every field (:mod:`bitcert.canonical`), names and sizes, then shapes on the meta device. No tensor is
allocated. It does NOT authenticate the text: compare ``content_hash`` with the one in the certificate.
"""

from __future__ import annotations

import re

from bitcert.canonical import FormatProblem, decode, parse, require
from bitcert.errors import DecodeError
from bitcert.network.architecture import FORMAT, Architecture
from bitcert.network.attributes import MAX_DIMENSIONS, MAX_INTEGER
from bitcert.network.nodes import PARAMETER_KINDS, Graph
from bitcert.network.shapes import MAX_NODES, ShapeError

MAX_JSON_BYTES = 4 * 2**20
_MAX_INPUTS, _MAX_ATTRIBUTES, _MAX_TEXT = 256, 16, 64
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,199}\Z")
_EXPECTED = "an architecture in JSON, written by this program"


def decode_architecture(text: str) -> Architecture:
    """Parses and validates architecture JSON of at most 4 MiB.

    Raises:
        DecodeError: whatever is wrong with it; no other exception leaves this function.
    """
    try:
        require(isinstance(text, str), f"a value of type {type(text).__name__}")
        most = f"more than {MAX_JSON_BYTES} bytes"
        require(len(text) <= MAX_JSON_BYTES and len(text.encode(errors="replace")) <= MAX_JSON_BYTES, most)
        content = parse(text, _EXPECTED)
        found = content.pop("format", None) if isinstance(content, dict) else None
        require(found == FORMAT, f"format {found!r:.80} where {FORMAT!r} belongs")
        graph = decode(Graph, content, "architecture")
        _check(graph)
        return Architecture(**vars(graph))
    except (FormatProblem, ShapeError) as error:
        raise DecodeError(_EXPECTED, str(error), "use the file as this program wrote it") from error


def _check(graph: Graph) -> None:
    """Refuse what no captured network has, before anything is computed with it."""
    require(graph.input_dtype in ("float32", "int64"), f"input_dtype {graph.input_dtype!r:.80}")
    require(max(len(graph.nodes), len(graph.parameters)) <= MAX_NODES, f"more than {MAX_NODES} nodes or parameters")
    for shape in (graph.input_shape, *(spec.shape for spec in graph.parameters)):
        fits = len(shape) < MAX_DIMENSIONS and all(1 <= size <= MAX_INTEGER for size in shape)
        require(fits, f"a shape with more than {MAX_DIMENSIONS - 1} sizes, or one that is not from 1 to {MAX_INTEGER}")
    require(1 <= graph.num_outputs <= MAX_INTEGER, f"num_outputs {graph.num_outputs}")
    names = [spec.name for spec in graph.parameters]
    for spec in graph.parameters:
        require(spec.kind in PARAMETER_KINDS, f"a parameter of kind {spec.kind!r:.80}")
    for node in graph.nodes:
        names += [node.name, *node.inputs]
        few = len(node.inputs) <= _MAX_INPUTS and len(node.attributes) <= _MAX_ATTRIBUTES
        require(few, "a node with too many inputs or attributes")
        require(all(len(word) <= _MAX_TEXT for word in (node.op, *node.attributes)), "a node with a long word")
    for name in names:
        require(_NAME.match(name) is not None, f"the name {name!r:.80}")
