"""Prior networks: trained on the prior part and on nothing else, from fresh values."""

from __future__ import annotations

import unittest.mock
from pathlib import Path

import numpy as np
import pytest
import torch

from bitcert.certificates.certification import certify
from bitcert.data import Role, Sample, load_sample
from bitcert.data.split import split_prior
from bitcert.decoder import Helper, HelperWeights
from bitcert.decoder.network_head import Form, NetworkHeadCode, write
from bitcert.errors import CaptureError, InputError, ModelError
from bitcert.network import capture
from bitcert.run import Checkpoint, Compressed, Run
from bitcert.search.prior import PriorRecipe, PriorTrainer, breaks_channels_last, multiplies_bfloat16, train_prior
from bitcert.search.prior_network import augment, built_in_network, initial_values, initialise_module
from bitcert.search.request import CertifyRequest

FOREVER = 1e9
FEW = PriorRecipe(batch_size=20, max_steps=3)


def digits() -> Sample:
    return load_sample("digits", Role.TRAIN)


def hash_of(network) -> str:
    return HelperWeights.of(network.architecture, network.parameters).content_hash


def two_layers() -> torch.nn.Module:
    layers = [torch.nn.Flatten(), torch.nn.Linear(64, 9), torch.nn.BatchNorm1d(9), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(9, 10))


def test_labels_of_the_rest_do_not_reach_the_helper() -> None:
    full = digits()
    prior, rest = split_prior(full, 0.5, 0)
    inside = np.isin(full.example_hashes.view("<u8")[::2], prior.example_hashes.view("<u8")[::2])
    labels = np.where(inside, full.labels, 9 - full.labels)
    poisoned = Sample(full.inputs, labels, 10, Role.TRAIN, "digits")
    other_prior, other_rest = split_prior(poisoned, 0.5, 0)
    assert (other_rest.labels != rest.labels).all()
    one = train_prior(prior, Run(budget_seconds=FOREVER), two_layers(), recipe=FEW)
    two = train_prior(other_prior, Run(budget_seconds=FOREVER), two_layers(), recipe=FEW)
    assert hash_of(one) == hash_of(two)
    wrong = Sample(prior.inputs, 9 - prior.labels, 10, Role.PRIOR, prior.name)
    assert hash_of(train_prior(wrong, Run(budget_seconds=FOREVER), two_layers(), recipe=FEW)) != hash_of(one)


@pytest.mark.parametrize("captured", [False, True])
def test_weights_of_a_given_network_do_not_reach_the_helper(captured: bool) -> None:
    prior, _ = split_prior(digits(), 0.5, 0)
    hashes = set()
    for value in (0.0, 0.7):
        model = two_layers().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(value)
            model[2].running_mean.fill_(value)
            model[2].running_var.fill_(1 + value)
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        given = capture(model, torch.zeros(2, 1, 8, 8)) if captured else model
        hashes.add(hash_of(train_prior(prior, Run(budget_seconds=FOREVER), given, recipe=FEW)))
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, state[name]), "the module that was given was changed"
    assert len(hashes) == 1


def test_another_seed_another_network() -> None:
    prior, _ = split_prior(digits(), 0.5, 0)
    networks = [
        train_prior(prior, Run(seed=seed, budget_seconds=FOREVER), two_layers(), recipe=FEW) for seed in (0, 0, 1)
    ]
    assert [hash_of(networks[0]) == hash_of(network) for network in networks] == [True, True, False]


def test_the_helper_network_is_certified_on_the_rest() -> None:
    prior, rest = split_prior(digits(), 0.5, 0)
    recipe = PriorRecipe(batch_size=50, max_steps=60, averaging=20)
    network = train_prior(prior, Run(budget_seconds=FOREVER), two_layers(), recipe=recipe)
    helper = CertifyRequest(rest, helper_network=network).public_helper
    message, ledger = write(helper, NetworkHeadCode(Form.NETWORK))
    certificate = certify(Compressed(message, ledger, helper), rest)
    assert certificate.samples == len(rest)
    assert certificate.message_bits == 8
    assert certificate.errors / len(rest) < certificate.bound < 0.35


def test_resuming_gives_the_same_network(tmp_path: Path) -> None:
    prior, _ = split_prior(digits(), 0.5, 0)
    # two steps an epoch: it is resumed in the middle of the second
    six = PriorRecipe(batch_size=300, max_steps=6, checkpoint_seconds=-1.0)
    whole = train_prior(prior, Run(budget_seconds=FOREVER), two_layers(), recipe=six)
    checkpoint = Checkpoint(tmp_path / "state.safetensors", "a")
    run = Run(budget_seconds=FOREVER, checkpoint=checkpoint)

    def interrupt(task: str, fraction: float) -> None:
        if fraction >= 0.5:
            raise KeyboardInterrupt

    run.progress = interrupt
    with pytest.raises(KeyboardInterrupt):
        train_prior(prior, run, two_layers(), recipe=six)
    resumed = train_prior(prior, Run(budget_seconds=FOREVER, checkpoint=checkpoint), two_layers(), recipe=six)
    assert hash_of(resumed) == hash_of(whole)


class Viewing(torch.nn.Module):
    """As tutorials write it: ``view`` on a feature map, which a channels-last map does not allow."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.head = torch.nn.Conv2d(1, 4, 3), torch.nn.Linear(4 * 36, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.convolution(x))
        return self.head(x.view(x.size(0), -1))


class Flattening(Viewing):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.convolution(x)).flatten(1))


def test_a_module_that_views_its_maps_is_trained_as_well_as_one_that_flattens_them() -> None:
    prior, _ = split_prior(digits(), 0.5, 0)
    one, two = (train_prior(prior, Run(budget_seconds=FOREVER), kind(), recipe=FEW) for kind in (Viewing, Flattening))
    for name, value in one.parameters.items():
        assert torch.allclose(value, two.parameters[name], atol=1e-5), "the memory format changes no more than rounding"


def test_finding_the_memory_format_changes_nothing_else() -> None:
    """Neither the module nor the stream of random numbers that its dropout draws from."""
    prior, _ = split_prior(digits(), 0.5, 0)
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten())
    module.append(torch.nn.Dropout(0.5)).append(torch.nn.Linear(4 * 36, 10))
    initialise_module(module, 0)
    state = {name: value.clone() for name, value in module.state_dict().items()}
    generator = torch.get_rng_state()
    network = capture(module, torch.zeros(2, 1, 8, 8))
    trainer = PriorTrainer(module, network, Helper.for_sample(prior), prior, Run(budget_seconds=FOREVER), FEW)
    assert trainer.format is torch.channels_last
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert all(value.grad is None for value in module.parameters())


def strided(kernel: int, stride: int, channels: int) -> torch.nn.Module:
    first, second = torch.nn.Conv2d(1, channels, 3, padding=1), torch.nn.Conv2d(channels, 4, kernel, stride)
    return torch.nn.Sequential(first, second, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 10))


@pytest.mark.parametrize(
    ("module", "breaks"),
    [
        (strided(1, 2, 4), True),
        (strided(1, 1, 4), False),
        (strided(3, 2, 4), False),
        (strided(1, 2, 16), False),
        (strided(1, 2, 32), False),
    ],
)
def test_what_would_end_the_process_is_trained_in_the_other_format(module: torch.nn.Module, breaks: bool) -> None:
    """A shortcut of few channels, as small residual networks have: channels last, it corrupts memory."""
    assert breaks_channels_last(capture(module, torch.zeros(2, 1, 8, 8)).architecture) is breaks
    prior, _ = split_prior(digits(), 0.5, 0)
    if breaks:
        train_prior(prior, Run(budget_seconds=FOREVER), module, recipe=PriorRecipe(batch_size=50, max_steps=20))


class Frozen(Flattening):
    def __init__(self) -> None:
        super().__init__()
        self.requires_grad_(False)


class OnlyEvaluates(Flattening):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            raise ValueError("I am only for evaluation")
        return super().forward(x)


class Lazy(torch.nn.Sequential):
    def __init__(self) -> None:
        super().__init__(torch.nn.Flatten(), torch.nn.LazyLinear(10))


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (Frozen, "RuntimeError: element 0 of tensors does not require grad"),
        (OnlyEvaluates, "ValueError: I am only for evaluation on a batch of 20"),
        (Lazy, "fresh values, got "),
    ],
)
def test_what_a_module_raises_is_one_sentence(kind: type[torch.nn.Module], says: str) -> None:
    prior, _ = split_prior(digits(), 0.5, 0)
    with pytest.raises(ModelError, match=says) as caught:
        train_prior(prior, Run(budget_seconds=FOREVER), kind(), recipe=FEW)
    assert "\n" not in str(caught.value)


def test_a_module_that_cannot_be_captured_is_refused_before_it_is_trained() -> None:
    prior, _ = split_prior(digits(), 0.5, 0)

    class Spectral(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Linear(64, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert not self.training
            return self.head(torch.fft.fft2(x).abs().flatten(1))

    with pytest.raises(CaptureError, match=r"fft"):
        train_prior(prior, Run(budget_seconds=FOREVER), Spectral(), recipe=FEW)


def test_a_double_precision_module_is_trained_in_single_precision() -> None:
    prior, _ = split_prior(digits(), 0.5, 0)
    one = train_prior(prior, Run(budget_seconds=FOREVER), two_layers().double(), recipe=FEW)
    assert hash_of(one) == hash_of(train_prior(prior, Run(budget_seconds=FOREVER), two_layers(), recipe=FEW))


@pytest.mark.parametrize("captured", [False, True])
def test_a_network_of_tokens_is_trained_on_tokens(captured: bool) -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 40, (300, 5))
    model = torch.nn.Sequential(torch.nn.Embedding(40, 4), torch.nn.Flatten(), torch.nn.Linear(20, 2))
    prior = Sample(tokens, (tokens[:, 0] > 19).astype(np.int64), 2, Role.PRIOR, "tokens")
    given = capture(model, torch.from_numpy(tokens[:2])) if captured else model
    network = train_prior(prior, Run(budget_seconds=FOREVER), given, recipe=PriorRecipe(batch_size=30, max_steps=150))
    assert network.architecture.input_dtype == "int64"
    with torch.no_grad():
        answers = network.architecture.forward(torch.from_numpy(tokens), network.parameters).argmax(1)
    assert (answers.numpy() != prior.labels).mean() < 0.05


def test_refusals() -> None:
    full = digits()
    with pytest.raises(InputError, match="role prior"):
        train_prior(full, Run())
    prior, _ = split_prior(full, 0.5, 0)
    wide = capture(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 7)), torch.zeros(2, 1, 8, 8))
    with pytest.raises(InputError, match="10 outputs"):
        train_prior(prior, Run(), wide)
    hidden = two_layers()
    hidden.register_buffer("table", torch.zeros(300))
    with pytest.raises(InputError, match="256 constants"):
        train_prior(prior, Run(), hidden)


@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 8, 8), (3, 32, 32), (3, 9, 16), (5,), (1, 3, 3)])
def test_the_built_in_network_fits_every_shape(shape: tuple[int, ...]) -> None:
    module = built_in_network(shape, 4)
    initialise_module(module, 0)
    network = capture(module, torch.rand(2, *shape))
    assert network.architecture.num_outputs == 4
    values = initial_values(network, 3)
    assert set(values) == {spec.name for spec in network.architecture.parameters}
    assert torch.isfinite(network.architecture.forward(torch.rand(3, *shape), values)).all()


@pytest.mark.parametrize("shape", [(4, 1, 28, 28), (4, 3, 32, 32), (4, 7)])
def test_augmentation_keeps_shapes_and_ranges_and_follows_its_generator(shape: tuple[int, ...]) -> None:
    x = torch.rand(shape)
    still = torch.zeros(4, dtype=torch.bool)
    one, two, other = (augment(x, torch.Generator().manual_seed(seed), still) for seed in (1, 1, 2))
    assert one.shape == x.shape
    assert torch.equal(one, two)
    assert float(one.min()) >= -1e-6
    assert float(one.max()) <= 1 + 1e-6
    assert torch.equal(one, other) == (len(shape) == 2)


def test_colour_images_are_mirrored_where_they_shall_be_and_in_every_other_epoch() -> None:
    x = torch.rand(4, 3, 32, 32)
    mirrored = torch.tensor([True, False, True, False])
    changed, same = (augment(x, torch.Generator().manual_seed(1), each) for each in (mirrored, ~mirrored & False))
    mirrored_first = augment(x.flip(3), torch.Generator().manual_seed(1), mirrored & False)
    assert torch.equal(changed[~mirrored], same[~mirrored])
    assert torch.equal(changed[mirrored], mirrored_first[mirrored])
    colours = Sample(np.zeros((20, 3, 8, 8), np.uint8), np.arange(20) % 2, 2, Role.PRIOR, "colours")
    module = built_in_network((3, 8, 8), 2)
    network = capture(module.eval(), torch.zeros(2, 3, 8, 8))
    trainer = PriorTrainer(module, network, Helper.for_sample(colours), colours, Run(budget_seconds=FOREVER), FEW)
    seen = {}
    for epoch in (0, 1):
        trainer.num_steps = epoch * (20 // min(FEW.batch_size, 20))
        with unittest.mock.patch("bitcert.search.prior.augment", lambda x, generator, flips: flips.float()):
            order = trainer.batch()[0]
            seen[epoch] = {int(k): bool(flag) for k, flag in zip(trainer._order[1], order, strict=False)}
    both = seen[0].keys() & seen[1].keys()
    assert both
    assert all(seen[0][k] != seen[1][k] for k in both)


class Refusing(Flattening):
    """A user's own code that a format other than float32 breaks."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.convolution(x)
        if y.dtype is not torch.float32:
            raise TypeError("float32 only")
        return self.head(torch.relu(y).flatten(1))


def test_bfloat16_is_used_where_the_processor_and_the_module_can(monkeypatch: pytest.MonkeyPatch) -> None:
    part, _ = split_prior(digits(), 0.5, 0)
    monkeypatch.setattr("bitcert.search.prior.multiplies_bfloat16", lambda: False)
    single = train_prior(part, Run(budget_seconds=FOREVER), Flattening(), recipe=FEW)
    refusing = train_prior(part, Run(budget_seconds=FOREVER), Refusing(), recipe=FEW)
    monkeypatch.setattr("bitcert.search.prior.multiplies_bfloat16", lambda: True)
    half = train_prior(part, Run(budget_seconds=FOREVER), Flattening(), recipe=FEW)
    assert {value.dtype for value in half.parameters.values()} == {torch.float32}
    assert hash_of(half) != hash_of(single)
    for name, value in half.parameters.items():
        assert torch.allclose(value, single.parameters[name], atol=0.05), "no more than rounding"
    fallen_back = train_prior(part, Run(budget_seconds=FOREVER), Refusing(), recipe=FEW)
    assert hash_of(fallen_back) == hash_of(refusing)


def test_a_processor_without_a_unit_is_not_asked_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    assert not multiplies_bfloat16()
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert multiplies_bfloat16()
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.delattr(torch.cpu, name)
    assert not multiplies_bfloat16(), "a version of torch that does not say"
