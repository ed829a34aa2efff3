"""Codec family 5: helper networks as they are, heads on their features, corrections of their logits."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitcert.coding import MessageWriter, step_size
from bitcert.data import Role, Sample
from bitcert.decoder import Helper, HelperWeights, Preprocessing, decode_message, network_head
from bitcert.decoder.features.network import feature_sources, network_features, part_sizes
from bitcert.decoder.network_head import FAMILY, Form, NetworkHeadCode, num_features, write
from bitcert.errors import DecodeError, InputError
from bitcert.network import capture


def small_network(outputs: int = 3, seed: int = 0) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        maps = [torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Conv2d(4, 5, 3)]
        dense = [
            torch.nn.ReLU(),
            torch.nn.Flatten(),
            torch.nn.Linear(20, 7),
            torch.nn.Tanh(),
            torch.nn.Linear(7, outputs),
        ]
        return torch.nn.Sequential(*maps, *dense).eval()


def helper_of(module: torch.nn.Module, classes: int = 3, shape: tuple[int, ...] = (1, 8, 8)) -> Helper:
    network = capture(module, torch.rand(2, *shape, generator=torch.Generator().manual_seed(1)))
    weights = HelperWeights.of(network.architecture, network.parameters)
    return Helper(shape, classes, Preprocessing(16.0), network.architecture, False, weights)


HELPER = helper_of(small_network())
OTHER_CLASSES = replace(helper_of(small_network(5)), classes_inferred=True)
NUM_SOURCES = len(feature_sources(HELPER.predictor))
PIXELS = np.random.default_rng(0).integers(0, 17, (6, 1, 8, 8), dtype=np.uint8)


def integers(helper: Helper, code: NetworkHeadCode, seed: int = 0) -> np.ndarray:
    shape = (num_features(helper, code), helper.num_classes)
    return np.rint(np.random.default_rng(seed).standard_cauchy(shape) * 0.3).clip(-500, 500).astype(np.int64)


def with_weights(helper: Helper, code: NetworkHeadCode, seed: int = 0) -> NetworkHeadCode:
    return replace(code, weights=integers(helper, code, seed))


def test_the_helper_network_as_it_is_is_one_byte() -> None:
    message, ledger = write(HELPER, NetworkHeadCode(Form.NETWORK))
    assert len(message) == 1
    assert ledger.sections == (("header", 6), ("form", 1), ("padding", 1))
    decoded = decode_message(message, HELPER)
    assert decoded.ledger == ledger
    expected = small_network()(torch.from_numpy(PIXELS / 16).float())
    torch.testing.assert_close(decoded.classifier(PIXELS), expected)


@settings(max_examples=12, deadline=None)
@given(
    source=st.integers(0, NUM_SOURCES - 1),
    root=st.booleans(),
    logits=st.booleans(),
    exponent=st.one_of(st.none(), st.integers(-20, 20)),
    seed=st.integers(0, 99),
)
def test_round_trip(source: int, root: bool, logits: bool, exponent: int | None, seed: int) -> None:
    code = NetworkHeadCode(Form.HEAD, source, root, logits)
    if exponent is not None:
        code = NetworkHeadCode(Form.CORRECTION, source, root, False, exponent)
    code = with_weights(HELPER, code, seed)
    message, ledger = write(HELPER, code)
    assert ledger.total_bits == 8 * len(message)
    decoded = decode_message(message, HELPER)
    assert decoded.ledger == ledger
    found = decoded.classifier.code
    assert [found.form, found.source, found.root] == [code.form, code.source, code.root]
    assert [found.with_logits, found.exponent] == [code.with_logits, code.exponent]
    np.testing.assert_array_equal(found.weights, code.weights)
    assert write(HELPER, found)[0] == message


def test_logits_of_a_head_and_of_a_correction() -> None:
    module, x = small_network(), torch.from_numpy(PIXELS / 16).float()
    source = feature_sources(HELPER.predictor)[0]
    hidden = module[:-1](x).detach()
    vectors = hidden / hidden.norm(dim=1, keepdim=True) * 7**0.5
    vectors = torch.cat([vectors, torch.ones(len(x), 1)], 1)
    assert source.nodes == (HELPER.predictor.nodes[-2].name,)
    head = with_weights(HELPER, NetworkHeadCode(Form.HEAD))
    expected = vectors @ torch.from_numpy(head.weights).float()
    logits = decode_message(write(HELPER, head)[0], HELPER).classifier(PIXELS)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    correction = replace(head, form=Form.CORRECTION, exponent=-6)
    logits = decode_message(write(HELPER, correction)[0], HELPER).classifier(PIXELS)
    torch.testing.assert_close(logits, module(x).detach() + step_size(-6) * expected, rtol=1e-4, atol=1e-4)


def test_features_do_not_depend_on_the_other_examples() -> None:
    code = with_weights(HELPER, NetworkHeadCode(Form.HEAD, NUM_SOURCES - 1, True, True))
    classifier = decode_message(write(HELPER, code)[0], HELPER).classifier
    alone = torch.cat([classifier(PIXELS[k : k + 1]) for k in range(len(PIXELS))])
    torch.testing.assert_close(classifier(PIXELS), alone, rtol=1e-4, atol=1e-4)


def test_every_source_has_the_sizes_that_are_announced() -> None:
    architecture = HELPER.predictor
    parameters = {k: torch.from_numpy(v) for k, v in HELPER.weights.values.items()}
    x = torch.from_numpy(PIXELS / 16).float()
    values = architecture.activations(x, parameters)
    sources = feature_sources(architecture)
    assert len(set(sources)) == len(sources) > 5
    for source in sources:
        for logits in (None, values[architecture.output]):
            features = network_features(source, True, values, logits)
            assert features.shape == (6, sum(part_sizes(architecture, source, logits is not None)) + 1)
            first = part_sizes(architecture, source, False)[0]
            torch.testing.assert_close(features[:, :first].norm(dim=1), torch.full((6,), first**0.5), rtol=1e-3, atol=0)


def test_a_network_of_other_classes_gives_heads_only() -> None:
    code = with_weights(OTHER_CLASSES, NetworkHeadCode(Form.HEAD, 0, False, True))
    message, ledger = write(OTHER_CLASSES, code)
    assert ledger.sections[1][0] == "number of classes"
    assert decode_message(message, OTHER_CLASSES).classifier(PIXELS).shape == (6, 3)
    for form in (Form.NETWORK, Form.CORRECTION):
        with pytest.raises(InputError, match="one output for each class"):
            write(OTHER_CLASSES, replace(code, form=form, with_logits=False))
    stated = replace(OTHER_CLASSES, classes_inferred=False)
    with pytest.raises(DecodeError, match="one output for each class"):
        decode_message(write(HELPER, NetworkHeadCode(Form.NETWORK))[0], stated)


def test_classes_read_off_the_labels_are_coded_unless_the_network_fixes_them() -> None:
    sample = Sample.from_arrays(PIXELS, np.array([0, 1, 2, 0, 1, 2]), Role.TRAIN, "toy")
    own = Helper.for_sample(sample, HELPER.predictor, None, HELPER.weights)
    other = Helper.for_sample(sample, OTHER_CLASSES.predictor, None, OTHER_CLASSES.weights)
    assert (own.classes_inferred, other.classes_inferred) == (False, True)
    assert len({own.content_hash, other.content_hash, HELPER.content_hash}) == 3
    with pytest.raises(InputError, match="read off the labels"):
        replace(own, classes_inferred=True)


def test_a_helper_without_network_or_weights_is_refused() -> None:
    message, _ = write(HELPER, NetworkHeadCode(Form.NETWORK))
    without = ({"weights": None}, {"predictor": None}, {"weights": None, "predictor": None})
    for helper in (replace(HELPER, **missing) for missing in without):
        with pytest.raises(DecodeError, match="network with its weights"):
            decode_message(message, helper)


def forged(form: int, source: int, exponent: int | None = None) -> bytes:
    writer = MessageWriter(FAMILY)
    with writer.section("all") as bits:
        bits.elias_gamma(form)
        bits.elias_gamma(source + 1)
        bits.binary(0, 1)
        if exponent is None:
            bits.binary(0, 1)
        else:
            bits.signed(exponent)
    return writer.finish()[0]


@pytest.mark.parametrize("message", [forged(4, 0), forged(2, NUM_SOURCES), forged(2, 1 << 40), forged(3, 0, 1 << 30)])
def test_forged_messages_are_refused(message: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_message(message, HELPER)


def test_an_empty_head_has_one_message() -> None:
    """The zeros of a section without content are a head of zeros, if they are the ones that are written for it."""
    code = decode_message(forged(2, 0), HELPER).classifier.code
    assert not code.weights.any()
    assert write(HELPER, code)[0] == forged(2, 0)


def test_damaged_messages_are_refused_or_another_hypothesis() -> None:
    code = with_weights(HELPER, NetworkHeadCode(Form.CORRECTION, 1, True, False, -7))
    message, _ = write(HELPER, code)
    for length in range(len(message)):
        with pytest.raises(DecodeError):
            decode_message(message[:length], HELPER)
    with pytest.raises(DecodeError):
        decode_message(message + b"\x00", HELPER)
    for bit in range(8 * len(message)):
        changed = bytearray(message)
        changed[bit >> 3] ^= 0x80 >> (bit & 7)
        try:
            decoded = decode_message(bytes(changed), HELPER)
        except DecodeError:
            continue
        if hasattr(decoded.classifier, "code") and decoded.classifier.code.form is not Form.NETWORK:
            assert write(HELPER, decoded.classifier.code)[0] == bytes(changed)


def test_no_message_is_a_prefix_of_another() -> None:
    tiny = helper_of(torch.nn.Sequential(torch.nn.Linear(1, 2, bias=False)), 2, (1,))
    messages = [write(tiny, NetworkHeadCode(Form.NETWORK))[0]]
    for values in np.ndindex(3, 3, 3, 3):
        weights = np.array(values).reshape(2, 2) - 1
        for root in (False, True):
            head = NetworkHeadCode(Form.CORRECTION, 0, root, False, -3, weights)
            messages += [write(tiny, replace(head, exponent=exponent))[0] for exponent in (-3, 0, 9)]
    words = sorted(messages)
    assert len(set(words)) == len(words)
    assert not any(b.startswith(a) for a, b in pairwise(words))
    assert sum(2.0 ** (-8 * len(word)) for word in words) <= 1


def test_the_same_logits_on_another_thread_count() -> None:
    code = with_weights(HELPER, NetworkHeadCode(Form.HEAD, 2, True, True))
    classifier = decode_message(write(HELPER, code)[0], HELPER).classifier
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = classifier(PIXELS)
        torch.set_num_threads(2)
        torch.testing.assert_close(classifier(PIXELS), one, rtol=1e-4, atol=1e-4)
    finally:
        torch.set_num_threads(threads)


def test_what_a_decoded_head_says_of_itself() -> None:
    code = NetworkHeadCode(Form.HEAD, 1, True, True)
    weights = np.zeros((num_features(HELPER, code), 3), dtype=np.int64)
    weights[[0, 2, -1], 1] = 5
    label = feature_sources(HELPER.predictor)[1].label
    said = {
        replace(code, weights=weights): f"integer linear head on {len(weights) - 1} features of the helper network "
        f"({label} and logits, square roots): 3 non-zero weights of {weights.size}",
        NetworkHeadCode(Form.CORRECTION, 0, False, False, 0, np.eye(8, 3, dtype=np.int64)): "helper network and an "
        "integer correction from 7 features of the helper network (tanh, 1x1): 3 non-zero weights of 24",
        NetworkHeadCode(Form.NETWORK): "the helper network as it is",
    }
    for written, description in said.items():
        message, ledger = write(HELPER, written)
        assert decode_message(message, HELPER).description == description
        names = [name for name, _ in ledger.sections]
        parts = [] if written.form is Form.NETWORK else ["features", "head weights"]
        assert names == ["header", "form", *parts, "padding"]


def test_rows_are_in_groups_of_their_parts_and_the_constant_is_in_none() -> None:
    model = network_head.row_model((2, 3), 4)
    assert model.groups.tolist() == [0, 0, 1, 1, 1, -1]
    assert model.columns == 4


def test_a_head_of_as_many_weights_as_allowed_is_read_and_a_larger_one_refused(monkeypatch) -> None:
    code = with_weights(HELPER, NetworkHeadCode(Form.HEAD, 1))
    message, _ = write(HELPER, code)
    assert network_head.MAX_WEIGHTS == 1 << 22
    monkeypatch.setattr(network_head, "MAX_WEIGHTS", code.weights.size)
    np.testing.assert_array_equal(decode_message(message, HELPER).classifier.code.weights, code.weights)
    monkeypatch.setattr(network_head, "MAX_WEIGHTS", code.weights.size - 1)
    with pytest.raises(DecodeError, match="at most"):
        decode_message(message, HELPER)


@pytest.mark.parametrize("shape", [(7, 3), (9, 3), (8, 2), (8, 4)])
def test_weights_of_another_shape_are_not_written(shape) -> None:
    with pytest.raises(ValueError, match=r"weights \[8, 3\] were expected"):
        write(HELPER, NetworkHeadCode(Form.HEAD, 0, weights=np.zeros(shape, dtype=np.int64)))


def test_a_network_fits_its_classes_if_it_has_an_output_for_each() -> None:
    assert network_head.fits_classes(HELPER)
    assert not network_head.fits_classes(OTHER_CLASSES)
    assert not network_head.fits_classes(Helper((1, 8, 8), 3))


def test_nothing_is_kept_for_gradients() -> None:
    head = decode_message(write(HELPER, with_weights(HELPER, NetworkHeadCode(Form.CORRECTION)))[0], HELPER).classifier
    parameters = {name: value.requires_grad_() for name, value in head.features.parameters.items()}
    values, logits = replace(head.features, parameters=parameters)(PIXELS, torch.float64)
    assert not values.requires_grad
    assert not logits.requires_grad
    assert values.dtype == logits.dtype == torch.float64
    assert values.shape == (6, sum(head.features.sizes) + 1)
