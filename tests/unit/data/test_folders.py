"""CIFAR-10 binary batches and folders of images."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from bitcert.data import Role, load_sample
from bitcert.data import folder as folder_module
from bitcert.errors import InputError


def cifar_records(n, seed):
    rng = np.random.default_rng(seed)
    records = rng.integers(0, 256, (n, 3073), dtype=np.uint8)
    records[:, 0] = np.arange(n) % 10
    return records


def write_cifar(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(1, 6):
        (folder / f"data_batch_{i}.bin").write_bytes(cifar_records(4, i).tobytes())
    (folder / "test_batch.bin").write_bytes(cifar_records(3, 9).tobytes())
    return folder


def test_cifar_round_trip(tmp_path):
    write_cifar(tmp_path)
    train, test = load_sample(tmp_path, Role.TRAIN), load_sample(tmp_path, Role.HOLDOUT, split="test")
    assert train.inputs.shape == (20, 3, 32, 32)
    assert train.num_classes == 10
    assert np.array_equal(train.inputs[4:8].reshape(4, -1), cifar_records(4, 2)[:, 1:])
    assert np.array_equal(train.labels[8:12], cifar_records(4, 3)[:, 0])
    assert np.array_equal(test.inputs.reshape(3, -1), cifar_records(3, 9)[:, 1:])


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (None, "data_batch_3.bin.*No such file"),
        (b"", "data_batch_3.bin.*0 bytes"),
        (b"x" * 3074, "data_batch_3.bin.*3074"),
    ],
)
def test_cifar_refusals(tmp_path, content, match):
    path = write_cifar(tmp_path) / "data_batch_3.bin"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=match):
        load_sample(tmp_path, Role.TRAIN)


def test_cifar_label_out_of_range(tmp_path):
    records = cifar_records(4, 1)
    records[2, 0] = 10
    (write_cifar(tmp_path) / "data_batch_1.bin").write_bytes(records.tobytes())
    with pytest.raises(InputError, match="label 10 at index 2"):
        load_sample(tmp_path, Role.TRAIN)


def write_images(folder, mode="L", kind="png", size=(5, 4), per_class=2, classes=("cat", "bird", "dog")):
    rng = np.random.default_rng(0)
    bands = len(Image.new(mode, (1, 1)).getbands())
    written = {}
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(per_class):
            shape = (size[1], size[0]) + ((bands,) if bands > 1 else ())
            pixels = rng.integers(0, 256, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.{kind}")
            written[f"{name}/{i}"] = pixels
    return written


@pytest.mark.parametrize(
    ("mode", "kind"), [("L", "png"), ("RGB", "png"), ("RGBA", "png"), ("RGB", "bmp"), ("L", "tiff")]
)
def test_image_folder_round_trip(tmp_path, mode, kind):
    written = write_images(tmp_path, mode, kind)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "cat" / ".DS_Store").write_bytes(b"x")
    sample = load_sample(tmp_path, Role.TRAIN)
    assert sample.num_classes == 3
    assert sample.labels.tolist() == [0, 0, 1, 1, 2, 2]
    for row, key in enumerate(["bird/0", "bird/1", "cat/0", "cat/1", "dog/0", "dog/1"]):
        pixels = written[key][None] if mode == "L" else np.moveaxis(written[key], 2, 0)
        assert np.array_equal(sample.inputs[row], pixels)


def test_image_folder_with_splits(tmp_path):
    write_images(tmp_path / "train", per_class=3)
    with pytest.raises(InputError, match=r"a folder test.*only train"):
        load_sample(tmp_path, Role.HOLDOUT, split="test")
    write_images(tmp_path / "test", per_class=1)
    assert len(load_sample(tmp_path, Role.TRAIN)) == 9
    assert len(load_sample(tmp_path, Role.HOLDOUT, split="test")) == 3


def png_of_declared_size(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 10)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"no image", "readable file.*broken.png.*cannot identify"),
        (png_of_declared_size(5, 4), "readable file.*broken.png.*truncated"),
        (png_of_declared_size(5000, 5000), "at most 16777216 pixels.*broken.png.*5000 x 5000"),
        (png_of_declared_size(50000, 50000), "readable file.*broken.png.*bomb"),
        (png_of_declared_size(10_500, 10_500), "at most 16777216 pixels.*broken.png"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 4\n", "readable file.*broken.png"),
    ],
)
def test_images_that_cannot_be_read_are_named(tmp_path, content, match, recwarn):
    write_images(tmp_path)
    (tmp_path / "cat" / "broken.png").write_bytes(content)
    with pytest.raises(InputError, match=match):
        load_sample(tmp_path, Role.TRAIN)
    assert not recwarn.list


@pytest.mark.parametrize(
    ("image", "match"),
    [
        (Image.new("L", (4, 5)), "like the first, \\[1, 4, 5\\].*odd.png.*\\[1, 5, 4\\]"),
        (Image.new("RGB", (5, 4)), "like the first.*odd.png.*\\[3, 4, 5\\]"),
        (Image.new("P", (5, 4)), "odd.png.*mode P"),
        (Image.new("1", (5, 4)), "odd.png.*mode 1"),
        (Image.new("I;16", (5, 4)), "odd.png.*mode I;16"),
    ],
)
def test_unlike_images_are_named(tmp_path, image, match):
    write_images(tmp_path)
    image.save(tmp_path / "dog" / "odd.png")
    with pytest.raises(InputError, match=match):
        load_sample(tmp_path, Role.TRAIN)


def test_animations_and_empty_classes_and_single_classes(tmp_path):
    write_images(tmp_path / "one", classes=("cat",))
    with pytest.raises(InputError, match="at least two subfolders"):
        load_sample(tmp_path / "one", Role.TRAIN)
    (tmp_path / "one" / "dog").mkdir()
    with pytest.raises(InputError, match=r"at least one image in .*dog"):
        load_sample(tmp_path / "one", Role.TRAIN)
    frames = [Image.new("L", (5, 4), color) for color in (0, 200)]
    frames[0].save(tmp_path / "one" / "dog" / "a.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match=r"single image in .*a.gif.*2 frames"):
        load_sample(tmp_path / "one", Role.TRAIN)


def test_total_size_is_bounded(tmp_path, monkeypatch):
    write_images(tmp_path)
    monkeypatch.setenv("BITCERT_MAX_DATA_BYTES", "119")
    with pytest.raises(InputError, match="at most 119 bytes"):
        load_sample(tmp_path, Role.TRAIN)


def test_how_far_images_may_unfold_depends_on_their_files(tmp_path, monkeypatch):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.new("L", (1000, 1000)).save(tmp_path / name / f"{number}.png")
    assert load_sample(tmp_path, Role.TRAIN).inputs.shape == (6, 1, 1000, 1000)
    monkeypatch.setattr("bitcert.data.files.FREE_BYTES", 1 << 20)
    with pytest.raises(InputError, match=r"at most 1048576 bytes .* 6000000 bytes; if you trust"):
        load_sample(tmp_path, Role.TRAIN)


def test_only_pixel_formats_are_decoded():
    assert "EPS" not in folder_module.FORMATS
