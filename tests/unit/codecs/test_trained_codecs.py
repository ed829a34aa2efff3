"""Codecs that train their message (subspace, mask) and the loop they share."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bitcert import Helper, Role, Run, Sample, capture, certify, decode_message
from bitcert.codecs.base import Codec, Selection
from bitcert.codecs.best import Search
from bitcert.codecs.integer_training import LatentIntegers
from bitcert.codecs.mask import RandomNetworkMask
from bitcert.codecs.random_subspace import RandomSubspace
from bitcert.codecs.training import Looks, Schedule, Status, Trainer
from bitcert.decoder import HelperWeights
from bitcert.decoder.tensors import Base
from bitcert.decoder.transforms.mask import Distribution
from bitcert.decoder.transforms.subspace import Allocation, Kind
from bitcert.errors import DecodeError, InputError
from bitcert.run import Checkpoint
from bitcert.theory.formulas.pruning_theory import naive_bits

SUBSPACE = RandomSubspace(dimension=30, num_steps=60, batch_size=32)
MASK = RandomNetworkMask(num_steps=60, batch_size=32, density=0.3, price=0.3, rate=0.03)
CODECS = (SUBSPACE, MASK)


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny steps on a busy machine wait for the second thread longer than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_network():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 2)
    )
    return capture(net.eval(), torch.rand(2, 1, 4, 4))


@pytest.fixture(scope="module")
def network():
    return make_network()


@pytest.fixture(scope="module")
def sample() -> Sample:
    """Bright left half or bright right half, [400, 1, 4, 4]."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400)
    inputs = rng.random((400, 1, 4, 4), dtype=np.float32)
    inputs[labels == 0, :, :, :2] += 0.6
    inputs[labels == 1, :, :, 2:] += 0.6
    return Sample(inputs, labels, 2, Role.TRAIN, "halves")


@pytest.mark.parametrize("codec", CODECS, ids=lambda c: c.name)
def test_training_learns_and_the_certificate_counts_the_decoded_message(codec, network, sample) -> None:
    assert isinstance(codec, Codec)
    run = Run()
    compressed = replace(codec, num_steps=200).encode(network, sample, run=run)
    certificate = certify(compressed, sample)
    best = min(run.candidates, key=lambda c: (c.bound, c.message_bits))
    assert certificate.errors == best.errors < 0.15 * len(sample)
    assert certificate.message_bits == best.message_bits == compressed.ledger.total_bits == 8 * len(compressed.message)
    assert certificate.bound == best.bound < 0.7
    assert sum(bits for _, bits in compressed.ledger.sections) == compressed.ledger.total_bits


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("allocation", Allocation)
def test_every_kind_of_subspace_decodes_to_what_was_trained(kind, allocation, network, sample) -> None:
    codec = replace(SUBSPACE, kind=kind, allocation=allocation, num_steps=5)
    compressed = codec.encode(network, sample)
    decoded = codec.decode(compressed.message, compressed.helper)
    assert decoded.ledger == compressed.ledger
    assert "subspace" in decoded.description


@pytest.mark.parametrize("distribution", Distribution)
@pytest.mark.parametrize("signed", [False, True])
def test_a_mask_keeps_entries_of_the_random_network(distribution, signed, network, sample) -> None:
    codec = replace(MASK, distribution=distribution, signed=signed, num_steps=20)
    compressed = codec.encode(network, sample)
    weights = decode_message(compressed.message, compressed.helper).classifier.weights
    for name in ("0.weight", "4.weight"):
        sizes = np.unique(np.abs(weights[name].numpy()))
        assert len(sizes) > 1
        assert distribution is Distribution.NORMAL or len(sizes) == 2
    assert not weights["4.bias"].any()


@pytest.mark.parametrize("base", [Base.RANDOM, Base.NEUTRAL, Base.FILE])
def test_bases_of_a_subspace(base, network, sample) -> None:
    helper = replace(
        Helper.for_sample(sample, network.architecture),
        weights=HelperWeights.of(network.architecture, network.parameters),
    )
    codec = replace(SUBSPACE, num_steps=3, selection=Selection(base=base, seed=4))
    compressed = codec.encode(network, sample, helper=helper)
    weight = decode_message(compressed.message, helper).classifier.weights["4.weight"]
    untrained = network.parameters["4.weight"]
    assert bool((weight - untrained).abs().max() < 1e-6) == (base is Base.FILE)


@pytest.mark.parametrize("codec", CODECS, ids=lambda c: c.name)
def test_resuming_gives_the_message_of_an_uninterrupted_run(codec, network, sample, tmp_path, ticking) -> None:
    ticking(2**-5)  # sums of which are exact
    codec = replace(codec, num_steps=None)

    class Killed(Exception):
        pass

    def kill(task: str, fraction: float) -> None:
        if fraction > 0.8:
            raise Killed

    def run(name: str, progress=lambda task, fraction: None) -> Run:
        return Run(budget_seconds=3.0, checkpoint=Checkpoint(tmp_path / name, "same"), progress=progress)

    schedule = replace(codec.schedule(), checkpoint_seconds=0.6)
    patched = type(codec).schedule
    type(codec).schedule = lambda self: schedule  # type: ignore[method-assign]
    try:
        whole = codec.encode(network, sample, run=run("whole"))
        with pytest.raises(Killed):
            codec.encode(network, sample, run=run("killed", kill))
        resumed = codec.encode(network, sample, run=run("killed"))
    finally:
        type(codec).schedule = patched  # type: ignore[method-assign]
    assert len(whole.candidates) == 2
    assert resumed.message == whole.message
    assert [(c.name, c.errors, c.message_bits) for c in resumed.candidates] == [
        (c.name, c.errors, c.message_bits) for c in whole.candidates
    ]


_SCRIPT = """
import hashlib, sys, torch
torch.set_num_threads(int(sys.argv[1]))
from bitcert import Helper, decode_message
from bitcert.network.decode import decode_architecture
folder = sys.argv[2]
architecture = decode_architecture(open(folder + "/a.json").read())
helper = Helper(architecture.input_shape, architecture.num_outputs, predictor=architecture)
for name in ("subspace", "mask"):
    weights = decode_message(open(folder + "/" + name, "rb").read(), helper).classifier.weights
    print(hashlib.sha256(b"".join(weights[k].numpy().tobytes() for k in sorted(weights))).hexdigest())
"""


def test_decoding_is_identical_in_a_fresh_process_and_with_other_threads(network, sample, tmp_path) -> None:
    (tmp_path / "a.json").write_text(network.architecture.to_json())
    hashes = []
    for codec in CODECS:
        compressed = replace(codec, num_steps=5).encode(network, sample)
        (tmp_path / codec.name).write_bytes(compressed.message)
        weights = decode_message(compressed.message, compressed.helper).classifier.weights
        content = b"".join(weights[name].numpy().tobytes() for name in sorted(weights))
        hashes.append(hashlib.sha256(content).hexdigest())
    out = subprocess.run(
        [sys.executable, "-c", _SCRIPT, "2", str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert out.stdout.split() == hashes


@pytest.mark.parametrize("codec", CODECS, ids=lambda c: c.name)
def test_damaged_messages_are_refused_or_decode_to_something(codec, network, sample) -> None:
    compressed = replace(codec, num_steps=5).encode(network, sample)
    refused = 0
    for bit in range(0, 8 * len(compressed.message), 3):
        content = bytearray(compressed.message)
        content[bit // 8] ^= 1 << (bit % 8)
        try:
            decode_message(bytes(content), compressed.helper).classifier(sample.inputs[:2])
        except DecodeError:
            refused += 1
    assert refused > 0


@pytest.mark.parametrize("codec", CODECS, ids=lambda c: c.name)
def test_diverged_training_still_gives_a_message(codec, network, sample, monkeypatch) -> None:
    monkeypatch.setattr(Trainer, "step", lambda self, fraction: float("nan"))
    compressed = codec.encode(network, sample)
    assert compressed.candidates[0].name.endswith("because training diverged")


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandomSubspace(dimension=0),
        lambda: RandomSubspace(price=float("nan")),
        lambda: RandomSubspace(price=-1.0),
        lambda: RandomSubspace(rate=0.0),
        lambda: RandomSubspace(batch_size=0),
        lambda: RandomSubspace(num_steps=0),
        lambda: RandomSubspace(selection=Selection(layers=("0.weight",), base=Base.RANDOM)),
        lambda: RandomNetworkMask(density=0.0),
        lambda: RandomNetworkMask(density=1.5),
        lambda: RandomNetworkMask(density=float("nan")),
        lambda: RandomNetworkMask(price=float("inf")),
        lambda: RandomNetworkMask(rate=float("nan")),
        lambda: RandomNetworkMask(selection=Selection(base=Base.RANDOM)),
        lambda: RandomNetworkMask(selection=Selection(layers=("0.weight",))),
    ],
)
def test_bad_options_are_refused_in_one_sentence(make) -> None:
    with pytest.raises(InputError) as refused:
        make()
    assert "\n" not in str(refused.value)


def test_more_dimensions_than_weights_and_no_sample_are_refused(network, sample) -> None:
    with pytest.raises(InputError, match="change the dimension"):
        RandomSubspace(dimension=10**6).encode(network, sample)
    for codec in CODECS:
        with pytest.raises(InputError, match="sample"):
            codec.encode(network)


def test_theory_counts_what_it_says(network) -> None:
    theory = SUBSPACE.theory(network)
    assert theory.parameters == 30
    assert theory.error is None
    masks = MASK.theory(network)
    kept = {row.layer: row.details["kept"] for row in masks.layers}
    assert kept["4.weight"] == round(0.3 * 512)
    assert sum(row.details["mask_bits"] for row in masks.layers) == pytest.approx(
        sum(naive_bits(row.actual, round(row.parameters), 1) for row in masks.layers)
    )


@pytest.mark.parametrize("codec", [RandomSubspace, RandomNetworkMask])
def test_strengths_and_labels(codec) -> None:
    labels = [instance.label for instance in codec.strengths()]
    assert len(set(labels)) == len(labels) >= 3


class _Line:
    """One number that wants to be 3."""

    def __init__(self) -> None:
        self.latent = torch.zeros(2, requires_grad=True)

    def weights(self):
        return {"weight": torch.stack([self.latent, -self.latent])}

    def groups(self):
        return [{"params": [self.latent]}]

    def before_step(self, fraction: float) -> None:
        pass

    def after_step(self, fraction: float) -> None:
        pass

    def state(self):
        return {"latent": self.latent}


@pytest.fixture
def search(toy) -> Search:
    network = capture(nn.Linear(2, 2, bias=False), torch.zeros(1, 2))
    return Search(toy, Helper.for_sample(toy, network.architecture), Run(budget_seconds=1000.0))


def test_the_loop_looks_once_at_each_fraction_and_stops_at_its_last_step(search) -> None:
    seen: list[float] = []
    trainer = Trainer(search, _Line(), Schedule(num_steps=10, batch_size=50, rate=0.1))
    assert trainer.train(1000.0, Looks((0.0, 0.5, 0.9), seen.append)) is Status.DONE
    assert trainer.num_steps == 10
    assert seen == [0.0, 0.5, 0.9]


def test_the_loop_ends_with_the_time(search, ticking) -> None:
    ticking(0.1)
    search.run = Run(budget_seconds=2.0)
    trainer = Trainer(search, _Line(), Schedule(num_steps=10_000, batch_size=50))
    assert trainer.train(2.0) is Status.OUT_OF_TIME
    assert 10 <= trainer.num_steps <= 20


def test_a_loss_that_is_not_finite_ends_the_training(search) -> None:
    line = _Line()
    with torch.no_grad():
        line.latent.fill_(float("nan"))
    trainer = Trainer(search, line, Schedule(num_steps=10))
    assert trainer.train(1000.0) is Status.DIVERGED
    assert trainer.num_steps == 1
    assert not trainer.is_finite()


def test_batches_are_a_function_of_seed_and_step(search) -> None:
    one, two = (Trainer(search, _Line(), Schedule(batch_size=100)) for _ in range(2))
    seen = []
    for step in range(3):
        one.num_steps = step
        seen.append(one.batch()[0])
    two.num_steps = 2
    assert torch.equal(two.batch()[0], seen[2])
    together = torch.cat(seen)
    assert together.shape == (300, 2)
    assert len(torch.unique(together, dim=0)) == 300
    two.num_steps = 3
    assert not torch.equal(two.batch()[0], seen[0])


def test_a_dear_bit_empties_the_integers_and_frozen_ones_stay() -> None:
    latent = torch.linspace(-1.2, 1.2, 101)
    integers = LatentIntegers(latent, 1e9, 100)
    for _ in range(50):
        integers.latent.grad = torch.zeros_like(latent)
        integers.add_rate_gradient(0.4)
        with torch.no_grad():
            integers.latent -= 0.05 * integers.latent.grad.sign()
        integers.after_step(0.4)
    assert np.count_nonzero(integers.values()) < 5
    integers.finish()
    fixed = integers.values()
    with torch.no_grad():
        integers.latent += 7
    assert np.array_equal(integers.values(), fixed)
