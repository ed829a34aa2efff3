"""The built-in data sets: where on this machine they are looked for, and the content hashes they should have.

``digits`` is inside scikit-learn (1,797 grey 8 x 8 images with pixels 0..16; there is no official test split). The
others are looked for in, in this order:

1. the folder named by the environment variable ``BITCERT_DATA``,
2. ``./data`` (the usual root of torchvision),
3. ``bitcert`` in ``$XDG_CACHE_HOME`` or ``~/.cache`` (where downloads are kept),
4. ``~/data``,
5. ``/usr/share/datasets`` (Debian's packages),

each under the folder names of :data:`FOLDERS`. Not guaranteed: that a folder of that name holds the original data;
the certificate therefore states the content hash of what was read, and :func:`is_original` compares it.
"""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from bitcert.data.cifar import FILES as CIFAR_FILES
from bitcert.data.cifar import has_cifar, read_cifar
from bitcert.data.files import reading
from bitcert.data.idx import find_idx_pair, read_idx_pair
from bitcert.data.sample import Array, Sample

SYSTEM_FOLDER = Path("/usr/share/datasets")
NUM_CLASSES = 10

FOLDERS = {
    "mnist": ("mnist", "MNIST/raw", "MNIST", "mnist/raw"),
    "fashion-mnist": (
        "fashion-mnist",
        "FashionMNIST/raw",
        "FashionMNIST",
        "fashion_mnist",
        "fashion-mnist/raw",
        "fashion_mnist/raw",
    ),
    "cifar10": (
        "cifar10",
        "cifar-10-batches-bin",
        "cifar10/cifar-10-batches-bin",
        "CIFAR10/cifar-10-batches-bin",
        "CIFAR10",
        "cifar-10",
    ),
}
"""Folder names tried under every root, in order."""

NAMES = ("digits", *FOLDERS)

INPUT_SHAPES = {"digits": (1, 8, 8), "mnist": (1, 28, 28), "fashion-mnist": (1, 28, 28), "cifar10": (3, 32, 32)}
"""Of one example, in bytes."""

CONTENT_HASHES = {
    ("digits", "train"): "ed51fc6241d487d4d9f4f566ce778b3fec621a8eb8079ebf3df4e47fd6ba21c2",
    ("mnist", "train"): "d81543c234d7b8c350355fc3a2bb7d475408fcb83d2609435f256fe391f473bc",
    ("mnist", "test"): "3e75849c531e55d1868476d4a16509886ecf115e642beb345436f71ac0e11e6a",
    ("fashion-mnist", "train"): "f29d1030bc5d878848a88e45ffb8dc41e97bbb75b15b040c6c3d9fdc8e6fe78a",
    ("fashion-mnist", "test"): "cd334fcbd204c43e1cb8773a2da4fa860686314b070f8a85bd00e433051fbc36",
    ("cifar10", "train"): "f0237a3fb924e7bc4f7005a53a25cdbd53f8fac54714171e02ba879bbebe1f30",
    ("cifar10", "test"): "cf6b8a40e97de7fded67e69b722fb4846dc2d49ba396be1443fec96e97f0d64f",
}
"""``Sample.content_hash`` of the published files, in their order."""


def canonical_name(name: str) -> str | None:
    """The built-in name meant by ``name`` (case, ``_``, ``-`` and spaces do not matter), or ``None``.

    >>> canonical_name("FashionMNIST"), canonical_name("CIFAR-10"), canonical_name("imagenet")
    ('fashion-mnist', 'cifar10', None)
    """
    bare = {known.replace("-", ""): known for known in NAMES}
    return bare.get(name.lower().replace("-", "").replace("_", "").replace(" ", ""))


def cache_folder() -> Path:
    """Where downloads are kept: ``bitcert`` in ``$XDG_CACHE_HOME``, by default in ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or _home() / ".cache") / "bitcert"


def _home() -> Path:
    return Path(os.path.expanduser("~"))  # unlike Path.home, does not raise for a user without a home


def search_roots() -> list[Path]:
    """The folders looked through for a built-in data set, in order."""
    own = os.environ.get("BITCERT_DATA")
    return [*([Path(own)] if own else []), Path("data"), cache_folder(), _home() / "data", SYSTEM_FOLDER]


def is_original(sample: Sample, name: str, split: str) -> bool | None:
    """Whether ``sample`` is, byte for byte, the published data set; ``None`` where its hash is not known here."""
    known = CONTENT_HASHES.get((name, split))
    return None if known is None else sample.content_hash == known


def benchmark_name(sample: Sample) -> str | None:
    """The built-in benchmark that ``sample`` is, by its content or by its name, or ``None``."""
    for (name, split), known in CONTENT_HASHES.items():
        if sample.content_hash == known:
            return name if split == "train" else f"{name} ({split})"
    return canonical_name(re.split(r"[\[(]", sample.name)[0])


def find_named(name: str, split: str) -> tuple[Array, Array] | None:
    """Read ``mnist``, ``fashion-mnist`` or ``cifar10`` from the first folder that holds it, or return ``None``.

    Images are ``[n, channels, height, width]``, labels ``[n]``.

    Args:
        name: a key of :data:`FOLDERS`.
        split: ``train`` or ``test``.

    Raises:
        InputError: when the first such folder holds incomplete or damaged files (the next is not tried silently).
    """
    for root in search_roots():
        for folder in (root / each for each in FOLDERS[name]):
            with reading(folder):
                found = _read_folder(name, split, folder)
            if found is not None:
                return found
    return None


def _read_folder(name: str, split: str, folder: Path) -> tuple[Array, Array] | None:
    if name == "cifar10":
        return read_cifar(folder, split) if has_cifar(folder, split) else None
    pair = find_idx_pair(folder, split)
    return read_idx_pair(*pair) if pair else None


def describe_search(name: str, split: str) -> str:
    """One phrase saying which files were looked for and where, for the error of a data set not found."""
    files = CIFAR_FILES[split][0] if name == "cifar10" else "IDX files (.gz or raw)"
    roots = ", ".join(str(root) for root in search_roots())
    hint = "" if os.environ.get("BITCERT_DATA") else " (BITCERT_DATA is not set)"
    return f"no {files} under {' or '.join(FOLDERS[name])} in {roots}{hint}"


def read_digits() -> tuple[Array, Array]:
    """The digits inside scikit-learn: images ``[1797, 1, 8, 8]`` uint8 with values 0..16, labels ``[1797]``.

    Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998 (its test part).
    """
    # Its file is read without loading scikit-learn, which takes two seconds.
    library = find_spec("sklearn")
    assert library is not None
    path = Path(str(library.origin)).parent / "datasets" / "data" / "digits.csv.gz"
    with reading(path):
        table = np.loadtxt(path, np.uint8, delimiter=",")
    return table[:, :-1].reshape(-1, *INPUT_SHAPES["digits"]), table[:, -1].astype(np.int64)
