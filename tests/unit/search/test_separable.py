"""Separable nets: the message is the net, hostile bytes are refused, training keeps to its budget and learns."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitcert.coding import MessageReader, MessageWriter, integer_code_bits
from bitcert.counting import count_errors
from bitcert.data import Role, Sample, load_sample
from bitcert.decoder import Helper, decode_message
from bitcert.decoder.separable import FAMILY, SETTINGS_GRID, SeparableNet, contexts, read, tensor_shapes, write
from bitcert.errors import DecodeError, InputError
from bitcert.random import stream
from bitcert.run import Checkpoint, Run
from bitcert.search import train_separable
from bitcert.search.train_separable import RateModel, compress_separable, default_settings

DIGITS = Helper((1, 8, 8), 10)
SHAPES = ((1, 8, 8), (1, 28, 28), (3, 32, 32))


def some_integers(index: int, helper: Helper, seed: int = 0) -> np.ndarray:
    rng = stream(seed, "test/separable")
    size = len(contexts(SETTINGS_GRID[index], helper))
    return np.rint(rng.standard_normal(size) * rng.integers(0, 3, size)).astype(np.int64)


def net_of(message: bytes, helper: Helper) -> SeparableNet:
    net = decode_message(message, helper).classifier
    assert isinstance(net, SeparableNet)
    return net


@pytest.fixture(scope="module")
def digits() -> Sample:
    return load_sample("digits", Role.TRAIN)


@pytest.mark.parametrize("index", range(len(SETTINGS_GRID)))
@pytest.mark.parametrize("input_shape", SHAPES)
def test_round_trip_is_bitwise_and_the_ledger_sums_to_the_file(index: int, input_shape: tuple[int, ...]) -> None:
    helper = Helper(input_shape, 10)
    integers = some_integers(index, helper)
    message, ledger = write(index, helper, integers)
    net = net_of(message, helper)
    flat = torch.cat([w.flatten() for w in net.weights]).numpy()
    assert net.settings == SETTINGS_GRID[index]
    assert flat.dtype == np.float32
    assert flat.tobytes() == integers.astype(np.float32).tobytes()
    assert tuple(w.shape for w in net.weights) == tensor_shapes(net.settings, helper)
    decoded = decode_message(message, helper)
    assert ledger.total_bits == 8 * len(message) == decoded.ledger.total_bits
    assert ledger.sections == decoded.ledger.sections
    logits = net(np.ones((2, *input_shape), np.uint8))
    assert logits.shape == (2, 10)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("index", [0, 7])
def test_the_settings_index_is_coded_as_elias_gamma(index: int) -> None:
    _, ledger = write(index, DIGITS, some_integers(index, DIGITS))
    assert dict(ledger.sections)["settings"] == 2 * (index + 1).bit_length() - 1


def test_a_common_scale_of_a_tensor_changes_no_decision(digits: Sample) -> None:
    integers = some_integers(1, DIGITS)
    where = contexts(SETTINGS_GRID[1], DIGITS)
    once = net_of(write(1, DIGITS, integers)[0], DIGITS)(digits.inputs[:100])
    scaled = integers * np.array([3, 1, 7, 2])[where]
    again = net_of(write(1, DIGITS, scaled)[0], DIGITS)(digits.inputs[:100])
    torch.testing.assert_close(again, 2 * once, rtol=1e-3, atol=1e-2)


def test_a_fresh_process_computes_the_same_logits(tmp_path: Path) -> None:
    message, _ = write(1, DIGITS, some_integers(1, DIGITS))
    inputs = stream(0, "test/inputs").integers(0, 17, (20, 1, 8, 8)).astype(np.uint8)
    (tmp_path / "message.bin").write_bytes(message)
    np.save(tmp_path / "inputs.npy", inputs)
    program = (
        "import numpy as np\n"
        "from bitcert.decoder import Helper, decode_message\n"
        "net = decode_message(open('message.bin', 'rb').read(), Helper((1, 8, 8), 10)).classifier\n"
        "np.save('logits.npy', net(np.load('inputs.npy')).numpy())\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    here = net_of(message, DIGITS)(inputs).numpy()
    assert np.load(tmp_path / "logits.npy").tobytes() == here.tobytes()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_changed_bytes_decode_to_another_message_or_are_refused(data: st.DataObject) -> None:
    message = bytearray(write(0, DIGITS, some_integers(0, DIGITS))[0])
    position = data.draw(st.integers(0, len(message) - 1))
    message[position] ^= data.draw(st.integers(1, 255))
    try:
        net = decode_message(bytes(message), DIGITS).classifier
    except DecodeError:
        return
    if isinstance(net, SeparableNet):
        integers = torch.cat([w.flatten() for w in net.weights]).numpy().astype(np.int64)
        assert write(SETTINGS_GRID.index(net.settings), DIGITS, integers)[0] == bytes(message)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60), st.integers(0, len(SETTINGS_GRID) + 3))
def test_noise_after_the_header_is_refused_or_canonical(noise: bytes, index: int) -> None:
    writer = MessageWriter(FAMILY)
    with writer.section("settings") as bits:
        bits.elias_gamma(index + 1)
        bits.extend(np.unpackbits(np.frombuffer(noise, np.uint8)))
    try:
        decode_message(writer.finish()[0], DIGITS)
    except DecodeError:
        return
    assert index < len(SETTINGS_GRID)


def test_a_truncation_is_refused() -> None:
    message, _ = write(0, DIGITS, some_integers(0, DIGITS))
    for length in range(0, len(message), 5):
        with pytest.raises(DecodeError):
            decode_message(message[:length], DIGITS)


@pytest.mark.parametrize("index", [len(SETTINGS_GRID), 10**15])
def test_unknown_settings_are_refused(index: int) -> None:
    writer = MessageWriter(FAMILY)
    with writer.section("settings") as bits:
        bits.elias_gamma(index + 1)
    with pytest.raises(DecodeError, match="settings"):
        decode_message(writer.finish()[0] + bytes(50), DIGITS)


@pytest.mark.parametrize("helper", [Helper((1, 8, 8), 10**12), Helper((10**9, 8, 8), 10)])
def test_a_helper_with_absurd_sizes_is_refused_before_memory_is_taken(helper: Helper) -> None:
    message, _ = write(0, DIGITS, some_integers(0, DIGITS))
    with pytest.raises(DecodeError, match="weights"):
        decode_message(message, helper)


@pytest.mark.parametrize("input_shape", [(64,), (8, 8), (1, 1, 8, 8), (0, 8, 8)])
def test_inputs_that_are_not_images_are_refused(input_shape: tuple[int, ...]) -> None:
    helper = Helper(input_shape, 10)
    with pytest.raises(InputError, match="images"):
        tensor_shapes(SETTINGS_GRID[0], helper)
    with pytest.raises(DecodeError, match="images"):
        read(MessageReader(write(0, DIGITS, some_integers(0, DIGITS))[0]), helper)


def test_compressing_a_table_is_refused() -> None:
    rng = stream(0, "test/table")
    table = Sample(rng.standard_normal((20, 5)).astype(np.float32), np.arange(20) % 2, 2, Role.TRAIN, "table")
    with pytest.raises(InputError, match="images"):
        compress_separable(table, Helper.for_sample(table), Run(budget_seconds=1))


@pytest.mark.parametrize("index", [-1, len(SETTINGS_GRID)])
def test_settings_outside_the_grid_are_refused(digits: Sample, index: int) -> None:
    with pytest.raises(InputError, match="settings"):
        compress_separable(digits, Helper.for_sample(digits), Run(budget_seconds=1), settings=index)


def test_the_default_settings_depend_on_sizes_alone() -> None:
    assert default_settings(1797, DIGITS) == 0
    assert default_settings(60_000, Helper((1, 28, 28), 10)) == default_settings(60_001, Helper((1, 32, 32), 47))
    assert default_settings(50_000, Helper((3, 32, 32), 10)) != default_settings(60_000, Helper((1, 28, 28), 10))


@pytest.mark.parametrize("spread", [0.4, 1.0, 1.5])
def test_the_rate_model_is_close_to_the_code_at_integers(spread: float) -> None:
    rng = stream(1, "test/rate")
    integers = np.rint(rng.laplace(0, spread, 600)).astype(np.int64)
    where, sizes = torch.zeros(600, dtype=torch.int64), torch.tensor([600.0])
    rounded = torch.from_numpy(integers).float()
    bits = float(RateModel.fit(rounded, where, sizes).bits(rounded, where))
    assert bits == pytest.approx(integer_code_bits(integers), rel=0.1)


def test_the_rate_pulls_every_weight_towards_zero() -> None:
    scaled = torch.tensor([-3.2, -0.4, 0.3, 0.9, 1.6, 20.0], requires_grad=True)
    where, sizes = torch.zeros(6, dtype=torch.int64), torch.tensor([6.0])
    RateModel.fit(scaled.detach().round(), where, sizes).bits(scaled, where).backward()
    assert scaled.grad is not None
    assert torch.equal(torch.sign(scaled.grad), torch.sign(scaled.detach()))


def test_a_short_training_learns_within_its_budget(digits: Sample, ticking) -> None:
    ticking(0.0015)
    helper, seen = Helper.for_sample(digits), []
    run = Run(budget_seconds=6.0, progress=lambda task, fraction: seen.append(fraction))
    compressed = compress_separable(digits, helper, run)
    assert run.seconds < 6.0 + 2.0
    count = count_errors(decode_message(compressed.message, helper).classifier, digits)
    best = min(compressed.candidates, key=lambda candidate: candidate.bound)
    assert count.errors == best.errors < 0.6 * len(digits)
    assert best.message_bits == 8 * len(compressed.message) == compressed.ledger.total_bits
    assert best.bound < compressed.candidates[0].bound
    assert seen == sorted(seen)


def test_a_killed_training_goes_on_from_its_checkpoint(
    digits: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ticking
) -> None:
    ticking(0.0015)

    class Killed(Exception):
        pass

    def kill(task: str, fraction: float) -> None:
        if fraction > 0.7:
            raise Killed

    helper, path = Helper.for_sample(digits), tmp_path / "checkpoint.safetensors"
    monkeypatch.setattr(train_separable, "CHECKPOINT_SECONDS", 0.05)
    first = Run(budget_seconds=4.0, progress=kill, checkpoint=Checkpoint(path, "a"))
    with pytest.raises(Killed):
        compress_separable(digits, helper, first)
    saved = Checkpoint(path, "a").load()
    assert saved is not None
    seen: list[float] = []
    again = Run(
        budget_seconds=4.0, progress=lambda task, fraction: seen.append(fraction), checkpoint=Checkpoint(path, "a")
    )
    compressed = compress_separable(digits, helper, again)
    assert compressed.candidates[0].name == "from the checkpoint"
    assert compressed.candidates[0].errors < 0.85 * len(digits)
    assert seen[0] > 0.5
    assert again.seconds < 4.0 + 2.0


def test_a_finished_training_is_not_repeated(digits: Sample, tmp_path: Path) -> None:
    helper, checkpoint = Helper.for_sample(digits), Checkpoint(tmp_path / "c.safetensors", "a")
    first = compress_separable(digits, helper, Run(budget_seconds=0.5, checkpoint=checkpoint))
    second = compress_separable(digits, helper, Run(budget_seconds=0.5, checkpoint=checkpoint))
    assert second.message == first.message
    assert len(second.candidates) == 1


def test_a_checkpoint_of_other_settings_is_ignored(digits: Sample, tmp_path: Path) -> None:
    helper, checkpoint = Helper.for_sample(digits), Checkpoint(tmp_path / "c.safetensors", "a")
    compress_separable(digits, helper, Run(budget_seconds=0.3, checkpoint=checkpoint), settings=2)
    compressed = compress_separable(digits, helper, Run(budget_seconds=0.3, checkpoint=checkpoint), settings=0)
    assert compressed.candidates[0].name == "untrained"
    assert net_of(compressed.message, helper).settings == SETTINGS_GRID[0]
