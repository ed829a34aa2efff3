"""The conditions of a certificate, word by word: a file is compared with these sentences."""

from types import SimpleNamespace

import pytest
from torch import nn

from bitcert.certificates.conditions import conditions
from bitcert.data import Column, Schema, Table
from bitcert.decoder import Helper, Preprocessing
from bitcert.network import OpaqueModel
from bitcert.network.nodes import ParameterSpec

DRAWN = "the 1,797 examples were drawn independently of each other, from the source of new ones"
PROGRAM = "the program's features and decoders were fixed before the data were seen and compute what they did here"
HELPER = Helper((1, 8, 8), 10, Preprocessing(16.0))
FACTS = {
    **{"samples": 1797, "delta": 0.05, "losses": (), "helper_bits": 1234, "data": {"benchmark": None}},
    **{"prior": None, "original": None},
}


def said_of(helper=HELPER, **changes):
    return conditions(SimpleNamespace(**{**FACTS, **changes}), helper)


def claims(further=""):
    return f"delta = 0.05 and the claims (0/1 error{further}) were chosen before the data were seen"


def fixed(size="1,234 bits to describe", before="the data were seen", what="inputs 1x8x8, 10 classes, scale 16"):
    return f"for `bound` only: the helper ({what}; {size}) was fixed before {before}"


def test_a_certificate_of_the_compressed_network():
    assert said_of() == (DRAWN, claims(), fixed(), PROGRAM)


def test_a_helper_that_could_not_be_described():
    assert said_of(helper_bits=None)[2] == fixed("of unknown length")


def test_a_table():
    columns = (Column("id", use=False),)
    for schema, chosen in [
        (Schema(label="y"), "the label 'y' was"),
        (Schema((), "y", ("no", "yes")), "the label 'y' and the names of its 2 classes were"),
        (Schema(columns, "y"), f"the label 'y' and the schema (SHA-256 {Schema(columns, 'y').hash}) were"),
        (
            Schema(columns, "y'", ("a", "b", "c")),
            'the label "y\'", the names of its 3 classes and the schema (SHA-256 '
            + Schema(columns, "y'", ("a", "b", "c")).hash
            + ") were",
        ),
    ]:
        said = said_of(Helper((1,), 2, table=Table(schema, ("id", "y"))))
        assert said[:2] == (DRAWN, claims())
        assert said[3:] == (PROGRAM, f"for `bound` only: {chosen} chosen before the data were seen")


def test_a_prior_split():
    said = said_of(prior={"fraction": 0.25, "seed": 7})
    assert said[2] == fixed(before="the rest of the data was seen")
    assert said[4:] == (
        "for `bound` only: the split (fraction 0.25, seed 7) was declared before the data were seen, and the helper "
        "network was trained once and on the prior part alone",
    )


def test_the_original_network_and_losses():
    said = said_of(
        original={"unlabelled": {"samples": 5000}, "look": 3},
        losses=[{"name": name} for name in ("brier", "mine:loss", "my.own:other")],
    )
    assert said[1] == claims(", brier, mine:loss, my.own:other")
    assert said[4:] == (
        "the 5,000 unlabelled examples were drawn independently of the training of both networks, from the same source",
        "this is certificate number 3 on these unlabelled examples, and what earlier ones said of them did not choose "
        "its network",
        "the code of the loss mine:loss computes what it did here",
        "the code of the loss my.own:other computes what it did here",
    )


def test_a_benchmark():
    assert said_of(data={"benchmark": "digits"})[4:] == (
        "NOT MET: the program was written without knowledge of these data: its features and settings were compared on "
        "digits, so this certificate is an illustration",
    )


@pytest.mark.parametrize(
    ("sources", "size"),
    [({"a": b"x" * 1000, "b": b"y" * 500}, "1,500 bytes of source"), ({}, "whose source was not found")],
)
def test_python_code_outside_the_program(sources, size):
    specs = (ParameterSpec("weight", (3, 4), "weight"),)
    opaque = OpaqueModel(nn.Linear(4, 3, bias=False), "mine:make", specs, 3, (4,), sources=sources)
    said = said_of(Helper((4,), 3, Preprocessing(), opaque))
    assert said[4:] == (f"the network's own Python code 'mine:make' ({size}) reads nothing but its files",)
