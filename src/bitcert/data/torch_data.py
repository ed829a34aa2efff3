"""A sample from a torch ``Dataset`` or ``DataLoader``, a data set of Hugging Face ``datasets``, or a Ray ``Dataset``.

Errors are counted on the data as given, and on each example once. So the data are read once, into memory, in the
order they come; data that give different values when read again (random augmentation, an iterable data set that
shuffles itself) are refused, and so is a loader that repeats or drops examples. Not guaranteed: that augmentation
which leaves the first few examples unchanged is noticed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any

import numpy as np

from bitcert.data.files import LIMIT_VARIABLE, MAX_BYTES, byte_limit
from bitcert.data.sample import Array, Role, Sample
from bitcert.errors import InputError

NUM_READ_TWICE = 8
"""Examples that are read twice to notice random augmentation."""

KEYS: tuple[tuple[str, str], ...] = (
    ("x", "y"),
    ("image", "label"),
    ("pixel_values", "labels"),
    ("img", "label"),
    ("input", "target"),
)
KEYS += tuple((x, y) for x in ("input_ids", "pixel_values", "inputs") for y in ("labels", "label"))
"""Names under which items that are mappings hold inputs and labels."""


def sample_from_torch(source: Any, role: Role, num_classes: int | None = None, *, name: str = "torch data") -> Sample:
    """Read a torch ``Dataset`` or ``DataLoader`` once into a :class:`Sample`.

    Args:
        source: yields ``(x, y)`` pairs or mappings (``x, y``, ``image, label``, ``pixel_values, labels``); inputs are
            tensors, arrays or Pillow images (turned to channel-first). A loader may shuffle: the order it yields is
            kept. A Ray ``Dataset`` keeps its order only where its context's ``preserve_order`` is set. For
            ``Role.UNLABELLED`` the items may be inputs alone.
        role: what the sample is for.
        num_classes: by default the largest label plus one.
        name: for people.

    Returns:
        The sample, inputs ``[n, ...]`` uint8 or float32.

    Raises:
        InputError: for random augmentation, repeated or dropped examples, items of another form, inputs of different
            shapes, and whatever reading the data raises.
    """
    from torch.utils.data import DataLoader

    if isinstance(source, DataLoader):
        loader = _fixed_order(source, name)
        _check_repeatable(lambda: _few_of_loader(loader), name)
        batches = (_batch(item, role, name) for item in _reading(loader, name))
    elif any(hasattr(source, name) for name in ("__getitem__", "__iter__", "iter_rows")):
        if isinstance(source, Iterator):
            do = "pass a Dataset, a DataLoader or a list"
            raise InputError(f"data in {name!r} that can be read again", "an iterator that is used up", do)
        _check_repeatable(lambda: islice(_items(source), NUM_READ_TWICE), name)
        batches = (_batch_of_one(item, role, name) for item in _reading(_items(source), name))
    else:
        expected = "a sample, name, path, pair of arrays, torch Dataset or DataLoader"
        raise InputError(expected, type(source).__name__, "convert the data to one of these")
    inputs, labels = _joined(batches, name)
    return Sample.from_arrays(inputs, labels, role, name, num_classes)


def to_numpy(value: Any) -> Any:
    """A tensor (of any device), Pillow image or sequence as a numpy array, images channel-first; ``None`` stays.

    Raises:
        InputError: for what is no array, e.g. lists of different lengths.
    """
    if value is None or isinstance(value, np.ndarray):
        return value
    try:
        if hasattr(value, "detach"):
            tensor = value.detach().cpu()
            return tensor.float().numpy() if str(tensor.dtype) == "torch.bfloat16" else tensor.numpy()
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        got = f"{type(value).__name__} ({' '.join(str(error).split())[:120]})"
        raise InputError("values that form an array", got, "pass arrays or tensors") from error
    if hasattr(value, "getbands"):  # a Pillow image
        return array[None] if array.ndim == 2 else np.moveaxis(array, 2, 0)
    return array


def _items(source: Any) -> Iterator[Any]:
    if hasattr(source, "iter_rows"):
        return iter(source.iter_rows())
    if hasattr(source, "__getitem__") and hasattr(source, "__len__"):
        return (source[index] for index in range(len(source)))
    return iter(source)


def _reading(items: Iterable[Any], name: str) -> Iterator[Any]:
    """The items, with whatever the user's code raises turned into an error that says which item."""
    position = 0
    try:
        for item in items:
            yield item
            position += 1
    except InputError:
        raise
    except Exception as error:
        got = f"{type(error).__name__}: {' '.join(str(error).split())[:200]} at item {position}"
        raise InputError(f"data in {name!r} that can be read to the end", got, "correct the data set") from error


def _fixed_order(loader: Any, name: str) -> Any:
    """A loader over the same batches in an order drawn once, so that repeats and omissions can be seen."""
    from torch.utils.data import DataLoader, IterableDataset

    if isinstance(loader.dataset, IterableDataset):
        return loader
    automatic = loader.batch_sampler is not None
    order = list(_reading(loader.batch_sampler if automatic else loader.sampler, name))
    indices = list(chain.from_iterable(each if isinstance(each, list | tuple) else [each] for each in order))
    if len(set(indices)) < len(indices):
        got = f"{len(indices) - len(set(indices))} of {len(indices)} drawn again"
        raise InputError(f"every example of {name!r} once", got, "use a sampler without replacement")
    if loader.drop_last and len(indices) < len(loader.sampler):
        got = f"{len(indices)} of {len(loader.sampler)} (drop_last=True)"
        raise InputError(f"every example of {name!r}", got, "use drop_last=False")
    drawn: dict[str, Any] = {"batch_sampler": order} if automatic else {"batch_size": None, "sampler": order}
    return DataLoader(loader.dataset, collate_fn=loader.collate_fn, num_workers=loader.num_workers, **drawn)


def _few_of_loader(loader: Any) -> Iterator[Any]:
    from torch.utils.data import IterableDataset

    if isinstance(loader.dataset, IterableDataset):
        return islice(iter(loader), 1)
    if loader.batch_sampler is None:
        return (loader.collate_fn(loader.dataset[index]) for index in islice(loader.sampler, NUM_READ_TWICE))
    first: list[Any] = next(iter(loader.batch_sampler), [])[:NUM_READ_TWICE]
    return iter([loader.collate_fn([loader.dataset[index] for index in first])] if first else [])


def _check_repeatable(read: Any, name: str) -> None:
    once, again = ([_leaves(item) for item in _reading(read(), name)] for _ in range(2))
    if len(once) == len(again) and all(_equal(a, b) for a, b in zip(once, again, strict=True)):
        return
    do = "turn random augmentation off; errors are counted on the data as given, never on augmented data"
    raise InputError(f"data in {name!r} that read the same twice", "different values the second time", do)


def _leaves(item: Any) -> list[Any]:
    parts = item.values() if isinstance(item, Mapping) else item if isinstance(item, tuple | list) else [item]
    # Copies, because a data set may hand out one buffer and write the next example into it.
    return [np.array(to_numpy(part)) for part in parts]


def _equal(a: list[Any], b: list[Any]) -> bool:
    return len(a) == len(b) and all(
        x.shape == y.shape and x.dtype == y.dtype and x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True)
    )


def _pair(item: Any, role: Role, name: str) -> tuple[Any, Any]:
    if isinstance(item, Mapping):
        for x, y in KEYS:
            if x in item and (y in item or role is Role.UNLABELLED):
                return item[x], item.get(y)
        got = f"a mapping with keys {', '.join(map(str, item))}"[:200]
    elif isinstance(item, tuple | list) and len(item) == 2:
        return item[0], item[1]
    elif role is Role.UNLABELLED:
        return (item[0], None) if isinstance(item, tuple | list) and len(item) == 1 else (item, None)
    else:
        got = f"{len(item)} values" if isinstance(item, tuple | list) else type(item).__name__
    raise InputError(f"items (x, y) from {name!r}", got, "yield pairs, or mappings with keys 'x' and 'y'")


def _batch(item: Any, role: Role, name: str) -> tuple[Array, Array | None]:
    x, y = _pair(item, role, name)
    inputs = to_numpy(x)
    if np.ndim(inputs) < 1:
        raise InputError(f"batches from the loader of {name!r}", "a single number", "pass the data set itself")
    if y is None:
        return np.array(inputs), None
    labels = np.array(to_numpy(y))
    # A loader without automatic batching hands out single examples when its data set does.
    return (np.array(inputs)[None], labels[None]) if labels.ndim == 0 else (np.array(inputs), labels)


def _batch_of_one(item: Any, role: Role, name: str) -> tuple[Array, Array | None]:
    x, y = _pair(item, role, name)
    label = None if y is None else np.array(to_numpy(y))
    if label is not None and label.size != 1:
        got = f"a label of shape {list(label.shape)}"
        raise InputError(f"one class number for every input of {name!r}", got, "yield integers, not one-hot vectors")
    return np.array(to_numpy(x))[None], None if label is None else label.reshape(1)


def _joined(batches: Iterable[tuple[Array, Array | None]], name: str) -> tuple[Array, Array | None]:
    inputs: list[Array] = []
    labels: list[Array] = []
    size, limit = 0, byte_limit(MAX_BYTES)
    for position, (x, y) in enumerate(batches):
        first = inputs[0] if inputs else x
        if x.shape[1:] != first.shape[1:] or x.dtype != first.dtype:
            got = f"{list(x.shape[1:])} {x.dtype} in item {position} after {list(first.shape[1:])} {first.dtype}"
            raise InputError(f"inputs of one shape and dtype in {name!r}", got, "bring them to one shape")
        size += x.nbytes
        if size > limit:  # also ends data without an end
            do = f"pass a smaller sample, or set {LIMIT_VARIABLE}"
            raise InputError(f"at most {limit} bytes in {name!r}", "more", do)
        inputs.append(x)
        if y is not None:
            labels.append(y)
    if not inputs:
        raise InputError(f"at least one example in {name!r}", "an empty set", "pass data with examples")
    return np.concatenate(inputs), _joined_labels(labels, name) if labels else None


def _joined_labels(labels: list[Array], name: str) -> Array:
    try:
        return np.concatenate(labels)
    except ValueError as error:
        raise InputError(f"a vector of labels in every batch of {name!r}", str(error), "yield class numbers") from None
