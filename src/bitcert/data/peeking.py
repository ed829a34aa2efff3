"""What inputs look like, without a look at any label: for a commitment made before the data are opened."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bitcert.data.load import is_table, open_table
from bitcert.data.names import INPUT_SHAPES, NUM_CLASSES, canonical_name
from bitcert.data.npz import read_npz_inputs
from bitcert.data.sample import MAX_CLASSES, Role, Sample
from bitcert.data.schema_file import SchemaSource, load_schema
from bitcert.data.table import peek_table
from bitcert.errors import InputError
from bitcert.random import stream

_EXAMPLES = 2


def peek(source: str, num_classes: int | None = None, schema: SchemaSource = None) -> Sample:
    """A sample of two examples in the role ``UNLABELLED`` that has shape, type and name of the data.

    Of a built-in data set nothing is read: its examples are drawn at random. Of an ``.npz`` archive ``x`` is read and
    ``y`` is not, of a table the first rows without their labels. Other sources keep labels and inputs together; state
    their shape instead (:func:`peek_shape`).

    Args:
        source: a built-in name or the path of an ``.npz`` archive or a table.
        num_classes: as stated by the user; without it that of a built-in data set, else to be read off the labels.
        schema: of a table, what is declared of it.

    Raises:
        InputError: another kind of source, or a file that cannot be read.

    >>> peek("mnist"), peek("mnist").classes_inferred
    (Sample('mnist', unlabelled, 2 of 1x28x28 uint8, 10 classes), False)
    """
    name = canonical_name(source)
    if name is not None:
        return _sample(_random(INPUT_SHAPES[name], False), num_classes or NUM_CLASSES, name)
    path = Path(source)
    if path.is_file() and is_table(path):
        return peek_table(open_table(path), load_schema(schema), num_classes, _EXAMPLES)
    if schema is not None:
        got, do = repr(source)[:200], "leave out label and schema"
        raise InputError("a table (.csv, .parquet) for a label or schema", got, do)
    if path.suffix != ".npz":
        do = "state its shape instead, e.g. --shape 3,32,32"
        raise InputError("a built-in name, a table or an .npz file, whose labels lie apart", repr(source)[:200], do)
    return _sample(read_npz_inputs(path)[:_EXAMPLES], num_classes, path.name)


def peek_shape(shape: tuple[int, ...], floats: bool, num_classes: int | None = None) -> Sample:
    """The same for inputs of a stated shape, in bytes or (``floats``) in float32.

    Raises:
        InputError: a shape that no input has.
    """
    if not shape or min(shape) < 1:
        raise InputError("sizes of 1 or more for --shape", str(list(shape)), "write e.g. 3,32,32")
    return _sample(_random(shape, floats), num_classes, "stated shape")


def _sample(inputs: np.ndarray, num_classes: int | None, name: str) -> Sample:
    # a number that is not stated is coded in the message; any number stands for it until the labels are read
    classes = MAX_CLASSES if num_classes is None else num_classes
    return Sample(inputs, np.empty(0, np.int64), classes, Role.UNLABELLED, name, num_classes is None)


def _random(shape: tuple[int, ...], floats: bool) -> np.ndarray:
    draws = stream(0, "peek").bit_generator.random_raw(_EXAMPLES * int(np.prod(shape)))
    pixels = (draws % 256).astype(np.uint8).reshape(_EXAMPLES, *shape)
    return pixels.astype(np.float32) / 255 if floats else pixels
