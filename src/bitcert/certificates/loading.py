"""A certified classifier at work: from the files of a certificate, without the training data.

What is loaded is the decoded message, the classifier that the certificate is about, as an ``nn.Module``. The files must
fit each other (hashes, sections, helper). NOT checked here: the counts and the bound, which need the training data and
:func:`bitcert.verify`; nor that new data are drawn like the training sample, which nobody can check.

*Near-ties.* The certificate counts an example as an error if its two largest logits are closer than rounding on any
machine might move them. So its bound holds whichever of the two classes is answered: the module answers the first of
the largest float32 logits, on any device. Trees have none: their tests are computed in float64, their logits are 0 and
1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bitcert.certificates import reading
from bitcert.certificates.certificate import CERTIFICATE_FILE, Certificate
from bitcert.certificates.original import load_test_part
from bitcert.certificates.reading import CannotCheckError, Checker, InvalidError, MakeModel
from bitcert.counting import TensorClassifier, Values, one_pass
from bitcert.data import Role, Sample, Schema, Table, shaped_like, to_sample
from bitcert.data.sample import MAX_CLASSES
from bitcert.data.schema_file import SchemaSource
from bitcert.decoder import Decoded, Helper
from bitcert.errors import DecodeError, InputError
from bitcert.network import OpaqueModel
from bitcert.shards import in_shards

MAX_INPUT_SIZE = 1 << 26
"""Numbers of one input, of a stranger's certificate."""


class Store(nn.Module):
    """Tensors by name; dots in a name are levels of modules, so that a state dict has the names as they are."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, value in tensors.items():
            *path, last = name.split(".")
            at = self
            for part in path:  # entered past the checks of nn.Module, which would refuse the name of a method
                at = at._modules.setdefault(part, Store({}))  # type: ignore[assignment]
            if value.is_floating_point():
                at._parameters[last] = nn.Parameter(value.clone(), requires_grad=False)
            else:
                at._buffers[last] = value.clone()

    def tensors(self) -> dict[str, Tensor]:
        """All of them by name."""
        return {**dict(self.named_parameters()), **dict(self.named_buffers())}


class Certified(nn.Module):
    """The classifier of a certificate: raw inputs ``[batch, ...]``, as they stand in the data -> logits, float32.

    It is in evaluation mode, whatever is asked of it. Its tensors are those that the message decodes to, in ``network``
    under the names of the architecture; they need no gradient.

    Args:
        certificate: what is claimed of it.
        helper: what it was decoded with.
        decoded: classifier, ledger, description.
        message: what was decoded.
        like: an empty sample of the problem: shape of an input, number of classes, how a table is read.
    """

    def __init__(
        self, certificate: Certificate, helper: Helper, decoded: Decoded, message: bytes, like: Sample
    ) -> None:
        super().__init__()
        self.certificate, self.helper, self.decoded = certificate, helper, decoded
        self.message, self.like = message, like
        assert isinstance(decoded.classifier, TensorClassifier)
        self._classifier = decoded.classifier
        self.network = Store(self._classifier.tensors)
        self.train(False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits ``[batch, classes]``, float32, of raw inputs ``[batch, ...]`` (not preprocessed, of any dtype)."""
        with torch.device(inputs.device):
            return self._classifier.compute(inputs, self.network.tensors(), torch.float32)

    def train(self, mode: bool = True) -> Certified:
        """Nothing: what is certified behaves as in evaluation, always."""
        return super().train(False)

    def extra_repr(self) -> str:
        """The certificate's sentence, while the tensors are those that it is about."""
        if not self.is_intact():
            return "not certified: its tensors are no longer those of the message"
        return f"{self.decoded.description}\n{self.certificate.sentence}"

    def is_intact(self) -> bool:
        """Whether the tensors are still those of the message; of any others the certificate says nothing."""
        expected, found = self._classifier.tensors, self.network.tensors()
        return expected.keys() == found.keys() and all(
            value.dtype == found[name].dtype and torch.equal(value, found[name].cpu())
            for name, value in expected.items()
        )

    @property
    def input_dtype(self) -> torch.dtype:
        """float32, or int64 for a network of tokens; other dtypes are converted."""
        tokens = getattr(self.helper.predictor, "input_dtype", "float32") == "int64"
        return torch.int64 if tokens else torch.float32

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return next(iter(self.network.tensors().values())).device

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of a table whose labels are texts; else empty: classes are numbers from 0."""
        return () if self.like.table is None else self.like.table.schema.classes

    def read(self, source: str | Path, download: bool = False) -> Sample:
        """New examples by name (its test part) or path, read as the training data were; labels are not looked at.

        With ``download`` built-in data that are not found are fetched.

        Raises:
            InputError: they cannot be read, or have inputs of another shape.
        """
        return self._fitting(load_test_part(source, Role.UNLABELLED, self.like, download))

    def sample(self, inputs: object) -> Sample:
        """Raw inputs ``[n, ...]`` (a sample, array or tensor) as an unlabelled sample of this problem.

        Raises:
            InputError: inputs of another shape.
        """
        if not isinstance(inputs, Sample):
            inputs = to_sample(inputs, Role.UNLABELLED, num_classes=self.like.num_classes)
        return self._fitting(inputs)

    def logits(self, inputs: object) -> Iterator[Tensor]:
        """Logits ``[batch, classes]`` of new examples, batch by batch, in their order.

        Args:
            inputs: a sample (see :meth:`read`), or an array or tensor of raw inputs ``[n, ...]``.

        Raises:
            InputError: inputs of another shape.
        """
        return self._logits(self.sample(inputs))

    def predict(self, inputs: object) -> NDArray[np.int64]:
        """The class ``[n]`` of each example, the first of equal ones; arguments and errors as :meth:`logits`."""
        sample = self.sample(inputs)

        def classes(start: int, stop: int) -> NDArray[np.int64]:
            return np.concatenate([logits.argmax(1).cpu().numpy() for logits in self._logits(sample, (start, stop))])

        return np.concatenate(in_shards(classes, len(sample), self.helper.batch_size, "predicting"))

    def _logits(self, sample: Sample, within: tuple[int, int] | None = None) -> Iterator[Tensor]:
        def run(batch: Values) -> Tensor:
            return self.forward(torch.from_numpy(np.array(batch)).to(self.device))

        return (logits for (logits,), _ in one_pass((run,), sample, self.helper.batch_size, within=within))

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
        InputError: something that is needed is missing, the files describe the network and ``model`` is given too, or
            the certificate is about an original network, not about what can be decoded.
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
        if model is not None and not isinstance(helper.predictor, OpaqueModel):
            raise InputError("no --model, as the files describe the network", "one", "leave it out")
        message = reading.read_message(path)
        decoded = reading.decode(found, message, helper, check)
    except CannotCheckError as error:
        got, _, do = str(error).partition("; ")
        raise InputError("all that the classifier is made of", got, do or "pass it as well") from None
    except InvalidError as error:
        got = str(error).partition("; ")[0]
        raise DecodeError("files of a certificate that fit each other", got, "ask for them again") from None
    return Certified(found, helper, decoded, message, like)


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
    return empty_sample(tuple(sizes), classes, str(certificate.data.get("name")), table)


def empty_sample(shape: tuple[int, ...], num_classes: int, name: str, table: Table | None = None) -> Sample:
    """Two examples of zeros that stand for data of this shape, number of classes and table."""
    inputs = np.broadcast_to(np.float32(0), (2, *shape))
    return Sample(inputs, np.arange(2), num_classes, Role.TRAIN, name, table=table)


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
