"""The reading rule of a table's cells: one cell at a time, by a fixed rule, the same fast and slow."""

import hashlib
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bitcert.data.cells import MISSING, CellProblem, bucket, read_cell, read_cells, with_missing


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0.0),
        ("-0", 0.0),
        ("+12", 12.0),
        (" 12.50 ", 12.5),
        ("\t7\n", 7.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e3", 1000.0),
        ("-1.5E-2", -0.015),
        ("007", 7.0),
        ("1e-400", 0.0),
        ("123456789012345678901234567890", 123456789012345678901234567890.0),
    ],
)
def test_decimal_numbers_are_themselves(text, value):
    assert read_cell(text) == value
    assert read_cells([text]).tolist() == [np.float32(value)]
    assert not np.signbit(read_cells(["-0"])[0])


@pytest.mark.parametrize("text", ["", "  ", "NA", "na", "NaN", "nan", "null", "NULL", " Null "])
def test_missing_cells(text):
    assert math.isnan(read_cell(text))
    assert np.isnan(read_cells([text, "1"])).tolist() == [True, False]


@pytest.mark.parametrize(
    "text",
    ["yes", "1,234", "1_000", "0x10", "-nan", "+NaN", "12 %", "1 2", "n/a", "None", "٣", "1e", "é", "1.2.3", "-"],
)
def test_any_other_text_is_the_first_byte_of_its_hash(text):
    expected = hashlib.sha256(text.encode()).digest()[0]
    assert read_cell(text) == bucket(text) == expected
    assert read_cells([text, "1"]).tolist() == [expected, 1.0]
    assert 0 <= expected <= 255


@pytest.mark.parametrize("text", ["inf", "-inf", "Infinity", "+INF", "1e39", "-3.5e38", "1e999", "9" * 400])
def test_numbers_that_no_float32_is_are_refused_with_their_place(text):
    for texts in (["1", text, "inf"], ["x", text, "inf"]):
        with pytest.raises(CellProblem) as caught:
            read_cells(texts)
        assert (caught.value.place, caught.value.text) == (1, text)
    assert read_cells(["3.4028234e38"])[0] == np.finfo(np.float32).max


def test_declared_categories_are_places_and_all_others_one_more():
    codes = {"KS": 0, "OH": 1, "NA": 2, "7": 3}
    assert [read_cell(text, codes) for text in ("KS", " OH", "NA", "7", "7.0", "8", "inf", "kS")] == [
        0, 1, 2, 3, 4, 4, 4, 4,
    ]  # fmt: skip
    assert math.isnan(read_cell("", codes))
    assert math.isnan(read_cell("null", codes))


def test_missing_is_a_number_below_the_usual_ones_or_an_input_of_its_own():
    values = np.array([3, np.nan, 0], np.float32)
    assert with_missing(values, False).tolist() == [[3], [MISSING], [0]]
    assert with_missing(values, True).tolist() == [[3, 0], [0, 1], [0, 0]]


CELLS = st.one_of(
    st.text(max_size=6),
    st.sampled_from(
        ["", "NA", "nan", "-nan", "inf", "1_0", "٣", " 1", "1\x1c", "\x1f2", "1e400", "-0", "1e-50", "0x1"]
    ),
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(10**12), 10**12).map(str),
)


@given(st.lists(CELLS, min_size=1, max_size=8))
@example(["1", "nan"])
@example(["-nan", "2"])
def test_many_cells_at_once_are_what_each_is_alone(texts):
    with np.errstate(over="ignore"):
        alone = np.array([read_cell(text) for text in texts]).astype(np.float32)
    if np.isinf(alone).any():
        with pytest.raises(CellProblem) as caught:
            read_cells(texts)
        assert caught.value.place == int(np.argmax(np.isinf(alone)))
    else:
        assert np.array_equal(read_cells(texts), alone, equal_nan=True)
