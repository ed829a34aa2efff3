"""A folder of the kind that model hubs hold: certificate, message, tensors, and a model card that states the claim.

:func:`bitcert.load` reads the folder, and ``bitcert verify`` checks it. The card says what is proved, under which
conditions, and how to check it. NOT in it: the training data, which a check needs.
"""

from __future__ import annotations

import html
from pathlib import Path

from bitcert.certificates.certificate import CERTIFICATE_FILE, MESSAGE_FILE, Certificate
from bitcert.certificates.certification import ARCHITECTURE_FILE
from bitcert.certificates.loading import Certified
from bitcert.decoder.weights import HELPER_FILE
from bitcert.errors import InputError
from bitcert.exports.formats import Format, module_of_extra, to_bytes
from bitcert.folder import HUB_FILES, write_output
from bitcert.network import Architecture
from bitcert.report.text import (
    UNKNOWN,
    bound_rows,
    clean,
    condition_rows,
    delta_text,
    helper_size,
    number,
    self_contained,
    share,
)

CARD = "README.md"
TENSORS = "model.safetensors"


def save_pretrained(certified: Certified, folder: str | Path) -> None:
    """Write the folder; one that an earlier call wrote is replaced.

    Raises:
        InputError: the folder holds other files, or the tensors were changed since they were loaded.
    """
    write_output(Path(folder), _files(certified), HUB_FILES)


def push_to_hub(certified: Certified, name: str, *, private: bool = False, token: str | None = None) -> str:
    """Upload the folder to the Hugging Face hub (extra ``hub``).

    Args:
        certified: from :func:`bitcert.load`.
        name: ``user/name``; made if it is not there.
        private: whether a new one is private.
        token: of the user; by default the one that ``huggingface_hub`` finds.

    Returns:
        The address of the upload.

    Raises:
        InputError: as :func:`save_pretrained`, ``huggingface_hub`` is not installed, or the upload fails.
    """
    hub = module_of_extra("huggingface_hub", "hub")
    files = _files(certified)
    api = hub.HfApi(token=token, library_name="bitcert")
    try:
        repository = api.create_repo(name, private=private, exist_ok=True)
        operations = [hub.CommitOperationAdd(path, content) for path, content in sorted(files.items())]
        done = api.create_commit(repository.repo_id, operations, commit_message="A certified classifier")
    except Exception as error:  # of the network, the server, a wrong name
        line = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise InputError(f"an upload to {name!r}", line, "check name, token and network") from error
    return str(done.commit_url)


def _files(certified: Certified) -> dict[str, bytes]:
    if not certified.is_intact():
        raise InputError("the tensors that were certified", "others", "load the certificate again")
    predictor, weights = certified.helper.predictor, certified.helper.weights
    files = {
        CERTIFICATE_FILE: certified.certificate.to_json().encode(),
        MESSAGE_FILE: certified.message,
        TENSORS: to_bytes(certified, Format.state_dict),
        CARD: model_card(certified.certificate).encode(),
    }
    if isinstance(predictor, Architecture):
        files[ARCHITECTURE_FILE] = predictor.to_json().encode()
    if weights is not None:
        files[HELPER_FILE] = weights.to_bytes()
    return files


def _plain(text: object) -> str:
    """Text of a certificate, which may come from anyone, as Markdown that shows it and does nothing else."""
    safe = html.escape(clean(text), quote=False)
    return "".join(f"\\{character}" if character in "\\`*_[]()|#!:~@" else character for character in safe)


def model_card(certificate: Certificate) -> str:
    """The card in Markdown: the claim, its numbers, what it rests on, how to use the classifier and how to check it."""
    data = {key: certificate.data.get(key, UNKNOWN) for key in ("name", "hash", "input_shape", "num_classes")}
    counted = f"{number(certificate.errors)} of {number(certificate.samples)}"
    rows = [
        ("errors on the training set", f"{share(certificate.errors, certificate.samples)} ({counted})"),
        ("message", f"{number(certificate.message_bits)} bits"),
        ("delta", delta_text(certificate.delta)),
        *((f"bound, {label}", value) for label, value in bound_rows(certificate.bounds)),
        (f"bound, self-contained (helper of {helper_size(certificate)} charged too)", self_contained(certificate)),
    ]
    table = "\n".join(f"| {_plain(label)} | {_plain(value)} |" for label, value in rows)
    only = {"helper": "unless self-contained: "}
    conditions = "\n".join(f"- {only.get(kind, '')}{_plain(text)}" for kind, text in condition_rows(certificate))
    sizes = data["input_shape"]
    shape = "x".join(map(str, sizes)) if isinstance(sizes, list) else sizes
    return f"""---
library_name: bitcert
tags:
- bitcert
- generalization-bound
- pytorch
---

# A certified classifier

**{_plain(certificate.sentence)}**

It is {_plain(certificate.description)}, for inputs of shape {_plain(shape)} and {number(data["num_classes"])} classes.
The training data were {_plain(data["name"])}, content hash {_plain(data["hash"])}.

| | |
| --- | --- |
{table}

The bound holds if

{conditions}

## Use it

```python
import bitcert

classifier = bitcert.load("FOLDER")  # a torch module in evaluation mode: raw inputs [batch, ...] -> logits
```

`{TENSORS}` has its tensors. Of changed tensors (by training, pruning, rounding) the certificate says nothing.

## Check it

```
pip install bitcert
bitcert verify FOLDER/{CERTIFICATE_FILE} --data TRAINING_DATA
```

This decodes `{MESSAGE_FILE}`, counts the errors again and computes the bound. It needs the training data: their hash is
in the certificate. Without them, this page is a claim and no more.
"""
