"""Messages found next to a network: read from the files of a certificate, decoded, and counted again on the sample.

Nothing that a certificate claims is taken over: the bits are the length of ``message.bin``, the classifier is what the
program decodes from it, and errors and deviations are counted by :mod:`bitcert.theory.ingredients.sample_pass`. A
certificate of other data is left out with a sentence, because its message has seen other examples. What no file can
show stands as in :mod:`bitcert.certificates.verification`: that architecture, preprocessing and public weights were
fixed before the data were seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bitcert.certificates.certificate import CERTIFICATE_FILE
from bitcert.certificates.reading import (
    CannotCheckError,
    Checker,
    InvalidError,
    check_sample,
    decode,
    read_certificate,
    read_helper,
    read_message,
)
from bitcert.certificates.workload import WorkLimit
from bitcert.counting import Classifier
from bitcert.data import Sample
from bitcert.decoder import Helper, HelperWeights
from bitcert.errors import DecodeError, InputError
from bitcert.network import Architecture, Network

_LONGEST_NAME = 200


@dataclass(frozen=True, eq=False)
class OpenedMessage:
    """A decoded message.

    Attributes:
        name: folder or file it came from, as given.
        bits: its length.
        classifier: raw inputs to logits.
        batch_size: examples that fit the memory at a time.
        basis: the public weights that the message refers to, in words; empty if there are none.
    """

    name: str
    bits: int
    classifier: Classifier
    batch_size: int
    basis: str = ""


def open_messages(
    paths: Sequence[Path | str], sample: Sample, network: Network | None = None
) -> tuple[tuple[OpenedMessage, ...], str]:
    """The messages of this sample among the certificates named, and a note on where it was looked.

    Args:
        paths: ``certificate.json`` files, or folders with one in it.
        sample: the training data; certificates of other data are left out.
        network: the trained network; a message whose public weights are just these has seen the data, and is left out.

    Raises:
        InputError: a file that cannot be read.
        DecodeError: files that are no certificate and message of this program, or that contradict each other.
    """
    if isinstance(paths, (str, Path)):
        paths = (paths,)
    opened: list[OpenedMessage] = []
    left_out: list[str] = []
    seen: set[Path] = set()
    for path in paths:
        file = Path(path)
        file = file / CERTIFICATE_FILE if file.is_dir() else file
        if file.resolve() in seen:
            left_out.append(f"{_name(path)}: given twice")
            continue
        seen.add(file.resolve())
        try:
            found = _open(file, _name(path), sample, network)
        except CannotCheckError as missing:
            raise InputError("a certificate.json that can be read", str(missing), "correct the path") from None
        except InvalidError as failure:
            got = f"{_name(path)}: {failure}"[:300]
            raise DecodeError("a certificate.json written by bitcert", got, "ask for the files again") from None
        if isinstance(found, str):
            left_out.append(f"{_name(path)}: {found}")
        else:
            opened.append(found)
    return tuple(opened), _note(len(opened), left_out)


def _name(path: Path | str) -> str:
    return str(path)[-_LONGEST_NAME:]


def _note(count: int, left_out: Sequence[str]) -> str:
    if not count and not left_out:
        return "no certificate was named"
    read = f"{count} {'message' if count == 1 else 'messages'} read"
    return "; ".join([read, *(f"left out {text}" for text in left_out)])[:1000]


def _open(file: Path, name: str, sample: Sample, network: Network | None) -> OpenedMessage | str:
    """The message, or why it is left out."""
    check = Checker()
    certificate = read_certificate(file, check)
    message = read_message(file)
    try:
        check_sample(certificate, sample, check)
    except CannotCheckError:
        return "its certificate is of other data (the content hashes differ)"
    if certificate.prior is not None:
        return "its helper has seen a part of these data (prior split), so they are no sample for it"
    if certificate.helper.get("factory") is not None:
        return "its network is Python code, which is not run here"
    helper = read_helper(certificate, file.parent, sample, check)
    if network is not None and _holds(helper, network):
        return "its public weights are those of this network, which has seen the data"
    try:
        WorkLimit().admit(helper.predictor, len(sample))
    except CannotCheckError as much:
        return str(much)
    decoded = decode(certificate, message, helper, check)
    basis = "" if helper.weights is None else f"{name} refers to public weights {helper.weights.content_hash[:16]}"
    return OpenedMessage(name, 8 * len(message), decoded.classifier, helper.batch_size, basis)


def _holds(helper: Helper, network: Network) -> bool:
    """Whether the helper's public weights are the network's."""
    if helper.weights is None or not isinstance(helper.predictor, Architecture):
        return False
    if helper.predictor.content_hash != network.architecture.content_hash:
        return False
    return helper.weights.content_hash == HelperWeights.of(network.architecture, network.parameters).content_hash
