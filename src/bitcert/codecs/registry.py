"""The codecs by name, in the order of docs/theory.md 3.2, and a codec made of option strings such as ``rank=10``.

Options are the fields of the codec's dataclass. Those of its :class:`~bitcert.codecs.base.Selection` (``layers``,
``rest``, ``base``, ``seed``) and of its quantiser (``fraction``, ``dead_zone``) are given flat, by their own names;
where the codec has a field of the same name that one is meant, and theirs is ``quantiser_fraction``. Whether a value
suits a network is for the codec to say.
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from bitcert.codecs.base import Codec, Selection
from bitcert.codecs.convolution_project import ConvolutionProject
from bitcert.codecs.heavy_tail import HeavyTail
from bitcert.codecs.lottery import LotteryTicket
from bitcert.codecs.magnitude_pruning import MagnitudePruning, RandomPruning
from bitcert.codecs.mask import RandomNetworkMask
from bitcert.codecs.matrix_project import MatrixProject
from bitcert.codecs.per_layer import PerLayer
from bitcert.codecs.quantise import Exact, Quantise, TunedQuantise
from bitcert.codecs.quantiser import Uniform
from bitcert.codecs.random_subspace import RandomSubspace
from bitcert.codecs.sparse_sketch import SparseSketch
from bitcert.codecs.truncated_svd import TruncatedSVD
from bitcert.codecs.vector_compress import VectorCompress
from bitcert.codecs.vector_project import VectorProject
from bitcert.errors import InputError, unknown_name

CODECS: dict[str, type[Codec]] = {
    MatrixProject.name: MatrixProject,
    ConvolutionProject.name: ConvolutionProject,
    TruncatedSVD.name: TruncatedSVD,
    VectorCompress.name: VectorCompress,
    VectorProject.name: VectorProject,
    MagnitudePruning.name: MagnitudePruning,
    RandomPruning.name: RandomPruning,
    SparseSketch.name: SparseSketch,
    LotteryTicket.name: LotteryTicket,
    RandomNetworkMask.name: RandomNetworkMask,
    HeavyTail.name: HeavyTail,
    RandomSubspace.name: RandomSubspace,
    Quantise.name: Quantise,
    TunedQuantise.name: TunedQuantise,
    Exact.name: Exact,
    PerLayer.name: PerLayer,
}
"""Every codec, one line each; ``bitcert compare`` tries them in this order."""

NESTED: dict[str, type[Any]] = {"selection": Selection, "quantiser": Uniform}
"""Fields whose own fields are options."""

_READABLE = (bool, int, float, str, enum.Enum)


def find_codec(name: str) -> type[Codec]:
    """The class of a codec.

    Raises:
        InputError: no codec is called so.
    """
    if name not in CODECS:
        raise unknown_name("codec", name, CODECS)
    return CODECS[name]


def codec_options(name: str) -> dict[str, str]:
    """The options of a codec by name, and what each takes, in words.

    >>> codec_options("quantise")["fraction"]
    'a number'

    Raises:
        InputError: no codec is called so.
    """
    return {option: _in_words(kind) for option, (kind, _) in _options(find_codec(name)).items()}


def codec_from(name: str, options: Mapping[str, str] | None = None) -> Codec:
    """A codec by name with these options; the others keep their defaults.

    >>> codec_from("quantise", {"fraction": "0.5", "layers": "a.weight,b.weight"}).label
    'quantise 0.5'

    Args:
        name: a key of :data:`CODECS`.
        options: values as a user writes them; tuples with commas between the entries.

    Raises:
        InputError: no codec is called so, it has no such option, or a value is of another type or range.
    """
    codec = find_codec(name)
    known = _options(codec)
    own: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    for option, text in (options or {}).items():
        if option not in known:
            raise unknown_name(f"known option of {name}", option, known)
        kind, field = known[option]
        value = _parse(kind, text, f"{name} --option {option}")
        if field is None:
            own[option] = value
        else:
            nested.setdefault(field, {})[option.removeprefix(f"{field}_")] = value
    _check_required(codec, own, known)
    for field, values in nested.items():
        own[field] = dataclasses.replace(_default(codec, field), **values)
    return codec(**own)


def options_of(codec: Codec) -> dict[str, str]:
    """What :func:`codec_from` needs to make this codec again, as far as option strings can say it.

    >>> options_of(codec_from("quantise", {"fraction": "0.5"}))
    {'layers': '', 'rest': 'quantised', 'base': 'neutral', 'seed': '0', 'fraction': '0.5', 'dead_zone': '0.5'}
    """
    found = {}
    for option, (_, field) in _options(type(codec)).items():
        holder = codec if field is None else getattr(codec, field)
        name = option.removeprefix(f"{field}_")
        if hasattr(holder, name):  # a quantiser of another kind has other fields
            found[option] = _write(getattr(holder, name))
    return found


def _write(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_write, value))
    if isinstance(value, enum.Enum):
        return _choice_name(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def _options(codec: type[Codec]) -> dict[str, tuple[Any, str | None]]:
    """Type of each option, and the field it lies in unless it is one of the codec itself."""
    fields = _field_types(codec)
    options: dict[str, tuple[Any, str | None]] = {
        name: (kind, None) for name, kind in fields.items() if name not in NESTED and _is_readable(kind)
    }
    for field, kind in NESTED.items():
        if field in fields and isinstance(_default(codec, field), kind):
            for name, inner in _field_types(kind).items():
                options[f"{field}_{name}" if name in options else name] = (inner, field)
    return options


def _field_types(kind: type[Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind) if field.init}


def _default(codec: type[Codec], name: str) -> Any:
    fields: Any = dataclasses.fields(typing.cast(Any, codec))
    field = next(field for field in fields if field.name == name)
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _check_required(codec: type[Codec], given: Mapping[str, Any], known: Mapping[str, tuple[Any, str | None]]) -> None:
    for field in dataclasses.fields(typing.cast(Any, codec)):
        if _is_required(field) and field.name not in given:
            do = f"give {_in_words(known[field.name][0])}" if field.name in known else "make it in Python"
            raise InputError(f"a value for --option {field.name} of {codec.name}", "none", do)


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.init and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _is_readable(kind: Any) -> bool:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return all(inner is type(None) or _is_readable(inner) for inner in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return _is_readable(typing.get_args(kind)[0])
    return isinstance(kind, type) and (hasattr(kind, "parse_option") or issubclass(kind, _READABLE))


def _parse(kind: Any, text: str, option: str) -> Any:
    """``text`` as a value of a field's type.

    Raises:
        InputError: it is none.
    """
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        inner = [part for part in typing.get_args(kind) if part is not type(None)]
        if type(None) in typing.get_args(kind) and text.lower() == "none":
            return None
        return _parse_first(inner, text, option)
    if typing.get_origin(kind) is tuple:
        entry = typing.get_args(kind)[0]
        if text.strip() and not text.strip(" ,"):
            raise InputError(f"names or numbers between the commas for {option}", repr(text[:100]), "check the option")
        return tuple(_parse(entry, part.strip(), option) for part in text.split(",") if part.strip())
    if hasattr(kind, "parse_option"):
        return kind.parse_option(text)
    if issubclass(kind, enum.Enum):
        return _parse_choice(kind, text, option)
    readers: dict[type[Any], Callable[[str], Any]] = {bool: _parse_bool, int: int, float: float, str: str}
    try:
        return readers[kind](text)
    except ValueError:
        raise InputError(f"{_in_words(kind)} for {option}", repr(text[:100]), "check the option") from None


def _parse_first(kinds: list[Any], text: str, option: str) -> Any:
    for kind in kinds[:-1]:
        try:
            return _parse(kind, text, option)
        except InputError:
            continue
    return _parse(kinds[-1], text, option)


def _parse_choice(kind: type[enum.Enum], text: str, option: str) -> enum.Enum:
    for choice in kind:
        if text.lower().replace("_", "-") == _choice_name(choice):
            return choice
    raise unknown_name(f"value for {option}", text, map(_choice_name, kind))


def _choice_name(choice: enum.Enum) -> str:
    return choice.name.lower().replace("_", "-")


def _parse_bool(text: str) -> bool:
    choices = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
    if text.lower() not in choices:
        raise ValueError(text)
    return choices[text.lower()]


def _in_words(kind: Any) -> str:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return " or ".join("none" if part is type(None) else _in_words(part) for part in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return f"{_in_words(typing.get_args(kind)[0])}, or several with commas between"
    if hasattr(kind, "parse_option"):
        return str(kind.option_help)
    if issubclass(kind, enum.Enum):
        return "one of " + ", ".join(map(_choice_name, kind))
    return {bool: "yes or no", int: "a whole number", float: "a number", str: "a name"}[kind]
