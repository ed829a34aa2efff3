"""A folder of images, one subfolder a class; classes are numbered in the sorted order of their names.

Decoded by Pillow to ``[n, channels, height, width]`` uint8. Every file must have the same size and mode (grey, RGB or
RGBA); nothing is resized or converted, because errors are counted on the data as given. Files and folders whose
name starts with a dot are the system's and are left out; any other file must be an image. Not guaranteed: that two
versions of a JPEG decoder give the same pixels, hence the same content hash; PNG does.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bitcert.data.files import check_size, reading, refused
from bitcert.data.sample import Array
from bitcert.errors import InputError

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
"""Only these decoders of Pillow are tried: all decode pixels without running another program."""

MAX_PIXELS = 1 << 24
"""Pixels a single image may have; a small file that declares more is a decompression bomb."""

CHANNELS = {"L": 1, "RGB": 3, "RGBA": 4}


def read_image_folder(folder: Path) -> tuple[Array, Array, int]:
    """Images ``[n, channels, height, width]`` uint8, labels ``[n]`` and the number of classes (subfolders).

    Raises:
        InputError: for a folder without at least two classes, an empty class, and, naming the file, an image that is
            unreadable, too large, of an unsupported mode, or unlike the first one.
    """
    classes = class_folders(folder)
    if len(classes) < 2:
        expected = f"at least two subfolders (one a class) in {folder}"
        raise InputError(expected, str(len(classes)), "put the images of each class in its own subfolder")
    files = [(path, label) for label, each in enumerate(classes) for path in _images_of(each)]
    first = read_image(files[0][0])
    whole = len(files) * first.nbytes
    check_size(folder, whole, whole, sum(path.stat().st_size for path, _ in files), len(files))
    images = np.empty((len(files), *first.shape), np.uint8)
    for row, (path, _) in enumerate(files):
        image = read_image(path)
        if image.shape != first.shape:
            got = f"{list(image.shape)} (channels, height, width)"
            raise refused(path, f"an image like the first, {list(first.shape)},", got, "bring all to one size and mode")
        images[row] = image
    return images, np.array([label for _, label in files], np.int64), len(classes)


def class_folders(folder: Path) -> list[Path]:
    """The subfolders of ``folder`` in the order of their names, without those that start with a dot."""
    return [each for each in _entries(folder) if each.is_dir()]


def _entries(folder: Path) -> list[Path]:
    with reading(folder):
        return sorted(each for each in folder.iterdir() if not each.name.startswith("."))


def _images_of(folder: Path) -> list[Path]:
    if not (files := _entries(folder)):
        raise refused(folder, "at least one image", "an empty folder", "add images or remove the folder")
    return files


def read_image(path: Path, stream: IO[bytes] | None = None) -> NDArray[np.uint8]:
    """Pixels ``[channels, height, width]`` of the file at ``path``, or of one inside it.

    Raises:
        InputError: naming the file, for an image that is unreadable, too large or of an unsupported mode.
    """
    with reading(path, Exception):  # decoders of hostile files raise whatever they meet
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own, lower bound follows
            image = Image.open(stream or path, formats=FORMATS)
        with image:
            _check_image(image, path)
            pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, 2, 0)


def _check_image(image: Image.Image, path: Path) -> None:
    if image.width * image.height > MAX_PIXELS:
        got = f"{image.width} x {image.height}"
        raise refused(path, f"at most {MAX_PIXELS} pixels", got, "make the image smaller")
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise refused(path, "a single image", f"{frames} frames", "store each frame as a file")
    if image.mode not in CHANNELS:
        got = f"mode {image.mode}"
        raise refused(path, f"an image of mode {', '.join(CHANNELS)}", got, "convert all images to grey or RGB")
