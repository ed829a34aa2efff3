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

from bitcert.codecs.base import Codec, LayerCodec, Selection
from bitcert.codecs.convolution_project import ConvolutionProject
from bitcert.codecs.coreset import Coreset
from bitcert.codecs.heavy_tail import HeavyTail
from bitcert.codecs.lottery import LotteryTicket
from bitcert.codecs.magnitude_pruning import MagnitudePruning, RandomPruning
from bitcert.codecs.mask import RandomNetworkMask
from bitcert.codecs.matrix_project import MatrixProject
from bitcert.codecs.per_layer import PerLayer, Rule
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
    Coreset.name: Coreset,
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

RULE_HELP = "LAYER=CODEC[ NAME:VALUE ...]"
NESTED: dict[str, type[Any]] = {"selection": Selection, "quantiser": Uniform}
"""Fields whose own fields are options."""


def _parse_bool(text: str) -> bool:
    choices = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
    if text.lower() not in choices:
        raise ValueError(text)
    return choices[text.lower()]


_SIMPLE: dict[type[Any], tuple[str, Callable[[str], Any]]] = {
    bool: ("yes or no", _parse_bool),
    int: ("a whole number", int),
    float: ("a number", float),
    str: ("a name", str),
}
"""Kinds of values in words, and how they are read."""


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
    for required in required_fields(codec):
        if required not in own:
            do = f"give {_in_words(known[required][0])}" if required in known else "make it in Python"
            raise InputError(f"a value for --option {required} of {codec.name}", "none", do)
    for field, values in nested.items():
        own[field] = dataclasses.replace(_default(codec, field), **values)
    return codec(**own)


def rule_from(text: str) -> Rule:
    """A rule of the codec ``per-layer`` from the text that :func:`options_of` makes of it.

    >>> rule_from("fc1.weight=quantise fraction:0.5").codec.label
    'quantise 0.5'

    Raises:
        InputError: it has another form, or no such codec or option exists.
    """
    layer, equals, rest = text.partition("=")
    name, *options = rest.split() or [""]
    pairs = [option.partition(":") for option in options]
    if not equals or not layer.strip() or not name or not all(colon for _, colon, _ in pairs):
        raise InputError(f"rules as {RULE_HELP}", repr(text[:100]), "write e.g. *=quantise fraction:0.5")
    codec = codec_from(name, {key: value for key, _, value in pairs})
    if not isinstance(codec, LayerCodec):
        raise InputError("a codec that works layer by layer", repr(name), "use it for the whole network")
    return Rule(layer.strip(), codec)


def required_fields(codec: type[Codec]) -> tuple[str, ...]:
    """The fields of a codec that have no default."""
    fields = dataclasses.fields(typing.cast(Any, codec))
    missing = dataclasses.MISSING
    return tuple(field.name for field in fields if field.init and field.default is field.default_factory is missing)


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
    if isinstance(value, Rule):
        options = [f" {name}:{text}" for name, text in options_of(value.codec).items() if text and "," not in text]
        return f"{value.layer}={value.codec.name}{''.join(options)}"
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


def _union(kind: Any) -> tuple[Any, ...]:
    """The types of a union, ``None`` among them; else the type itself."""
    return typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)


def _entry(kind: Any) -> Any:
    """The type of a tuple's entries; else the type itself."""
    return typing.get_args(kind)[0] if typing.get_origin(kind) is tuple else kind


def _is_readable(kind: Any) -> bool:
    known: tuple[type[Any], ...] = (*_SIMPLE, Rule, enum.Enum, type(None))
    kinds = [_entry(inner) for inner in _union(kind)]
    return all(isinstance(k, type) and (hasattr(k, "parse_option") or issubclass(k, known)) for k in kinds)


def _parse(kind: Any, text: str, option: str) -> Any:
    """``text`` as a value of a field's type.

    Raises:
        InputError: it is none.
    """
    *others, last = [inner for inner in _union(kind) if inner is not type(None)]
    if type(None) in _union(kind) and text.lower() == "none":
        return None
    for other in others:
        try:
            return _parse_one(other, text, option)
        except InputError:
            continue
    return _parse_one(last, text, option)


def _parse_one(kind: Any, text: str, option: str) -> Any:
    """The same, of a type that is no union."""
    if typing.get_origin(kind) is tuple:
        if text.strip() and not text.strip(" ,"):
            raise InputError(f"names or numbers between the commas for {option}", repr(text[:100]), "check the option")
        return tuple(_parse(_entry(kind), part.strip(), option) for part in text.split(",") if part.strip())
    if kind is Rule:
        return rule_from(text)
    if hasattr(kind, "parse_option"):
        return kind.parse_option(text)
    if issubclass(kind, enum.Enum):
        choices = {_choice_name(choice): choice for choice in kind}
        if text.lower().replace("_", "-") not in choices:
            raise unknown_name(f"value for {option}", text, choices)
        return choices[text.lower().replace("_", "-")]
    words, read = _SIMPLE[kind]
    try:
        return read(text)
    except ValueError:
        raise InputError(f"{words} for {option}", repr(text[:100]), "check the option") from None


def _choice_name(choice: enum.Enum) -> str:
    return choice.name.lower().replace("_", "-")


def _in_words(kind: Any) -> str:
    if len(_union(kind)) > 1:
        return " or ".join("none" if inner is type(None) else _in_words(inner) for inner in _union(kind))
    if typing.get_origin(kind) is tuple:
        return f"{_in_words(_entry(kind))}, or several with commas between"
    if kind is Rule:
        return RULE_HELP
    if hasattr(kind, "parse_option"):
        return str(kind.option_help)
    if issubclass(kind, enum.Enum):
        return "one of " + ", ".join(map(_choice_name, kind))
    return _SIMPLE[kind][0]
