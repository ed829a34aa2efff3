"""A tracker beside a training loop: what it records, that it disturbs nothing, and what becomes of its file."""

import copy
import json
import os
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bitcert.data import Role, Sample
from bitcert.errors import CaptureError, InputError
from bitcert.network import capture
from bitcert.report import plot_track
from bitcert.report.drawing import draw
from bitcert.stability import MeasureSettings, measure
from bitcert.stability.tracker import TRACKABLE, Tracker

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


@pytest.fixture
def sample() -> Sample:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(40, 1, 6, 6)).astype(np.float32)
    return Sample(inputs, np.arange(40) % 3, 3, Role.TRAIN, "noise")


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(64, 8),
        nn.ReLU(),
        nn.Linear(8, 3),
    )


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "track.jsonl"


def step(model, sample):
    model.train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
    optimiser.zero_grad()
    nn.functional.cross_entropy(model(torch.tensor(sample.inputs)), torch.tensor(sample.labels)).backward()
    optimiser.step()


def epochs(tracker):
    return [record.epoch for record in tracker.history()]


def test_three_lines_in_a_training_loop(model, sample, path):
    tracker = Tracker(model, sample, path)
    for epoch in range(3):
        step(model, sample)
        tracker.update(epoch)
    assert epochs(tracker) == [0, 1, 2]
    cushions = [record.values["layer_cushion"]["median"] for record in tracker.history()]
    assert all(len(values) == 3 for values in cushions)
    assert len(set(cushions)) == 3, "the weights moved"
    assert tracker.labels["contraction"] == ("layer 1", "layer 2", "layer 3")
    assert set(tracker.history()[0].values) == set(tracker.labels)


def test_the_numbers_are_those_of_a_measurement(model, sample, path):
    quantities = ("layer_cushion", "interlayer_cushion", "contraction", "margin", "norms")
    settings = MeasureSettings(exact=True)
    step(model, sample)
    record = Tracker(model, sample, path, quantities, settings=settings).update(5)
    groups = tuple(name for name in quantities if name != "norms")
    network = capture(model, torch.tensor(sample.inputs[:4]))
    profile = measure(network, sample, replace(settings, quantities=groups))
    for name in ("layer_cushion", "interlayer_cushion", "minimal_interlayer_cushion", "contraction", "margin"):
        for statistic, expected in (
            ("worst", [d.worst for d in profile.distributions[name]]),
            ("mean", [d.mean for d in profile.distributions[name]]),
            ("low", [d.quantiles[0.1] for d in profile.distributions[name]]),
            ("high", [d.quantiles[0.9] for d in profile.distributions[name]]),
        ):
            assert record.values[name][statistic] == pytest.approx(expected, rel=1e-5)
    for name, expected in (
        ("frobenius", [row.frobenius for row in profile.layers]),
        ("spectral_reshaped", [row.spectral_reshaped for row in profile.layers]),
        ("norm_21", [row.norm_21 for row in profile.layers]),
        ("stable_rank", [row.stable_rank for row in profile.layers]),
        ("effective_parameters", [row.effective_parameters.worst for row in profile.layers]),
    ):
        assert record.values[name]["value"] == pytest.approx(expected, rel=1e-5)
    total = record.values["effective_parameters_total"]["value"]
    assert total == pytest.approx([sum(row.effective_parameters.worst for row in profile.layers)], rel=1e-5)


def test_every_quantity_can_be_tracked(model, sample, path):
    settings = MeasureSettings(draws=2, sensitivity_samples=3, sensitivity_draws=2)
    record = Tracker(model, sample, path, TRACKABLE, samples=6, settings=settings).update(0)
    for name in ("smoothness", "smoothness_gaussian", "noise_sensitivity"):
        assert all(value is not None for value in record.values[name]["median"])


def test_training_is_not_disturbed(model, sample, path):
    step(model, sample)
    model[1].eval()
    state = copy.deepcopy(model.state_dict())
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    modes = [part.training for part in model.modules()]
    random = torch.get_rng_state()
    tracker = Tracker(model, sample, path)
    for epoch in range(2):
        tracker.update(epoch)
    assert torch.equal(torch.get_rng_state(), random)
    assert [part.training for part in model.modules()] == modes
    assert torch.is_grad_enabled()
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_the_subsample_is_fixed_and_drawn_by_the_seed(model, sample, path):
    tracker = Tracker(model, sample, path, samples=10)
    assert len(tracker._part) == 10
    first, second = tracker.update(0).values, tracker.update(1).values
    assert first == second, "the same weights"
    other = Tracker(model, sample, path.with_name("other"), samples=10, seed=1).update(0).values
    assert other != first


def test_every_second_epoch(model, sample, path):
    tracker = Tracker(model, sample, path, every=2)
    assert [tracker.update(epoch) is None for epoch in range(5)] == [False, True, False, True, False]
    assert epochs(tracker) == [0, 2, 4]


# The file


def test_an_interrupted_run_goes_on(model, sample, path):
    tracker = Tracker(model, sample, path)
    for epoch in range(4):
        tracker.update(epoch)
    before = path.read_bytes().splitlines(keepends=True)
    step(model, sample)
    again = Tracker(model, sample, path)
    assert epochs(again) == [0, 1, 2, 3]
    again.update(2)
    assert epochs(again) == [0, 1, 2]
    after = path.read_bytes().splitlines(keepends=True)
    assert after[:3] == before[:3]
    assert after[3] != before[3], "measured again, with the weights of now"


def test_one_line_an_epoch_that_can_be_read_while_training(model, sample, path):
    tracker = Tracker(model, sample, path)
    assert not path.exists()
    tracker.update(0)
    size = path.stat().st_size
    header, record = map(json.loads, path.read_text().splitlines())
    assert header["format"] == "bitcert-track-2"
    assert len(header["identity"]) == 64
    assert header["labels"]["layer_cushion"] == ["layer 1", "layer 2", "layer 3"]
    assert record["epoch"] == 0
    inode = path.stat().st_ino
    tracker.update(1)
    assert path.stat().st_ino == inode, "appended, not written anew"
    assert path.stat().st_size > size


def test_a_file_of_the_former_format_is_refused(model, sample, path):
    """Its contractions are of activations alone: no line may follow them."""
    Tracker(model, sample, path).update(0)
    path.write_text(path.read_text().replace("bitcert-track-2", "bitcert-track-1"))
    with pytest.raises(InputError, match="earlier version, whose contractions leave out what pools"):
        Tracker(model, sample, path)


@pytest.mark.parametrize("cut", [1, 20, "header"])
def test_a_truncated_last_line_is_dropped(model, sample, path, cut):
    tracker = Tracker(model, sample, path)
    for epoch in range(3):
        tracker.update(epoch)
    whole = path.read_bytes()
    path.write_bytes(whole[:10] if cut == "header" else whole[:-cut])
    again = Tracker(model, sample, path)
    kept = [] if cut == "header" else [0, 1]
    assert epochs(again) == kept
    again.update(5)
    assert epochs(again) == [*kept, 5]
    assert path.read_bytes().endswith(b"\n")


def test_a_write_that_fails_loses_nothing(model, sample, path, monkeypatch):
    tracker = Tracker(model, sample, path)
    tracker.update(0)
    tracker.update(1)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            tracker.update(1)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "other",
    [
        {"samples": 20},
        {"seed": 1},
        {"quantities": ("margin",)},
        {"settings": MeasureSettings(dtype="float64")},
    ],
    ids=str,
)
def test_a_file_of_another_run_is_refused_before_training(model, sample, path, other):
    Tracker(model, sample, path).update(0)
    before = path.read_bytes()
    with pytest.raises(InputError, match="another network, sample or setting"):
        Tracker(model, sample, path, **other)
    assert path.read_bytes() == before


def test_a_file_of_another_network_or_sample(model, sample, path):
    Tracker(model, sample, path).update(0)
    with pytest.raises(InputError, match="another network, sample or setting"):
        Tracker(nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), sample, path)
    changed = Sample(sample.inputs + 1, sample.labels, 3, Role.TRAIN, "noise")
    with pytest.raises(InputError, match="another network, sample or setting"):
        Tracker(model, changed, path)


@pytest.mark.parametrize("content", [b"mine\n", b"{}\n", b"[" * 100_000 + b"\n", b"\xff\xfe\n\n", b"1\n2\n"])
def test_another_kind_of_file_is_refused_and_kept(model, sample, path, content):
    path.write_bytes(content + b"{}\n")
    with pytest.raises(InputError, match="another kind of file"):
        Tracker(model, sample, path)
    assert path.read_bytes() == content + b"{}\n"


@pytest.mark.parametrize("line", ["[]", "{}", '{"epoch":true,"values":{}}', '{"epoch":1,"values":{"a":{"b":["x"]}}}'])
def test_a_damaged_record_is_named(model, sample, path, line):
    tracker = Tracker(model, sample, path)
    tracker.update(0)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], line + "\n", lines[1]]))
    with pytest.raises(InputError, match="line 2"):
        tracker.history()


# Refusals


def test_what_cannot_be_tracked_is_refused(model, sample, path):
    with pytest.raises(InputError, match="did you mean 'margin'"):
        Tracker(model, sample, path, ("margins",))
    for name in ("samples", "every"):
        with pytest.raises(InputError, match=name):
            Tracker(model, sample, path, **{name: 0})
    with pytest.raises(InputError, match="linear or convolution layer"):
        Tracker(nn.Sequential(nn.Flatten(), nn.ReLU()), sample, path)
    with pytest.raises(InputError, match="3 classes"):
        Tracker(nn.Sequential(nn.Flatten(), nn.Linear(36, 2)), sample, path)
    with pytest.raises(CaptureError):
        Tracker(nn.Linear(5, 3), sample, path)
    tracker = Tracker(model, sample, path)
    for epoch in (-1, 1.5, True):
        with pytest.raises(InputError, match="epoch"):
            tracker.update(epoch)
    assert not path.exists()


def test_weights_that_became_nan_and_a_network_that_changed(model, sample, path):
    tracker = Tracker(model, sample, path)
    model[7] = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 3))
    with pytest.raises(InputError, match="another structure"):
        tracker.update(0)
    model[7] = nn.Linear(8, 3)
    model[5].weight.data[0] = torch.nan
    with pytest.raises(CaptureError, match="NaN or infinity"):
        tracker.update(0)


def test_a_sample_without_labels_and_a_network_without_activations(sample, path):
    unlabelled = Sample(sample.inputs, None, 3, Role.UNLABELLED, "noise")
    tracker = Tracker(nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), unlabelled, path)
    record = tracker.update(0)
    assert "margin" not in record.values
    assert record.values["contraction"]["worst"] == (1.0,)
    assert record.values["output_norm"]["median"][0] > 0


# The figure


def test_the_figure_has_a_line_for_each_layer(model, sample, path):
    quantities = ("layer_cushion", "interlayer_cushion", "contraction", "norms")
    tracker = Tracker(model, sample, path, quantities)
    for epoch in (0, 2, 4):
        step(model, sample)
        tracker.update(epoch)
    figure, axes = plot_track(tracker, "layer_cushion", "worst")
    assert [line.get_label() for line in axes.lines] == ["layer 1", "layer 2", "layer 3"]
    assert list(axes.lines[0].get_xdata()) == [0, 2, 4]
    shown = [record.values["layer_cushion"]["worst"][1] for record in tracker.history()]
    assert list(axes.lines[1].get_ydata()) == shown
    assert axes.get_xlabel() == "epoch"
    assert axes.get_ylabel() == "layer cushion\nworst example"
    assert draw(figure) == draw(plot_track(tracker, "layer_cushion", "worst")[0])
    _, axes = plot_track(tracker, "effective_parameters_total")
    assert len(axes.lines) == 1
    assert axes.get_ylabel() == "effective parameters, all layers"
    _, axes = plot_track(tracker, "interlayer_cushion")
    assert [line.get_label() for line in axes.lines] == ["1 to 2", "1 to 3", "2 to 3"]


def test_a_figure_of_nothing_is_refused(model, sample, path):
    tracker = Tracker(model, sample, path)
    with pytest.raises(InputError, match="call update first"):
        plot_track(tracker, "layer_cushion")
    tracker.update(0)
    with pytest.raises(InputError, match="did you mean 'layer_cushion'"):
        plot_track(tracker, "layer_cushon")
    with pytest.raises(InputError, match="did you mean 'median'"):
        plot_track(tracker, "layer_cushion", "medium")


def test_the_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["track_training.py", str(tmp_path / "track.jsonl"), str(tmp_path / "track.svg")])
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.delitem(sys.modules, "lenet", raising=False)
    runpy.run_path(str(EXAMPLES / "track_training.py"))
    assert len(capsys.readouterr().out.splitlines()) == 5
    assert len((tmp_path / "track.jsonl").read_text().splitlines()) == 7
    assert "<svg" in (tmp_path / "track.svg").read_text()


def test_a_file_of_something_else_is_left_alone(model, sample, path):
    path.write_text("hello\n")
    with pytest.raises(InputError, match="another kind of file"):
        Tracker(model, sample, path).update(0)
    assert path.read_text() == "hello\n"
