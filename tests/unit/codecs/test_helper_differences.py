"""The difference from public weights in the forms that a transfer needs: low rank, sparse, subspace, head only."""

from __future__ import annotations

import pytest
import torch

from bitcert.certificates.certification import certify
from bitcert.codecs import codec_from
from bitcert.data import Role, Sample, load_sample
from bitcert.decoder import Helper, HelperWeights, Preprocessing
from bitcert.network import Network, capture
from bitcert.run import Run

FORMS = {
    "low rank": ("svd", {"rank": "1"}),
    "sparse": ("prune", {"keep": "0.02"}),
    "subspace": ("subspace", {"dimension": "10", "num_steps": "20"}),
    "head only": ("quantise", {"fraction": "1.0", "layers": "3.weight"}),
}


def trained(module: torch.nn.Module, sample: Sample, steps: int, rate: float) -> Network:
    x, y = Preprocessing(16.0)(sample.inputs), torch.tensor(sample.labels)
    optimiser = torch.optim.Adam(module.parameters(), rate)
    for _step in range(steps):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(module(x), y).backward()
        optimiser.step()
    return capture(module, x[:2])


@pytest.fixture(scope="module")
def transfer() -> tuple[Network, Sample, Helper]:
    """A network trained elsewhere, and the same after training on the sample."""
    digits = load_sample("digits", Role.TRAIN)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [torch.nn.Flatten(), torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10)]
        module = torch.nn.Sequential(*layers)
        public = trained(module, digits.take(slice(0, 600)), 80, 5e-3)
        sample = digits.take(slice(600, 1797))
        tuned = trained(module, sample, 30, 1e-3)
    weights = HelperWeights.of(public.architecture, public.parameters)
    return tuned, sample, Helper.for_sample(sample, public.architecture, Preprocessing(16.0), weights)


@pytest.mark.parametrize("form", FORMS)
def test_a_difference_costs_less_than_the_network(form: str, transfer: tuple[Network, Sample, Helper]) -> None:
    network, sample, helper = transfer
    name, options = FORMS[form]
    difference = codec_from(name, {**options, "base": "file", "rest": "helper"})
    compressed = difference.encode(network, sample, helper=helper, run=Run(budget_seconds=1e9))
    assert compressed.helper.weights is not None
    assert compressed.ledger.total_bits == 8 * len(compressed.message)
    certificate = certify(compressed, sample)
    whole = certify(codec_from("quantise").encode(network, sample, helper=helper), sample)
    assert certificate.message_bits < 0.5 * whole.message_bits
    assert certificate.bound < min(0.9, whole.bound)
