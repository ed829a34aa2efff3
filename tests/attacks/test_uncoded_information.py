"""Ways to smuggle what was learned past the bit count: each must be coded, refused, or said aloud."""

import numpy as np
import pytest
import torch
from torch import nn

from bitcert.certificates.certification import certify
from bitcert.codecs.tuned import compress_values
from bitcert.data import Role, Sample
from bitcert.decoder import Helper, Preprocessing, decode_message
from bitcert.decoder import head as bank_head
from bitcert.decoder.helper import MAX_CONSTANTS, count_unusual_scalars
from bitcert.errors import CaptureError, DecodeError, InputError
from bitcert.network import Architecture, capture, capture_opaque
from bitcert.network.decode import decode_architecture
from bitcert.network.nodes import Node, ParameterSpec
from bitcert.run import Compressed, Run


class Integers(nn.Module):
    """All that was learned lies in whole numbers and booleans; the branch keeps torch.export away."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("table", torch.randint(-100, 100, (8, 3), generator=generator, dtype=torch.int8))
        self.register_buffer("mask", torch.rand(8, 3, generator=generator) < 0.5)
        self.norm = nn.BatchNorm1d(8)

    def forward(self, x):
        if bool((x > 1e9).any()):
            x = x * 0
        return self.norm(x) @ (self.table.float() * self.mask)


@pytest.fixture
def sample():
    rng = np.random.default_rng(0)
    return Sample(rng.normal(size=(60, 8)).astype(np.float32), rng.integers(0, 3, 60), 3, Role.TRAIN, "toy")


@pytest.mark.parametrize("fine_tune", [False, True])
def test_whole_numbers_and_booleans_of_an_opaque_module_are_coded_exactly(sample, fine_tune):
    module = Integers()
    opaque, values = capture_opaque(module, "package.module:factory", torch.from_numpy(sample.inputs[:4].copy()))
    assert {spec.name: spec.kind for spec in opaque.parameters}["table"] == "buffer"
    helper = Helper.for_sample(sample, opaque)
    compressed = compress_values(values, sample, helper, Run(budget_seconds=0.5), fine_tune=fine_tune)
    bits = dict(compressed.ledger.sections)
    assert bits["table"] > 8 * 3 * 5
    assert bits["mask"] > 8
    weights = decode_message(compressed.message, helper).classifier.weights
    assert torch.equal(weights["table"], module.table.float())
    assert torch.equal(weights["mask"], module.mask.float())


def test_a_fresh_module_has_the_same_hash_whatever_was_trained(sample):
    example = torch.from_numpy(sample.inputs[:4].copy())
    trained = Integers()
    trained.train()(example)
    first, _ = capture_opaque(trained, "package.module:factory", example)
    second, _ = capture_opaque(Integers(), "package.module:factory", example)
    assert first.content_hash == second.content_hash


@pytest.mark.parametrize("state", [torch.ones(3, dtype=torch.complex64), torch.tensor([2**24])])
def test_state_that_float32_cannot_hold_is_refused(sample, state):
    module = Integers()
    module.register_buffer("odd", state)
    with pytest.raises(CaptureError, match="odd"):
        capture_opaque(module, "package.module:factory", torch.from_numpy(sample.inputs[:4].copy()))


def _memorising(count):
    nodes = [Node(f"n{k}", "add_scalar", (f"n{k - 1}" if k else "input",), {"value": 0.123 + k}) for k in range(count)]
    return Architecture((3,), 3, tuple(nodes), ())


def test_a_network_made_of_constants_is_refused(sample):
    assert count_unusual_scalars(_memorising(5)) == 5
    Helper((3,), 3, Preprocessing(), _memorising(MAX_CONSTANTS))
    with pytest.raises(InputError, match="parameters"):
        Helper((3,), 3, Preprocessing(), _memorising(MAX_CONSTANTS + 1))
    with pytest.raises(InputError, match="constants"):
        Helper((400,), 3, Preprocessing(1.0, (0.5,) * 400, (2.0,) * 400))


def test_a_number_of_classes_read_off_the_labels_cannot_be_left_out():
    rng = np.random.default_rng(0)
    inferred = Sample.from_arrays(rng.normal(size=(60, 8)).astype(np.float32), rng.integers(0, 3, 60), Role.TRAIN, "t")
    silent = Helper((8,), 3)
    message, ledger = bank_head.write(None, np.zeros((9, 3), np.int64), silent)
    with pytest.raises(InputError, match="number of classes"):
        certify(Compressed(message, ledger, silent), inferred)
    network = capture(nn.Linear(8, 3), torch.rand(2, 8))
    with pytest.raises(InputError, match="width"):
        Helper((8,), 3, Preprocessing(), network.architecture, classes_inferred=True)


def test_the_batch_size_follows_from_the_helper():
    assert Helper((1, 28, 28), 10).batch_size == 1000
    wide = capture(nn.Sequential(nn.Linear(2, 1 << 20), nn.Linear(1 << 20, 2)), torch.rand(2, 2)).architecture
    assert Helper((2,), 2, Preprocessing(), wide).batch_size == 64


def test_a_convolution_of_a_parameter_is_a_decode_error():
    specs = (ParameterSpec("p", (4,), "bias"), ParameterSpec("w", (3,), "bias"))
    text = Architecture((4,), 4, (Node("a", "relu", ("input",)),), specs).to_json()
    attributes = '"attributes":{"dilation":[1],"groups":1,"padding":[0],"stride":[1]}'
    broken = text.replace('"relu"', '"conv1d"').replace('["input"]', '["p","w"]').replace('"attributes":{}', attributes)
    assert broken != text
    with pytest.raises(DecodeError, match="weight of shape"):
        decode_architecture(broken)
