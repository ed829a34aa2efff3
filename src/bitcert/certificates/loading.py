"""A certified classifier at work: from the files of a certificate, without the training data.

What is loaded is the decoded message, the classifier that the certificate is about. The files must fit each other
(hashes, sections, helper). NOT checked here: the counts and the bound, which need the training data and
:func:`bitcert.verify`; nor that new data are drawn like the training sample, which nobody can check.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bitcert.certificates import reading
from bitcert.certificates.certificate import CERTIFICATE_FILE, Certificate
from bitcert.certificates.original import load_test_part
from bitcert.certificates.reading import CannotCheckError, Checker, InvalidError, MakeModel
from bitcert.counting import Classifier
from bitcert.data import Role, Sample, Schema, Table, shaped_like, to_sample
from bitcert.data.sample import MAX_CLASSES
from bitcert.data.schema_file import SchemaSource
from bitcert.decoder import Decoded, Helper
from bitcert.errors import DecodeError, InputError
from bitcert.network import OpaqueModel

MAX_INPUT_SIZE = 1 << 26
"""Numbers of one input, of a stranger's certificate."""


@dataclass(frozen=True, eq=False)
class Certified:
    """The classifier of a certificate.

    Attributes:
        certificate: what is claimed of it.
        helper: what it was decoded with.
        decoded: classifier, ledger, description.
        like: an empty sample of the problem: shape of an input, number of classes, how a table is read.
    """

    certificate: Certificate
    helper: Helper
    decoded: Decoded
    like: Sample

    @property
    def classifier(self) -> Classifier:
        """Raw inputs ``[batch, ...]``, as they stand in the data -> logits ``[batch, classes]``, float32."""
        return self.decoded.classifier

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of a table whose labels are texts; else empty: classes are numbers from 0."""
        return () if self.like.table is None else self.like.table.schema.classes

    def read(self, source: str | Path) -> Sample:
        """New examples by name (its test part) or path, read as the training data were; labels are not looked at.

        Raises:
            InputError: they cannot be read, or have inputs of another shape.
        """
        return self._fitting(load_test_part(source, Role.UNLABELLED, self.like))

    def logits(self, inputs: object) -> Iterator[torch.Tensor]:
        """Logits ``[batch, classes]`` of new examples, batch by batch, in their order.

        Args:
            inputs: a sample (see :meth:`read`), or an array or tensor of raw inputs ``[n, ...]``.

        Raises:
            InputError: inputs of another shape.
        """
        if not isinstance(inputs, Sample):
            inputs = to_sample(inputs, Role.UNLABELLED, num_classes=self.like.num_classes)
        sample = self._fitting(inputs)
        for batch, _ in sample.batches(self.helper.batch_size):
            with torch.no_grad():
                yield self.classifier(batch)

    def predict(self, inputs: object) -> NDArray[np.int64]:
        """The class ``[n]`` of each example, the first of equal ones; arguments and errors as :meth:`logits`."""
        return np.concatenate([logits.argmax(1).numpy() for logits in self.logits(inputs)])

    def _fitting(self, sample: Sample) -> Sample:
        found, shape = shaped_like(sample, self.like.input_shape), self.like.input_shape
        if found.input_shape != shape:
            got, do = f"shape {list(found.input_shape)}", "give data like those that were certified"
            raise InputError(f"inputs of shape {list(shape)}", got, do)
        return found


def load(
    certificate: str | Path, *, model: OpaqueModel | MakeModel | None = None, schema: SchemaSource = None
) -> Certified:
    """The certified classifier, ready for new data.

    Args:
        certificate: a folder that ``bitcert certify`` wrote, or the ``certificate.json`` in it.
        model: of a network that is Python code: the network, or what makes it; runs that code.
        schema: of a table that was certified with a schema: the same one.

    Raises:
        InputError: something that is needed is missing, or the certificate is about an original network, not about
            what can be decoded.
        DecodeError: the files do not fit each other, or are not bitcert's.
    """
    path = Path(certificate)
    path = path / CERTIFICATE_FILE if path.is_dir() else path
    check = Checker()
    try:
        found = reading.read_certificate(path, check)
        if found.original is not None:
            got = f"one of the original network {found.original.get('name')!r}"
            raise InputError("a certificate of the decoded message", got, "use that network")
        like = _stand_in(found, schema)
        helper = reading.read_helper(found, path.parent, like, check, model)
        decoded = reading.decode(found, reading.read_message(path), helper, check)
    except CannotCheckError as error:
        got, _, do = str(error).partition("; ")
        raise InputError("all that the classifier is made of", got, do or "pass it as well") from None
    except InvalidError as error:
        got = str(error).partition("; ")[0]
        raise DecodeError("files of a certificate that fit each other", got, "ask for them again") from None
    return Certified(found, helper, decoded, like)


def _stand_in(certificate: Certificate, given: SchemaSource) -> Sample:
    """Two examples of zeros in place of the training data, whose problem the certificate states."""
    stated, classes = certificate.data.get("input_shape"), certificate.data.get("num_classes")
    sizes = stated if isinstance(stated, list) and all(type(size) is int and size > 0 for size in stated) else []
    if not sizes or math.prod(sizes) > MAX_INPUT_SIZE or type(classes) is not int or not 2 <= classes <= MAX_CLASSES:
        raise InvalidError("data description: no shape and number of classes of a problem")
    schema = reading.table_schema(certificate, given, None)
    table = None
    if schema is not None:
        order = _stated_order(certificate, schema)
        table = Table(schema, (schema.label or "", *order), order)
    inputs = np.broadcast_to(np.float32(0), (2, *sizes))
    name = str(certificate.data.get("name"))
    return Sample(inputs, np.arange(2), classes, Role.TRAIN, name, table=table)


def _stated_order(certificate: Certificate, schema: Schema) -> tuple[str, ...]:
    """The columns beside those of the schema that a certificate names, in their order.

    Raises:
        InvalidError: they are no columns of a table.
    """
    names = certificate.data["table"].get("columns", [])
    try:
        if not all(isinstance(name, str) for name in names):
            raise InputError("names of columns", "other values", "")
        order: tuple[str, ...] = tuple(names)
        _ = Table(schema, (), order).completed
        return order
    except InputError as error:
        raise InvalidError(f"data description: {error}") from None
