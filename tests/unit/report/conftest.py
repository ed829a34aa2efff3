from collections.abc import Callable
from typing import Any

import pytest
from markupsafe import Markup

from bitcert.certificates.certificate import Certificate
from bitcert.proof import holdout_bound, occam_bound
from bitcert.report.model import Picture
from bitcert.run import Candidate

MakeCertificate = Callable[..., Certificate]


def _make(errors: int = 7920, samples: int = 60000, delta: float = 0.05, **changes: Any) -> Certificate:
    sections = changes.get("sections", (("header", 8), ("choices", 24), ("head", 2903), ("biases", 289)))
    bits = sum(size for _, size in sections)
    bound = occam_bound(errors, samples, bits, delta)
    helper_sections = changes.get("helper_sections", (("problem", 9), ("preprocessing", 18), ("architecture", 400)))
    charged = bits + sum(size for _, size in helper_sections)
    fields: dict[str, Any] = {
        "bound": bound.binomial,
        "self_contained": occam_bound(errors, samples, charged, delta).binomial if helper_sections else 1.0,
        "delta": delta,
        "errors": errors,
        "near_ties": 2,
        "rounding": 1,
        "samples": samples,
        "message_bits": bits,
        "certifies": "compressed",
        "theorem": "Arora, Ge, Neyshabur & Zhang 2018, Theorem 2.1",
        "bounds": {"hoeffding": bound.hoeffding, "binomial": bound.binomial, "kl_chernoff": bound.kl_chernoff},
        "sections": sections,
        "helper_sections": helper_sections,
        "delta_ledger": (("occam-binomial", delta),),
        "decision_rule": {"dtype": "float32", "batch_size": 1000, "tolerance": 1e-5},
        "data": {"name": "leaves", "hash": "ab" * 32, "num_classes": 10, "shape": [1, 28, 28]},
        "helper": {"input_shape": [1, 28, 28], "architecture": None, "hash": "cd" * 32},
        "commitment": {"hash": "12" * 32, "num_classes": 10, "architectures": [], "weights": []},
        "conditions": ("the examples were drawn so", "for `bound` only: the helper was fixed before"),
        "message": {"file": "message.bin", "sha256": "ef" * 32},
        "description": "integer head on fixed features",
        "holdout": None,
        "versions": {"bitcert": "0.1.0", "torch": "2.13.0"},
    }
    return Certificate(**{**fields, **changes})


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without their pictures, where a test is about the words."""
    monkeypatch.setattr(Picture, "svg", property(lambda picture: Markup("")))


@pytest.fixture
def make_certificate() -> MakeCertificate:
    return _make


@pytest.fixture
def holdout() -> dict[str, Any]:
    return {"samples": 10000, "errors": 1450, "bound": holdout_bound(1450, 10000, 0.05), "name": "leaves of May"}


@pytest.fixture
def candidates() -> tuple[Candidate, ...]:
    counts = [(9000, 1500), (8100, 2400), (7920, 3224), (7800, 5200)]
    return tuple(
        Candidate(f"lambda {index}", errors, bits, occam_bound(errors, 60000, bits, 0.05).binomial, 3.0 * index)
        for index, (errors, bits) in enumerate(counts)
    )
