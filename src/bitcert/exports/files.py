"""Write a certified classifier in another format, checked on a batch; and tell whether a file is such an export.

The certificate is about the message, not about the file. What binds them is that an export can be repeated: whoever has
verified the certificate exports again with the versions that the file names, and compares SHA-256 hashes. A changed
file has another hash, whatever certificate it carries. NOT claimed: that a batch on which logits agree shows that two
programs are the same function.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from bitcert.certificates.loading import Certified
from bitcert.errors import InputError, unknown_name
from bitcert.exports.agreement import MOST_EXAMPLES, Agreement, compare, random_inputs
from bitcert.exports.formats import Format, run_onnx, run_program, to_bytes
from bitcert.locking import replacing


@dataclass(frozen=True)
class Export:
    """A file that was written.

    Attributes:
        path: of the file.
        format: of the file.
        sha256: hash of its content, hexadecimal.
        agreement: how it compared with the certified classifier.
    """

    path: Path
    format: Format
    sha256: str
    agreement: Agreement


def export(certified: Certified, path: str | Path, to: Format | str | None = None, inputs: object = None) -> Export:
    """Write ``certified`` to a file; the certificate and the message are in its metadata.

    Args:
        certified: from :func:`bitcert.load`.
        path: of the file; one that is there is replaced.
        to: ``"onnx"`` (extra ``onnx``), ``"pt2"``, ``"torchscript"`` or ``"state_dict"`` (safetensors); by default what
            the end of the name says.
        inputs: raw inputs ``[n, ...]`` to compare on; by default random ones.

    Returns:
        The file, its hash, and how far its logits were off.

    Raises:
        InputError: an unknown format, one that cannot express the classifier, a package that is missing, tensors that
            were changed since they were loaded, or an export that does not agree.
    """
    path = Path(path)
    kind = _format(path, to)
    if not certified.is_intact():
        raise InputError("the tensors that were certified", "others", "load the certificate again")
    sample = None if inputs is None else _some(certified, inputs)
    content = to_bytes(certified, kind)
    agreement = _agreement(certified, kind, content, random_inputs(certified) if sample is None else sample)
    with replacing(path) as fresh:
        fresh.write_bytes(content)
    return Export(path, kind, hashlib.sha256(content).hexdigest(), agreement)


def is_export(certified: Certified, path: str | Path, to: Format | str | None = None) -> bool:
    """Whether a file has exactly the bytes that :func:`export` writes here; the file is hashed, never run.

    ``False`` for a changed file, and also for one that other versions of torch or onnx have written.

    Raises:
        InputError: as :func:`export`.
        OSError: the file cannot be read.
    """
    path = Path(path)
    content = to_bytes(certified, _format(path, to))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest() == hashlib.sha256(content).digest()


def _format(path: Path, to: Format | str | None) -> Format:
    if to is None:
        suffixes = {kind.suffix: kind for kind in Format}
        if path.suffix not in suffixes:
            expected = f"a file whose name ends in {', '.join(suffixes)}"
            raise InputError(expected, repr(path.name), "name the format")
        return suffixes[path.suffix]
    if to not in tuple(Format):
        raise unknown_name("format", str(to), list(Format))
    return Format(to)


def _some(certified: Certified, inputs: object) -> Tensor:
    found = torch.from_numpy(certified.sample(inputs).inputs[:MOST_EXAMPLES].copy()).to(certified.input_dtype)
    return found if len(found) > 1 else torch.cat([found, found])


def _agreement(certified: Certified, kind: Format, content: bytes, inputs: Tensor) -> Agreement:
    if kind is not Format.state_dict:
        return compare(certified, run_onnx(content) if kind is Format.onnx else run_program(content, kind), inputs)
    found, expected = safetensors.torch.load(content), certified.network.state_dict()
    if found.keys() != expected.keys() or not all(torch.equal(found[name], expected[name].cpu()) for name in found):
        raise InputError("a file with the certified tensors", "others", "use another disk")
    return Agreement(0, 0.0, 0.0)
