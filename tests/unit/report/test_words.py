from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitcert.report.text import clean, group_sections, number, percent, percent_up, share


@given(st.floats(0, 1))
def test_a_printed_bound_is_still_a_bound(bound):
    printed = Fraction(percent_up(bound).removesuffix(" %"))
    assert 0 <= printed - 100 * Fraction(repr(bound)) < Fraction(1, 100)


def test_a_decimal_is_printed_as_it_was_written():
    assert [percent_up(value) for value in (0.07, 0.57, 0.0, 1.0)] == ["7.00 %", "57.00 %", "0.00 %", "100.00 %"]
    assert percent(0.12345) == "12.34 %"


@pytest.mark.parametrize("value", [None, "x", True, float("nan"), float("inf"), 1e300, [], {}])
def test_what_is_not_a_number_is_a_dash(value):
    assert percent_up(value) == number(value) == share(value, 3) == share(3, value) == "–"


@given(st.text(max_size=300))
def test_clean_text_is_one_printable_short_line(text):
    result = clean(text, 50)
    assert result.isprintable()
    assert len(result) <= 50


@given(st.lists(st.tuples(st.text(max_size=3), st.integers(0, 10**7)), max_size=40), st.integers(2, 15))
def test_grouping_loses_no_bit_and_hides_only_the_smaller(sections, most):
    entries = group_sections(sections, most)
    rest = len(sections) > most
    shown = entries[:-1] if rest else entries
    assert len(entries) <= most
    assert rest or shown == sections
    assert sum(bits for _, bits in entries) == sum(bits for _, bits in sections)
    if rest:
        largest = sorted((bits for _, bits in sections), reverse=True)[: most - 1]
        assert sorted((bits for _, bits in shown), reverse=True) == largest
