"""The networks that ``benchmarks/own_networks.py`` certifies can be made."""

import own_architectures
import pytest
from own_networks import OWN, ROWS
from torch import nn


def test_every_row_names_a_factory():
    assert all(callable(getattr(own_architectures, row.factory)) for row in ROWS.values() if row.factory)


@pytest.mark.parametrize("name", sorted({row.factory for row in OWN.values()}))
def test_networks_of_no_publication_are_made(name):
    assert isinstance(getattr(own_architectures, name)(), nn.Module)
