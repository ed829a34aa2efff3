"""Codecs by name and option strings: what is understood, and one clear sentence for what is not."""

from dataclasses import dataclass, fields, is_dataclass
from typing import ClassVar

import pytest

from bitcert.codecs import registry
from bitcert.codecs.base import Codec, Rest, Selection
from bitcert.codecs.quantise import Exact, Quantise, TunedQuantise
from bitcert.codecs.quantiser import Uniform
from bitcert.codecs.registry import CODECS, codec_from, codec_options, options_of
from bitcert.decoder.tensors import Base
from bitcert.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Made(Quantise):
    """With an option of every kind."""

    name: ClassVar[str] = "made"

    rank: int
    ratio: float | None = None
    spread: int | float = 1
    sizes: tuple[int, ...] = ()
    deep: bool = False
    word: str = "a"
    fraction: float = 7.0


@pytest.fixture
def made(monkeypatch):
    monkeypatch.setitem(registry.CODECS, "made", Made)


@pytest.mark.parametrize("name", CODECS)
def test_every_codec_is_one(name):
    codec = CODECS[name]
    assert codec.name == name
    assert is_dataclass(codec)
    assert all(field.kw_only for field in fields(codec))
    strengths = codec.strengths()
    assert all(isinstance(strength, Codec) and type(strength) is codec for strength in strengths)
    labels = [strength.label for strength in strengths]
    assert len(set(labels)) == len(labels), "each strength has a label of its own"
    assert len(set(map(repr, strengths))) == len(strengths)


@pytest.mark.parametrize("name", CODECS)
def test_strengths_can_be_written_as_options(name):
    for strength in CODECS[name].strengths():
        again = codec_from(name, options_of(strength))
        assert again == strength
        assert again.label == strength.label


def test_options_of_selection_and_quantiser_are_flat():
    codec = codec_from(
        "quantise",
        {"layers": "a.weight, b.weight", "rest": "exact", "base": "random", "seed": "3", "fraction": "0.5"},
    )
    assert codec == Quantise(
        selection=Selection(("a.weight", "b.weight"), Rest.EXACT, Base.RANDOM, 3), quantiser=Uniform(0.5)
    )
    assert codec_from("exact", {"seed": "1"}).selection.rest is Rest.EXACT, "a codec's own defaults stay"
    assert codec_from("exact") == Exact()


def test_values_of_every_kind(made):
    given = {"rank": "3", "ratio": "0.5", "spread": "0.25", "sizes": "1, 2,3", "deep": "yes", "word": "b"}
    codec = codec_from("made", given)
    assert (codec.rank, codec.ratio, codec.spread, codec.sizes) == (3, 0.5, 0.25, (1, 2, 3))
    assert codec.deep is True
    assert codec.word == "b"
    assert codec_from("made", {"rank": "3", "ratio": "none"}).ratio is None
    assert codec_from("made", {"rank": "3", "spread": "2"}).spread == 2
    assert codec_from("made", options_of(codec)) == codec


def test_a_codecs_own_option_comes_before_the_quantisers(made):
    codec = codec_from("made", {"rank": "1", "fraction": "0.5"})
    assert codec.fraction == 0.5
    assert codec.quantiser == Uniform()
    codec = codec_from("made", {"rank": "1", "quantiser_fraction": "0.125", "dead_zone": "1"})
    assert (codec.fraction, codec.quantiser) == (7.0, Uniform(0.125, 1.0))
    assert codec_from("made", options_of(codec)) == codec


def test_flags(made):
    for text, value in (("true", True), ("1", True), ("no", False), ("False", False)):
        assert codec_from("tuned", {"fine_tune": text}) == TunedQuantise(fine_tune=value)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("quantis", {}, "did you mean 'quantise'?"),
        ("", {}, "expected a codec among"),
        ("quantise", {"fractoin": "1"}, "did you mean 'fraction'?"),
        ("quantise", {"selection": "1"}, "expected a known option of quantise among"),
        ("quantise", {"fraction": "a lot"}, "expected a number for quantise --option fraction, got 'a lot'"),
        ("quantise", {"fraction": "0"}, "positive quantisation fraction"),
        ("quantise", {"fraction": "nan"}, "positive quantisation fraction"),
        ("quantise", {"rest": "nothing"}, "among exact, helper, quantised, got 'nothing'"),
        ("quantise", {"seed": "1.5"}, "a whole number for quantise --option seed"),
        ("quantise", {"seed": "-1"}, "a seed of 0 or more"),
        ("tuned", {"fine_tune": "maybe"}, "yes or no"),
        ("made", {}, "a value for --option rank of made, got none; give a whole number"),
        ("made", {"rank": "x"}, "a whole number for made --option rank"),
        ("made", {"rank": "1", "spread": "x"}, "a number for made --option spread"),
        ("made", {"rank": "1", "sizes": "1,x"}, "a whole number for made --option sizes"),
    ],
)
def test_what_is_not_understood(made, name, options, says):
    with pytest.raises(InputError) as refused:
        codec_from(name, options)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_options_in_words(made):
    told = codec_options("made")
    assert told["sizes"] == "a whole number, or several with commas between"
    assert told["ratio"] == "a number or none"
    assert told["rest"] == "one of quantised, exact, helper"
    assert "selection" not in told
