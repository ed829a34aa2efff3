"""Download a built-in data set from OpenML through scikit-learn, check it, and keep it.

Kept as one ``.npz`` a split in :func:`bitcert.data.names.cache_folder`, written under a temporary name and then
renamed, so a killed download leaves no half file. MNIST and Fashion-MNIST are checked against the content hash of
the published files; for CIFAR-10 only the shape and OpenML's own checksum are.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from bitcert.data.files import unreadable
from bitcert.data.names import CONTENT_HASHES, NUM_CLASSES, cache_folder, is_original
from bitcert.data.npz import read_npz
from bitcert.data.sample import Array, Role, Sample
from bitcert.errors import InputError

Progress = Callable[[str, float], None]
"""Called with what is being done and the fraction done, 0 to 1."""

SOURCES = {
    "mnist": ("mnist_784", (1, 28, 28), 60_000, 10_000),
    "fashion-mnist": ("Fashion-MNIST", (1, 28, 28), 60_000, 10_000),
    "cifar10": ("CIFAR_10", (3, 32, 32), 50_000, 10_000),
}
"""Name at OpenML (version 1), shape of an image, and how many of the first rows train and of the last rows test."""


def cached(name: str, split: str) -> tuple[Array, Array] | None:
    """A split that was downloaded before, images and labels, or ``None``.

    Raises:
        InputError: when the file is damaged.
    """
    path = _cache_file(name, split)
    if not path.is_file():
        return None
    inputs, labels = read_npz(path)
    assert labels is not None
    _check(name, split, inputs, labels, str(path), f"delete {path} and download it again")
    return inputs, labels


def download_openml(name: str, progress: Progress | None = None) -> None:
    """Fetch both splits of ``mnist``, ``fashion-mnist`` or ``cifar10`` into the cache.

    Args:
        name: a key of :data:`SOURCES`.
        progress: called at each step.

    Raises:
        InputError: when there is no connection, the content is not the published one, or the disk is full.
    """
    report = progress or (lambda what, fraction: None)
    source, shape, num_train, num_test = SOURCES[name]
    report(f"downloading {name} from OpenML", 0.0)
    inputs, labels = _fetch(name, source)
    report(f"checking {name}", 0.8)
    if inputs.shape != (num_train + num_test, int(np.prod(shape))):
        got = f"shape {list(inputs.shape)}"
        raise InputError(f"{num_train + num_test} images of {list(shape)} from OpenML", got, f"get {name} elsewhere")
    images = inputs.reshape(-1, *shape)
    parts = {"train": slice(0, num_train), "test": slice(num_train, None)}
    for split, part in parts.items():
        _check(name, split, images[part], labels[part], "OpenML", "try again, or get the files from their authors")
    for split, part in parts.items():
        report(f"keeping {name}, {split}", 0.9)
        _keep(_cache_file(name, split), images[part], labels[part])
    report(f"{name} is ready", 1.0)


def _fetch(name: str, source: str) -> tuple[Array, Array]:
    from sklearn.datasets import fetch_openml

    parser = "pandas" if find_spec("pandas") else "liac-arff"
    home = str(cache_folder() / "openml")
    try:
        bunch = fetch_openml(source, version=1, as_frame=False, parser=parser, data_home=home)
        return _bytes(bunch.data), np.asarray(bunch.target).astype(np.int64)
    except (OSError, ValueError, EOFError, HTTPException) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        do = "check the connection, or put its files in the folder BITCERT_DATA names"
        raise InputError(f"{name} from OpenML", f"{type(error).__name__}: {reason}", do) from error


def _bytes(values: object) -> Array:
    numbers = np.asarray(values)
    pixels = numbers.astype(np.uint8)
    if numbers.ndim != 2 or not np.array_equal(pixels, numbers):
        raise ValueError("the data are not a table of whole numbers from 0 to 255")
    return pixels


def _check(name: str, split: str, inputs: Array, labels: Array, where: str, do: str) -> None:
    sample = Sample.from_arrays(inputs, labels, Role.TRAIN, f"{name} from {where}", NUM_CLASSES)
    if is_original(sample, name, split) is False:
        expected = f"{name} ({split}) with content hash {CONTENT_HASHES[name, split][:16]}... from {where}"
        raise InputError(expected, f"{sample.content_hash[:16]}...", do)


def _cache_file(name: str, split: str) -> Path:
    return cache_folder() / f"{name}-{split}.npz"


def _keep(path: Path, inputs: Array, labels: Array) -> None:
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            np.savez(file, x=inputs, y=labels)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise unreadable(path, error) from error
