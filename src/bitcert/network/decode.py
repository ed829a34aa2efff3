"""Architecture JSON from strangers -> :class:`Architecture`, or ``DecodeError``.

Limits are checked in the order of what they protect: bytes of text, duplicate keys and huge numbers while parsing
(:func:`bitcert.canonical.parse`), types of every field, then shapes on the meta device. No tensor is allocated. It does
NOT authenticate the text: compare ``content_hash`` with the one in the certificate.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from bitcert.canonical import parse
from bitcert.errors import DecodeError
from bitcert.network.architecture import FORMAT, Architecture
from bitcert.network.attributes import MAX_DIMENSIONS, MAX_INTEGER, Attribute
from bitcert.network.nodes import PARAMETER_KINDS, Node, ParameterSpec
from bitcert.network.shapes import MAX_NODES, ShapeError

MAX_JSON_BYTES = 4 * 2**20
_MAX_INPUTS = 256
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,199}\Z")
_ADVICE = "use an architecture file written by this program"
T = TypeVar("T")


def _fail(expected: str, got: str) -> NoReturn:
    raise DecodeError(expected, got, _ADVICE)


def _parse(text: str) -> Any:
    if len(text) > MAX_JSON_BYTES or len(text.encode(errors="replace")) > MAX_JSON_BYTES:
        _fail(f"at most {MAX_JSON_BYTES} bytes of architecture", f"{len(text)} characters")
    return parse(text, "an architecture in JSON")


def _fields(value: object, names: set[str], what: str) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != names:
        got = ", ".join(sorted(map(str, value)))[:120] if isinstance(value, dict) else type(value).__name__
        _fail(f"{what} with exactly the keys {', '.join(sorted(names))}", got)
    return value


def _list(value: object, limit: int, what: str, read: Callable[[Any], T]) -> tuple[T, ...]:
    if not isinstance(value, list) or len(value) > limit:
        _fail(f"{what}: a list of at most {limit} entries", f"{type(value).__name__}")
    return tuple(read(item) for item in value)


def _name(value: object) -> str:
    if not isinstance(value, str) or not _NAME.match(value):
        _fail("a name of letters, digits, dots and underscores", repr(value)[:80])
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > 64:
        _fail("a short text", repr(value)[:80])
    return value


def _size(value: object) -> int:
    if type(value) is not int or not 1 <= value <= MAX_INTEGER:
        _fail(f"a size from 1 to {MAX_INTEGER}", repr(value)[:80])
    return value


def _shape(value: object) -> tuple[int, ...]:
    return _list(value, MAX_DIMENSIONS - 1, "a shape", _size)


def _attribute(value: object) -> Attribute:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list) and len(value) <= 2 * MAX_DIMENSIONS and all(type(item) is int for item in value):
        return tuple(value)
    _fail("an attribute that is a number, true, false, null or a short list of integers", repr(value)[:80])


def _node(value: object) -> Node:
    fields = _fields(value, {"attributes", "inputs", "name", "op"}, "a node")
    attributes = fields["attributes"]
    if not isinstance(attributes, dict) or len(attributes) > 16:
        _fail("attributes: an object of at most 16 keys", type(attributes).__name__)
    return Node(
        _name(fields["name"]),
        _text(fields["op"]),
        _list(fields["inputs"], _MAX_INPUTS, "inputs", _name),
        {_text(key): _attribute(item) for key, item in attributes.items()},
    )


def _parameter(value: object) -> ParameterSpec:
    fields = _fields(value, {"kind", "name", "shape"}, "a parameter")
    kind = _text(fields["kind"])
    if kind not in PARAMETER_KINDS:
        _fail(f"a kind among {', '.join(PARAMETER_KINDS)}", repr(kind))
    return ParameterSpec(_name(fields["name"]), _shape(fields["shape"]), kind)


def decode_architecture(text: str) -> Architecture:
    """Parses and validates architecture JSON of at most 4 MiB.

    Raises:
        DecodeError: whatever is wrong with it; no other exception leaves this function.
    """
    if not isinstance(text, str):
        _fail("architecture JSON as text", type(text).__name__)
    names = {"format", "input_dtype", "input_shape", "nodes", "num_outputs", "parameters"}
    fields = _fields(_parse(text), names, "an architecture")
    if fields["format"] != FORMAT:
        _fail(f"format {FORMAT!r}", repr(fields["format"])[:80])
    if fields["input_dtype"] not in ("float32", "int64"):
        _fail("input_dtype float32 or int64", repr(fields["input_dtype"])[:80])
    try:
        return Architecture(
            _shape(fields["input_shape"]),
            _size(fields["num_outputs"]),
            _list(fields["nodes"], MAX_NODES, "nodes", _node),
            _list(fields["parameters"], MAX_NODES, "parameters", _parameter),
            fields["input_dtype"],
        )
    except ShapeError as error:
        raise DecodeError("a network that can be evaluated", str(error), _ADVICE) from error
