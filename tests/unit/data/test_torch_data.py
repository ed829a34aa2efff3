"""Samples from torch data sets and loaders: each example once, as given, never augmented."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)

from bitcert.data import Role, sample_from_torch, to_sample
from bitcert.data import torch_data as module
from bitcert.errors import InputError

N = 23
X = torch.from_numpy(np.random.default_rng(0).normal(size=(N, 2, 3, 3)).astype(np.float32))
Y = torch.arange(N) % 4
PLAIN = TensorDataset(X, Y)


class Items(Dataset):
    """A data set of whatever ``item(index)`` gives."""

    def __init__(self, item, n=N):
        self.item, self.n = item, n

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        return self.item(index)


class Stream(IterableDataset):
    def __init__(self, make):
        self.make = make

    def __iter__(self):
        return self.make()


def same(sample, order=None):
    order = np.arange(N) if order is None else order
    return np.array_equal(sample.inputs, X.numpy()[order]) and np.array_equal(sample.labels, Y.numpy()[order])


def refuse(source, match, role=Role.TRAIN, **options):
    with pytest.raises(InputError, match=match) as caught:
        to_sample(source, role, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        PLAIN,
        list(PLAIN),
        Stream(lambda: iter(PLAIN)),
        Items(lambda i: (X[i].numpy(), int(Y[i]))),
        Items(lambda i: [X[i].double(), Y[i : i + 1]]),
        Items(lambda i: {"x": X[i], "y": Y[i], "id": i}),
        Items(lambda i: {"pixel_values": X[i], "labels": Y[i]}),
        Items(lambda i: {"image": X[i], "label": int(Y[i])}),
        DataLoader(PLAIN, batch_size=5),
        DataLoader(PLAIN, batch_size=None),
        DataLoader(PLAIN, batch_size=None, sampler=BatchSampler(SequentialSampler(PLAIN), 5, False)),
        DataLoader(Items(lambda i: {"x": X[i], "y": int(Y[i])}), batch_size=7),
        DataLoader(Stream(lambda: iter(PLAIN)), batch_size=4),
        DataLoader(PLAIN, batch_size=23, drop_last=True),
    ],
)
def test_every_form_gives_the_same_sample(source):
    sample = sample_from_torch(source, Role.TRAIN)
    assert same(sample)
    assert sample.num_classes == 4
    assert sample.name == "torch data"
    assert to_sample(source, Role.TRAIN).content_hash == sample.content_hash


def test_classes_and_name_are_passed_on():
    sample = sample_from_torch(PLAIN, Role.HOLDOUT, 9, name="mine")
    assert (sample.num_classes, sample.name, sample.role) == (9, "mine", Role.HOLDOUT)
    assert to_sample(PLAIN, Role.TRAIN).name == "TensorDataset"


def test_a_shuffling_loader_is_read_once_in_its_order():
    seen = []
    data = Items(lambda i: (seen.append(i), PLAIN[i])[1])
    loader = DataLoader(data, batch_size=5, shuffle=True, generator=torch.Generator().manual_seed(0))
    sample = sample_from_torch(loader, Role.TRAIN)
    order = seen[-N:]
    assert sorted(order) == list(range(N))
    assert order != sorted(order)
    assert same(sample, order)
    assert len(seen) == N + 2 * 5


def test_images_of_pillow_become_channel_first():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)
    colour = to_sample(Items(lambda i: {"image": Image.fromarray(pixels[i]), "label": i % 2}, 4), Role.TRAIN)
    assert np.array_equal(colour.inputs, pixels.transpose(0, 3, 1, 2))
    grey = to_sample(Items(lambda i: (Image.fromarray(pixels[i, :, :, 0]), i % 2), 4), Role.TRAIN)
    assert np.array_equal(grey.inputs, pixels[:, None, :, :, 0])


def test_half_precision_of_torch_is_read_as_float32():
    sample = to_sample((X.bfloat16(), Y), Role.TRAIN)
    assert np.array_equal(sample.inputs, X.bfloat16().float().numpy())


def test_one_buffer_reused_for_every_item_is_copied():
    buffer = torch.zeros(2, 3, 3)

    def item(i):
        buffer.copy_(X[i])
        return buffer, Y[i]

    assert same(to_sample(Items(item), Role.TRAIN))


@pytest.mark.parametrize(
    "source", [Items(lambda i: X[i]), TensorDataset(X), DataLoader(TensorDataset(X), 5), X, X.numpy()]
)
def test_inputs_alone_serve_as_unlabelled_only(source):
    sample = to_sample(source, Role.UNLABELLED, num_classes=4)
    assert np.array_equal(sample.inputs, X.numpy())
    assert not sample.has_labels
    refuse(source, r"items \(x, y\)")


def noisy(i):
    return X[i] + torch.rand(()), Y[i]


def noisy_collate(items):
    x, y = torch.utils.data.default_collate(items)
    return x + torch.rand(()), y


@pytest.mark.parametrize(
    "source",
    [
        Items(noisy),
        DataLoader(Items(noisy), batch_size=4),
        DataLoader(Items(noisy), batch_size=4, shuffle=True),
        DataLoader(Items(noisy), batch_size=None),
        DataLoader(PLAIN, batch_size=4, collate_fn=noisy_collate),
        Stream(lambda: (noisy(i) for i in range(N))),
        DataLoader(Stream(lambda: (noisy(i) for i in range(N))), batch_size=4),
        Items(lambda i: (X[i], torch.randint(0, 10**6, ()))),
    ],
)
def test_augmentation_is_refused(source):
    refuse(source, "never on augmented data")


@pytest.mark.parametrize(
    ("source", "match"),
    [
        (DataLoader(PLAIN, 5, drop_last=True), r"20 of 23 \(drop_last=True\)"),
        (DataLoader(PLAIN, 5, sampler=WeightedRandomSampler([1.0] * N, 100)), "drawn again"),
        (DataLoader(PLAIN, 5, sampler=RandomSampler(PLAIN, replacement=True, num_samples=90)), "drawn again"),
        (DataLoader(PLAIN, batch_size=None, sampler=[0, 1, 0]), "1 of 3 drawn again"),
        (iter(PLAIN), "used up"),
        (TensorDataset(X[:0], Y[:0]), "empty set"),
        (DataLoader(PLAIN, 5, sampler=[]), "empty set"),
        (Items(lambda i: (X[i], Y[i], i)), "3 values"),
        (Items(lambda i: {"a": X[i], "b": Y[i]}), "keys a, b"),
        (Items(lambda i: (X[i], torch.eye(4)[Y[i]])), r"label of shape \[4\]"),
        (DataLoader(Items(lambda i: (X[i], torch.eye(4)[Y[i]])), 5), r"shape \[23, 4\]"),
        (Items(lambda i: (X[i], float(Y[i]))), "integer labels"),
        (Items(lambda i: (X[i, :, : 2 + i // 20], Y[i])), r"\[2, 3, 3\] float32 in item 20"),
        (Items(lambda i: (X[i].double() if i else X[i], Y[i])), "float64 in item 1"),
        (Items(lambda i: ([[1], [2, 3]], 0)), "form an array"),
        (Items(lambda i: (X[i].to_sparse(), Y[i])), "form an array"),
        (Items(lambda i: (X[i], Y[i], 1 / (i - 9))[:2]), r"ZeroDivisionError.* at item 9"),
        ({"a": 1}, "KeyError"),
        (3, "got int"),
        (None, "got NoneType"),
        ((X, Y[:-1]), "for 23 inputs"),
        ((X, None), "number of classes"),
        (([[1, 2], [3]], [0, 1]), "form an array"),
    ],
)
def test_refusals(source, match):
    refuse(source, match)


def test_data_without_end_stop_at_the_bound(monkeypatch):
    def forever():
        while True:
            yield X[0], Y[0]

    monkeypatch.setattr(module, "MAX_BYTES", 10_000)
    refuse(Stream(forever), "at most 10000 bytes")


def test_a_subset_sampler_is_a_sample_of_what_it_yields():
    chosen = [4, 9, 2, 7, 1]
    for source in (DataLoader(PLAIN, 2, sampler=chosen), Subset(PLAIN, chosen)):
        assert same(to_sample(source, Role.TRAIN), chosen)


def test_worker_processes_give_the_same_sample():
    assert same(to_sample(DataLoader(PLAIN, batch_size=5, num_workers=1), Role.TRAIN))


def test_no_global_random_state_is_touched():
    state = torch.get_rng_state()
    to_sample(PLAIN, Role.TRAIN)
    assert torch.equal(state, torch.get_rng_state())


def test_samples_and_pairs_and_names_pass_through():
    sample = to_sample((X, Y), Role.TRAIN, name="pair")
    assert same(sample)
    assert sample.name == "pair"
    assert to_sample(sample, Role.TRAIN) is sample
    other = to_sample(sample, Role.PRIOR, num_classes=6, name="prior")
    assert (other.role, other.num_classes, other.name) == (Role.PRIOR, 6, "prior")
    assert other.content_hash == sample.content_hash
    assert to_sample("digits", Role.TRAIN, name="mine").name == "mine"
    refuse("digitz", "did you mean 'digits'")
