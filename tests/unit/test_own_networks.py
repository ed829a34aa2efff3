"""The networks that ``benchmarks/own_networks.py`` certifies can be made, and other benchmarks name what there is."""

import full_width
import own_architectures
import pytest
from own_networks import OWN, ROWS
from torch import nn

from bitcert.studies import STUDIES


def test_every_row_names_a_factory():
    assert all(callable(getattr(own_architectures, row.factory)) for row in ROWS.values() if row.factory)


@pytest.mark.parametrize("name", sorted({row.factory for row in OWN.values()}))
def test_networks_of_no_publication_are_made(name):
    assert isinstance(getattr(own_architectures, name)(), nn.Module)


def test_the_studies_at_full_width_are_there():
    assert set(full_width.NAMES) <= set(STUDIES)
