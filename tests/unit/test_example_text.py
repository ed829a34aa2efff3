"""The example of a text classifier on frozen embeddings runs, without network access, and its numbers make sense."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "text_embeddings.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("text_embeddings_example", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_embeddings_are_fixed_beforehand(example) -> None:
    sample = example.film_sample(20)
    assert sample.inputs.shape == (20, example.DIMENSIONS)
    np.testing.assert_array_equal(sample.inputs, example.film_sample(40).inputs[:20])
    one, other = example.embed("a dull plot"), example.embed("a dull cast")
    assert np.abs(one - other).sum() > 0
    np.testing.assert_allclose(one * 3**0.5, sum(map(example.word_vector, ("a", "dull", "plot"))), rtol=1e-5)


def test_a_public_head_saves_bits(example) -> None:
    certificates = example.certify_all(example.film_sample(600), 1.0)
    bounds = {name: certificate.bound for name, certificate in certificates.items()}
    assert certificates["public head, family 5"].message_bits == 8
    assert bounds["public head, family 5"] < min(b for n, b in bounds.items() if n != "public head, family 5")
    assert all(certificate.errors / 600 < certificate.bound <= 1 for certificate in certificates.values())
