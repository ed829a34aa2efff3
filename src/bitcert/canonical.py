"""Frozen dataclasses as canonical JSON and back, read from an untrusted text by the types of their fields.

One text for each value: sorted keys, ASCII, floats in their shortest form, infinities as ``"inf"`` and ``"-inf"``;
NaN does not occur (what is not known is ``None``). Reading refuses everything that writing would not have produced:
unknown, missing or repeated keys, wrong types, numbers out of range, too large a text. Nothing is looked up by a name
from the file. It does NOT check that the numbers are true, or that they fit together.
"""

from __future__ import annotations

import functools
import json
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple, TypeVar

from bitcert.errors import DecodeError, InputError, malformed

MAX_TEXT = 1 << 28
MAX_STRING = 4_096
T = TypeVar("T")

_SCALARS = (bool, int, float, str, type(None))


class FormatProblem(ValueError):
    """What is wrong with a value, and where; :func:`decode` tells both to whoever asked."""


def encode(value: Any) -> Any:
    """JSON value of a dataclass made of numbers, strings, tuples and mappings."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in fields(value) if f.metadata.get("stored", True)}
    if isinstance(value, float):
        if math.isnan(value):
            raise ValueError("NaN in a result; what is not known is None")
        return value if math.isfinite(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, (tuple, list)):
        return [encode(item) for item in value]
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else repr(float(key)): encode(item) for key, item in value.items()}
    if isinstance(value, _SCALARS):
        return value
    raise TypeError(f"{type(value).__name__} cannot be written")


def finite(value: float | None) -> float | None:
    """``None`` instead of a number that is not finite.

    >>> finite(float("inf")), finite(2)
    (None, 2.0)
    """
    return None if value is None or not math.isfinite(value) else float(value)


def plain(value: Any) -> Any:
    """JSON values with ``None`` for numbers that are not finite.

    >>> plain({"a": (1.0, float("inf"))})
    {'a': [1.0, None]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    if hasattr(value, "item"):  # a number of numpy
        value = value.item()
    return finite(value) if isinstance(value, float) else value


def same_json(one: Any, other: Any) -> bool:
    """Whether two JSON values have the same text: 10 is neither 10.0 nor true.

    >>> same_json({"a": 1, "b": [0.5]}, {"b": [0.5], "a": 1}), same_json([1], [1.0]), same_json([1], [True])
    (True, False, False)
    """
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def encode_text(value: Any, extra: Mapping[str, Any] | None = None) -> str:
    """Canonical text of ``value`` with the keys of ``extra`` (a format, a checksum) beside its fields, one line."""
    content = {**encode(value), **(extra or {})}
    return json.dumps(content, ensure_ascii=True, allow_nan=False, sort_keys=True, separators=(",", ":")) + "\n"


def parse(text: str, expected: str) -> Any:
    """JSON of bounded size, without repeated keys, NaN or numbers beyond a float.

    Raises:
        DecodeError: for anything else.
    """
    if len(text) > MAX_TEXT:
        raise malformed(expected, f"{len(text)} characters")
    try:
        return json.loads(
            text,
            object_pairs_hook=_no_duplicates,
            parse_int=_short_int,
            parse_float=_finite,
            parse_constant=_no_constant,
        )
    except FormatProblem as problem:
        raise malformed(expected, str(problem)) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise malformed(expected, "text that is not JSON") from error


class Source(NamedTuple):
    """A file's name, and what writes it."""

    file: str
    writer: str


class Former(NamedTuple):
    """A format that is no longer read: its name, what is wrong with it, and what to do."""

    name: str
    fault: str
    advice: str


def read(
    kind: type[T],
    text: str,
    source: Source,
    name: str,
    check: Callable[[T], object] = lambda found: None,
    former: Former | None = None,
) -> T:
    """A value from the one text that :func:`encode_text` writes of it with ``{"format": name}``.

    Args:
        kind: of the value.
        text: from an untrusted source.
        source: the file it should be in.
        name: of the format.
        check: raises ``FormatProblem``, ``ValueError`` or ``InputError`` where parts do not fit together.
        former: a format that is no longer read.

    Raises:
        DecodeError: for any other text.
    """
    expected = f"a {source.file} written by {source.writer}"
    content = parse(text, expected)
    found = content.pop("format", None) if isinstance(content, dict) else None
    if former is not None and found == former.name:
        got = f"one of format {found!r}, whose {former.fault}"
        raise DecodeError(f"a {source.file} of format {name!r}", got, former.advice)
    if found != name:
        raise malformed(expected, "another format")
    try:
        value = decode(kind, content, source.file.partition(".")[0])
        check(value)
    except (FormatProblem, ValueError, InputError, RecursionError) as problem:
        raise malformed(expected, str(problem)[:300]) from None
    if encode_text(value, {"format": name}) != text:
        raise malformed(expected, "a text that is not in canonical form")
    return value


def require(fits: bool, problem: str) -> None:
    """Refuse what does not fit.

    Raises:
        FormatProblem: saying what is wrong.
    """
    if not fits:
        raise FormatProblem(problem)


def check_keys(content: Mapping[str, Any], types: Mapping[str, type], where: str) -> None:
    """Refuse an object whose keys and types of values are not just these, or with a negative integer.

    Raises:
        FormatProblem: naming the key.
    """
    require(set(content) == set(types), f"{where} with missing or unknown keys")
    for key, kind in types.items():
        require(type(content[key]) is kind, f"{where}.{key} that is not of type {kind.__name__}")
        require(kind is not int or content[key] >= 0, f"a negative {where}.{key}")


def decode(kind: type[T], value: Any, where: str = "") -> T:
    """A value of type ``kind`` from parsed JSON.

    Raises:
        FormatProblem: saying where which type belongs.
    """
    return typing.cast(T, _decode(kind, value, where or kind.__name__))


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise FormatProblem("a key given twice")
    return content


def _short_int(digits: str) -> int:
    if len(digits) > 19:
        raise FormatProblem("an integer of more than 19 digits")
    return int(digits)


def _finite(digits: str) -> float:
    if len(digits) > 32 or not math.isfinite(float(digits)):
        raise FormatProblem("a number beyond the range of a float")
    return float(digits)


def _no_constant(name: str) -> float:
    raise FormatProblem(f"the number {name}")


@functools.cache
def _field_types(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {f.name: hints[f.name] for f in fields(kind) if f.metadata.get("stored", True)}


def _decode(kind: Any, value: Any, where: str) -> Any:
    if kind is Any:
        return _plain(value, where)
    if isinstance(kind, type) and is_dataclass(kind):
        return _decode_dataclass(kind, value, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return _decode_optional(arguments, value, where)
    if origin is tuple:
        if not isinstance(value, list) or (arguments[-1] is not Ellipsis and len(value) != len(arguments)):
            raise FormatProblem(f"{where} that is not a list of the right length")
        inner = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        return tuple(_decode(k, item, where) for k, item in zip(inner, value, strict=True))
    if origin is typing.Literal:
        if not isinstance(value, str) or value not in arguments:
            raise FormatProblem(f"an unknown value of {where}")
        return value
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise FormatProblem(f"{where} that is not an object")
        key_kind, item_kind = arguments
        return {_decode_key(key_kind, k, where): _decode(item_kind, item, where) for k, item in value.items()}
    return _decode_scalar(kind, value, where)


def _decode_dataclass(kind: type, value: Any, where: str) -> Any:
    types_by_name = _field_types(kind)
    if not isinstance(value, dict) or set(value) != set(types_by_name):
        raise FormatProblem(f"{where} with missing or unknown keys")
    content = {name: _decode(t, value[name], f"{where}.{name}"[-200:]) for name, t in types_by_name.items()}
    return kind(**content)


def _decode_optional(arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    rest = [kind for kind in arguments if kind is not type(None)]
    if value is None and len(rest) < len(arguments):
        return None
    if len(rest) != 1:
        raise TypeError(f"{where}: only optional types can be stored")
    return _decode(rest[0], value, where)


def _decode_key(kind: Any, key: str, where: str) -> Any:
    if kind is float:
        try:
            number = float(key)
        except ValueError:
            number = math.nan
        if repr(number) != key or not math.isfinite(number):
            raise FormatProblem(f"a key of {where} that is not a number")
        return number
    return _decode_scalar(str, key, where)


def _decode_scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is float:
        if isinstance(value, str) and value in ("inf", "-inf"):
            return float(value)
        fits = isinstance(value, float)
    elif kind is int:
        fits = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63
    elif kind is str:
        fits = isinstance(value, str) and len(value) <= MAX_STRING
    elif kind is bool:
        fits = isinstance(value, bool)
    else:
        raise TypeError(f"{where}: {kind} cannot be stored")
    if not fits:
        raise FormatProblem(f"{where} that is not of type {kind.__name__}")
    return value


def _plain(value: Any, where: str) -> Any:
    """A scalar, or a list of scalars."""
    if isinstance(value, list) and all(isinstance(item, _SCALARS) for item in value):
        return [_plain(item, where) for item in value]
    if not isinstance(value, _SCALARS) or (isinstance(value, str) and len(value) > MAX_STRING):
        raise FormatProblem(f"{where} with a value that is neither number, text nor a short list")
    return value
