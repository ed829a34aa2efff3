"""The verb: numbers against loops over examples, resumption, batching, bad input."""

import dataclasses
import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bitcert import Preprocessing, Role, Sample, capture
from bitcert.errors import InputError
from bitcert.stability import (
    MeasureSettings,
    Reduced,
    StabilityProfile,
    measure,
    measurement,
    plan_measure,
    planning,
    producers,
)
from bitcert.stability.producers import PRODUCERS

RNG = np.random.default_rng(0)
EXACT = MeasureSettings(dtype="float64", exact=True, keep=True, draws=2, sensitivity_samples=5)


def toy(n: int = 23, shape: tuple[int, ...] = (5,), classes: int = 3) -> Sample:
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(n, *shape)).astype(np.float32)
    return Sample(inputs, rng.integers(0, classes, n), classes, Role.TRAIN, "toy")


def mlp(bias: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(5, 8, bias=bias), nn.ReLU(), nn.Linear(8, 6, bias=bias), nn.ReLU(), nn.Linear(6, 3, bias=bias)
    )


@pytest.fixture(scope="module")
def model() -> nn.Sequential:
    return mlp()


@pytest.fixture(scope="module")
def network(model):
    return capture(model, torch.zeros(2, 5))


@pytest.fixture(scope="module")
def profile(network):
    return measure(network, toy(), EXACT)


def test_quantities_against_loops_over_examples(profile, model):
    model, sample = model.double().requires_grad_(False), toy()
    weights = [model[0].weight, model[2].weight, model[4].weight]
    for n in range(len(sample)):
        with torch.no_grad():
            x0 = torch.from_numpy(sample.inputs[n].copy()).double()
            x1 = model[0](x0)
            x2 = model[2](torch.relu(x1))
            x3 = model[4](torch.relu(x2))
            inputs = [x0, torch.relu(x1), torch.relu(x2)]
            cushions = [float((w @ v).norm() / (w.norm() * v.norm())) for w, v in zip(weights, inputs, strict=True)]
            contractions = [1.0, float(x1.norm() / inputs[1].norm()), float(x2.norm() / inputs[2].norm())]
        jacobians = {
            (1, 2): torch.func.jacrev(lambda v: model[2](torch.relu(v)))(x1),
            (1, 3): torch.func.jacrev(lambda v: model[4](torch.relu(model[2](torch.relu(v)))))(x1),
            (2, 3): torch.func.jacrev(lambda v: model[4](torch.relu(v)))(x2),
        }
        values = {1: x1, 2: x2}
        mu = {p: float((j @ values[p[0]]).norm() / (j.norm() * values[p[0]].norm())) for p, j in jacobians.items()}
        label = int(sample.labels[n])
        margin = float(x3[label] - max(v for k, v in enumerate(x3) if k != label))
        kept = {name: array[n] for name, array in profile.arrays.items()}
        np.testing.assert_allclose(kept["layer_cushion"], cushions, rtol=1e-9)
        np.testing.assert_allclose(kept["contraction"], contractions, rtol=1e-9)
        np.testing.assert_allclose(
            kept["jacobian_norm"], [float(jacobians[p].norm()) for p in profile.pairs], rtol=1e-9
        )
        np.testing.assert_allclose(kept["interlayer_cushion"], [mu[p] for p in profile.pairs], rtol=1e-9)
        own = [1 / math.sqrt(h) for h in (8, 6, 3)]
        minimal = [min(own[0], mu[1, 2], mu[1, 3]), min(own[1], mu[2, 3]), own[2]]
        np.testing.assert_allclose(kept["minimal_interlayer_cushion"], minimal, rtol=1e-9)
        np.testing.assert_allclose(kept["margin"], margin, rtol=1e-9)
        np.testing.assert_allclose([kept["output_norm"], kept["input_norm"]], [x3.norm(), x0.norm()], rtol=1e-9)


def test_margins_are_normalised_by_output_and_by_operator_norms(profile, model):
    product = math.prod(float(torch.linalg.matrix_norm(model[k].weight.double(), 2)) for k in (0, 2, 4))
    margin, output, size = (profile.arrays[name] for name in ("margin", "output_norm", "input_norm"))
    assert profile.distribution("margin_normalised").worst == pytest.approx((margin / output).min())
    assert profile.distribution("margin_spectral").worst == pytest.approx((margin / (size * product)).min())
    assert abs(profile.distribution("margin_spectral").maximum) <= math.sqrt(
        2
    )  # ||f(x)|| <= ||x|| prod, no biases aside


def test_the_profile_says_what_was_measured(profile, network):
    assert profile.pairs == ((1, 2), (1, 3), (2, 3))
    assert profile.sample["num_samples"] == profile.sample["measured"] == 23
    assert profile.network["num_parameters"] == network.num_parameters
    assert (profile.network["chain"], profile.network["bias_free"], profile.network["relu_only"]) == (True, False, True)
    assert profile.settings["dtype"] == "float64"
    assert {d.count for d in profile.distributions["interlayer_cushion"]} == {23}
    assert len(profile.attenuation) == 4
    assert profile.attenuation[2].targets == (2, 3)
    assert profile.attenuation[2].mean[0] == pytest.approx(0.1)
    assert any("noise_sensitivity on 5 of 23 examples, spread evenly" in note for note in profile.notes)
    positive = int((profile.arrays["margin"] > 0).sum())
    details = {h.name: h.detail for h in profile.hypotheses}
    assert details["margins positive"].startswith(f"{positive} of 23")


def reduced(profile):
    """Every reduced number by name; positions left out."""
    found = {}
    for name, distributions in profile.distributions.items():
        for d in distributions:
            numbers = (d.minimum, d.maximum, d.mean, d.std, d.worst, d.zeta_value, *d.quantiles.values())
            found[name, d.label] = np.array([np.nan if v is None else v for v in numbers])
    return found


@pytest.mark.parametrize("batch_size", [1, 4, 23])
def test_batches_and_shards_change_no_number(profile, network, batch_size, monkeypatch):
    monkeypatch.setattr(planning, "MAX_SHARD_SIZE", 7)
    other = measure(network, toy(), dataclasses.replace(EXACT, batch_size=batch_size))
    for key, numbers in reduced(profile).items():
        # some deviations from linearity are zero up to rounding
        np.testing.assert_allclose(reduced(other)[key], numbers, rtol=1e-9, atol=1e-13, err_msg=str(key))
    assert other.smoothness.value == pytest.approx(profile.smoothness.value, rel=1e-9)


def test_the_order_of_the_sample_changes_no_exact_number(profile, network):
    quantities = ("layer_cushion", "interlayer_cushion", "contraction", "margin")
    settings = dataclasses.replace(EXACT, quantities=quantities)
    other = measure(network, toy().take(np.random.default_rng(3).permutation(23)), settings)
    for key, numbers in reduced(other).items():
        np.testing.assert_allclose(numbers, reduced(profile)[key], rtol=1e-9, err_msg=str(key))


def test_float32_agrees(profile, network):
    quantities = ("layer_cushion", "interlayer_cushion", "contraction", "margin")
    other = measure(network, toy(), MeasureSettings(exact=True, quantities=quantities))
    for key, numbers in reduced(other).items():
        np.testing.assert_allclose(numbers, reduced(profile)[key], rtol=2e-4, atol=1e-6, err_msg=str(key))


def test_zeta_names_the_outliers(network):
    settings = MeasureSettings(zeta=0.1, quantities=("layer_cushion", "margin"), keep=True)
    profile = measure(network, toy(), settings)
    d = profile.distribution("layer_cushion", 2)
    order = np.argsort(profile.arrays["layer_cushion"][:, 1])
    assert d.zeta_dropped == tuple(order[:2])
    assert d.zeta_value == pytest.approx(float(profile.arrays["layer_cushion"][order[2], 1]))
    note = next(note for note in profile.notes if note.startswith("zeta = 0.1"))
    union = {int(k) for d in profile.distributions["layer_cushion"] for k in d.zeta_dropped}
    assert f"are {len(union)} of 23 examples" in note


def test_preprocessing_is_certifys(network):
    raw = (RNG.random((6, 5)) * 255).astype(np.uint8)
    sample = Sample(raw, np.arange(6) % 3, 3, Role.TRAIN, "pixels")
    settings = MeasureSettings(quantities=("margin",), keep=True)
    usual = measure(network, sample, settings)
    own = measure(network, sample, settings, preprocessing=Preprocessing(scale=51.0))
    expected = np.linalg.norm(raw.astype(float), axis=1)
    np.testing.assert_allclose(usual.arrays["input_norm"], expected / 255, rtol=1e-5)
    np.testing.assert_allclose(own.arrays["input_norm"], expected / 51, rtol=1e-5)


class Interrupted:
    """A progress callback that stops the run like a user's Ctrl-C."""

    def __init__(self, at: float) -> None:
        self.at, self.calls = at, 0

    def __call__(self, task: str, fraction: float) -> None:
        self.calls += 1
        if fraction >= self.at:
            raise KeyboardInterrupt


@pytest.fixture
def counted(monkeypatch):
    """Examples whose margins were really computed."""
    seen = []
    original = PRODUCERS["margin"]

    def compute(context, settings, prepared):
        seen.extend(context.index.tolist())
        return original.compute(context, settings, prepared)

    table = {**PRODUCERS, "margin": dataclasses.replace(original, compute=compute)}
    monkeypatch.setattr(producers, "PRODUCERS", table)
    monkeypatch.setattr(planning, "MAX_SHARD_SIZE", 5)
    return seen


SMALL = MeasureSettings(quantities=("margin", "layer_cushion"), batch_size=5)


def test_an_interrupted_run_goes_on_from_its_finished_shards(network, tmp_path, counted):
    whole = measure(network, toy(), SMALL)
    counted.clear()
    with pytest.raises(KeyboardInterrupt):
        measure(network, toy(), SMALL, folder=tmp_path, progress=Interrupted(0.5))
    before = len(list(tmp_path.glob("shard-*.npz")))
    assert 1 <= before < 5
    counted.clear()
    resumed = measure(network, toy(), SMALL, folder=tmp_path)
    assert len(counted) == 23 - 5 * before
    assert resumed == whole
    counted.clear()
    assert measure(network, toy(), dataclasses.replace(SMALL, zeta=0.2), folder=tmp_path).sample == whole.sample
    assert not counted, "another zeta needs no example again"


def test_a_damaged_shard_is_computed_again(network, tmp_path, counted):
    whole = measure(network, toy(), SMALL, folder=tmp_path)
    shards = sorted(tmp_path.glob("shard-*.npz"))
    shards[1].write_bytes(shards[1].read_bytes()[:100])
    shards[3].write_bytes(b"something else")
    counted.clear()
    assert measure(network, toy(), SMALL, folder=tmp_path) == whole
    assert counted == [*range(5, 10), *range(15, 20)]


def test_shards_of_other_data_weights_or_settings_are_not_used(network, tmp_path, counted):
    measure(network, toy(), SMALL, folder=tmp_path)
    changed = dataclasses.replace(network, parameters={k: 2 * v for k, v in network.parameters.items()})
    runs = [
        (changed, toy(), SMALL, None),
        (network, toy(22), SMALL, None),
        (network, toy(), dataclasses.replace(SMALL, seed=1), None),
        (network, toy(), SMALL, Preprocessing(scale=2.0)),
    ]
    for net, sample, settings, preprocessing in runs:
        counted.clear()
        measure(net, sample, settings, folder=tmp_path, preprocessing=preprocessing)
        assert len(counted) == len(sample)


def test_nothing_is_left_of_a_run_without_a_folder(network, tmp_path, monkeypatch):
    monkeypatch.setattr(measurement.tempfile, "tempdir", str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        measure(network, toy(), SMALL, progress=Interrupted(0.1))
    measure(network, toy(), SMALL)
    assert list(tmp_path.iterdir()) == []


def test_shards_hold_no_pickle(network, tmp_path):
    measure(network, toy(), SMALL, folder=tmp_path)
    for path in tmp_path.iterdir():
        with zipfile.ZipFile(path) as file:
            assert all(name.endswith(".npy") for name in file.namelist())
            assert all(b"'|O'" not in file.read(name)[:200] for name in file.namelist())


def test_the_random_twin_is_measured_alike(network):
    profile = measure(network, toy(), MeasureSettings(quantities=("layer_cushion",)), random_init=True)
    assert profile.twin.network["bias_free"] is True
    assert profile.twin.settings == profile.settings
    assert profile.twin.network["content_hash"] != profile.network["content_hash"]
    assert profile.twin.network["name"].startswith("untrained twin")
    assert profile.layers[0].distance_frobenius is None


def test_given_initial_weights_are_measured_and_give_distances(network):
    init = {name: torch.zeros_like(value) + 0.1 for name, value in network.parameters.items()}
    profile = measure(network, toy(), MeasureSettings(quantities=("layer_cushion",)), init=init)
    weight = network.parameters["0.weight"].double() - 0.1
    assert profile.layers[0].distance_frobenius == pytest.approx(float(weight.norm()), rel=1e-5)
    assert profile.layers[0].distance_21 == pytest.approx(float(weight.norm(dim=1).sum()), rel=1e-5)
    assert profile.twin.layers[0].frobenius == pytest.approx(0.1 * math.sqrt(40))
    with pytest.raises(InputError, match="leave out one"):
        measure(network, toy(), init=init, random_init=True)


def test_a_single_layer_has_no_pairs_and_the_rest_runs():
    network = capture(nn.Sequential(nn.Linear(5, 3)), torch.zeros(2, 5))
    profile = measure(network, toy(), MeasureSettings())
    assert profile.pairs == ()
    assert profile.smoothness is None
    assert profile.distribution("minimal_interlayer_cushion", 1).worst == pytest.approx(1 / math.sqrt(3))
    assert profile.layers[0].effective_parameters.worst == pytest.approx(
        3 / profile.distribution("layer_cushion", 1).worst ** 2, rel=1e-5
    )
    assert "no interlayer_cushion: no layer feeds another one" in profile.notes
    assert profile.layers[0].contraction == profile.layers[0].contraction_after == Reduced(1.0, 1.0)
    assert profile.hypotheses[0].holds is None


def test_inputs_of_zero_are_skipped_and_counted():
    network = capture(mlp(bias=False), torch.zeros(2, 5))
    inputs = toy().inputs.copy()
    inputs[[2, 7]] = 0
    sample = Sample(inputs, toy().labels, 3, Role.TRAIN, "with zeros")
    profile = measure(network, sample, MeasureSettings(draws=1))
    for name in ("layer_cushion", "interlayer_cushion", "contraction"):
        assert {d.skipped for d in profile.distributions[name]} == {2}, name
    details = {h.name: h for h in profile.hypotheses}
    assert details["no dead inputs"].holds is False
    assert "6 of layer_cushion skipped" in details["no dead inputs"].detail


def test_a_tie_is_no_positive_margin(network):
    parameters = {name: torch.zeros_like(value) for name, value in network.parameters.items()}
    profile = measure(dataclasses.replace(network, parameters=parameters), toy(), MeasureSettings(draws=1))
    hypothesis = next(h for h in profile.hypotheses if h.name == "margins positive")
    assert hypothesis.holds is False
    assert hypothesis.detail.startswith("0 of 23")
    # a network of zeros has no cushion, contraction or smoothness anywhere, and says so instead of failing
    assert {d.count for name in ("layer_cushion", "smoothness") for d in profile.distributions[name]} == {0}
    assert profile.layers[0].stable_rank is None
    assert profile.smoothness.value is None


def test_networks_without_relu_are_measured_and_said_to_be():
    network = capture(nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)), torch.zeros(2, 5))
    profile = measure(network, toy(), MeasureSettings(draws=1))
    assert profile.network["relu_only"] is False
    assert [d.worst > 1 for d in profile.distributions["contraction"]] == [False, True]
    assert {h.name: h.holds for h in profile.hypotheses}["ReLU activations only"] is False


class TwoBranches(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 4), nn.Linear(5, 4), nn.Linear(8, 3)

    def forward(self, x):
        return self.c(torch.cat([torch.relu(self.a(x)), torch.relu(self.b(x))], 1))


def test_layers_that_are_not_connected_are_named():
    profile = measure(capture(TwoBranches(), torch.zeros(2, 5)), toy(), MeasureSettings(draws=1))
    assert profile.pairs == ((1, 3), (2, 3))
    assert "pairs of layers that are not connected are left out: 1→2" in profile.notes
    assert profile.network["chain"] is False
    assert [curve.targets for curve in profile.attenuation] == [(1, 2, 3), (1, 3), (2, 3), (3,)]


def test_noise_at_inputs_begins_at_the_layer_that_is_fed(network):
    settings = MeasureSettings(quantities=("attenuation",), noise_levels=(0.1, 0.2), noise_at_inputs=True)
    profile = measure(network, toy(), settings)
    assert [curve.targets for curve in profile.attenuation] == [(1, 2, 3), (2, 3), (3,)] * 2
    assert [curve.level for curve in profile.attenuation] == [0.1] * 3 + [0.2] * 3
    assert StabilityProfile.from_json(profile.to_json()) == profile
    assert "noise_at_inputs" not in measure(network, toy(), MeasureSettings(quantities=("margin",))).settings


def test_a_sample_without_labels_has_no_margins(network):
    sample = Sample(toy().inputs, None, 3, Role.UNLABELLED, "unlabelled")
    profile = measure(network, sample, MeasureSettings(quantities=("margin", "layer_cushion")))
    assert "margin" not in profile.distributions
    assert "output_norm" in profile.distributions
    assert "no margin: the sample has no labels" in profile.notes


def test_quantities_by_name(network):
    profile = measure(network, toy(), MeasureSettings(quantities=("contraction",)))
    assert set(profile.distributions) == {"contraction"}
    assert (profile.attenuation, profile.smoothness, profile.spectra) == ((), None, ())
    assert profile.layers[0].frobenius > 0
    assert profile.layers[0].effective_parameters.worst is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(network, value):
    parameters = {**network.parameters, "2.weight": torch.full((6, 8), value)}
    with pytest.raises(InputError, match=r"NaN or infinity in 2\.weight; repair"):
        measure(dataclasses.replace(network, parameters=parameters), toy())


def test_outputs_that_overflow_are_explained(network):
    parameters = {name: value * 1e20 for name, value in network.parameters.items()}
    with pytest.raises(InputError, match="use dtype float64"):
        measure(dataclasses.replace(network, parameters=parameters), toy(), SMALL)


@pytest.mark.parametrize(
    ("sample", "text"),
    [(toy(shape=(6,)), r"inputs of shape \[5\], got toy of shape \[6\]"), (toy(classes=9), "3 outputs")],
)
def test_samples_that_do_not_fit_are_refused(network, sample, text):
    with pytest.raises(InputError, match=text):
        measure(network, sample)


def test_networks_without_weight_layers_and_of_tokens_are_refused():
    flat = capture(nn.ReLU(), torch.ones(2, 3))
    with pytest.raises(InputError, match="linear or convolution layer"):
        measure(flat, toy(shape=(3,)))
    tokens = nn.Sequential(nn.Embedding(7, 2), nn.Flatten(), nn.Linear(6, 3))
    with pytest.raises(InputError, match="token indices"):
        measure(capture(tokens, torch.ones(2, 3, dtype=torch.int64)), toy(shape=(3,)))


def failing(error):
    def compute(context, settings, prepared):
        raise error

    return {**PRODUCERS, "margin": dataclasses.replace(PRODUCERS["margin"], compute=compute)}


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
    ],
)
def test_running_out_of_memory_names_a_setting_that_would_fit(network, monkeypatch, error):
    monkeypatch.setattr(producers, "PRODUCERS", failing(error))
    with pytest.raises(InputError, match=r"batch of 20; set batch_size to 5 \(--batch-size 5\)"):
        measure(network, toy(), dataclasses.replace(SMALL, batch_size=20))
    with pytest.raises(InputError, match="leave out exact"):
        measure(network, toy(), dataclasses.replace(SMALL, batch_size=1))


def test_other_errors_are_not_taken_for_memory(network, monkeypatch):
    monkeypatch.setattr(producers, "PRODUCERS", failing(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        measure(network, toy(), SMALL)


def test_a_batch_that_cannot_fit_is_refused_before_any_work(network, monkeypatch):
    monkeypatch.setattr(planning, "memory_limit", lambda device: 1 << 28)
    with pytest.raises(InputError, match="set batch_size to ") as caught:
        plan_measure(network, toy(10**6), dataclasses.replace(SMALL, batch_size=10**6))
    fitting = int(str(caught.value).split("--batch-size ")[1].rstrip(")"))
    plan = plan_measure(network, toy(10**6), dataclasses.replace(SMALL, batch_size=fitting))
    assert plan.memory_bytes <= 1 << 28
    monkeypatch.setattr(planning, "memory_limit", lambda device: 1 << 20)
    with pytest.raises(InputError, match="smaller network"):
        plan_measure(network, toy(), SMALL)


def test_plans(network):
    plan = plan_measure(network, toy())
    assert plan.batch_size == plan.shard_size == plan.num_samples == 23
    assert plan.seconds > 0
    small = plan_measure(network, toy(2000), MeasureSettings(memory_bytes=1 << 20))
    large = plan_measure(network, toy(2000))
    assert small.batch_size < large.batch_size <= 1024
    assert small.shard_size == small.num_samples
    exact = plan_measure(network, toy(200_000), MeasureSettings(memory_bytes=1 << 20))
    assert exact.num_samples > 20 * exact.shard_size
    assert exact.shard_size % exact.batch_size == 0
    assert plan_measure(network, toy(2000), MeasureSettings(exact=True)).seconds >= large.seconds


def test_progress_goes_up_to_one(network):
    told = []
    settings = dataclasses.replace(SMALL, batch_size=4)
    measure(network, toy(), settings, random_init=True, progress=lambda task, fraction: told.append((task, fraction)))
    for task in ("measuring", "measuring the untrained twin"):
        fractions = [fraction for name, fraction in told if name == task]
        assert fractions == sorted(fractions)
        assert fractions[-1] == 1.0
        assert len(fractions) > 5


def test_global_random_state_is_left_alone(network):
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    measure(network, toy(), MeasureSettings(draws=1), random_init=True)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()  # noqa: NPY002


def test_a_folder_that_is_a_file_is_explained(network, tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="choose another folder"):
        measure(network, toy(), SMALL, folder=tmp_path / "file")
