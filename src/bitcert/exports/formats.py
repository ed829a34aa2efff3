"""The bytes of a certified classifier in each format, and how each is run: ONNX, ``.pt2``, TorchScript, safetensors.

Every file holds, under the key :data:`KEY` of its metadata, one JSON text (:func:`statement`) with the certificate, the
message and the versions that wrote the file: all that a reviewer with the training data needs to check the claim. The
bytes of ONNX, ``.pt2`` and safetensors files are a function of the message, its helper and those versions. (TorchScript
adds where the program is installed.)

ONNX is written by torch's tracer, which needs no package beside ``onnx``. The newer exporter of torch needs two more,
and takes ten times as long for a head on fixed features.
"""

from __future__ import annotations

import base64
import importlib
import io
import json
import re
import warnings
import zipfile
from collections.abc import Callable
from enum import StrEnum
from importlib.metadata import version
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from bitcert.certificates.certification import versions
from bitcert.certificates.loading import Certified
from bitcert.errors import InputError
from bitcert.exports.agreement import random_inputs

KEY = "bitcert"
INPUT, OUTPUT = "inputs", "logits"
OPSET = 17
_EXTRA_FILE = "bitcert.json"
_MANGLED = re.compile(rb"___torch_mangle_\d+")


class Format(StrEnum):
    """What a classifier can be exported to."""

    onnx = "onnx"
    pt2 = "pt2"
    torchscript = "torchscript"
    state_dict = "state_dict"

    @property
    def suffix(self) -> str:
        """How names of such files end."""
        names = {Format.onnx: ".onnx", Format.pt2: ".pt2", Format.torchscript: ".pt", Format.state_dict: ".safetensors"}
        return names[self]


def module_of_extra(name: str, extra: str) -> Any:
    """A package that is installed with an extra of this one.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        do = f"install it: pip install 'bitcert[{extra}]'"
        raise InputError(f"the package {name}", "an installation without it", do) from None


def statement(certified: Certified, kind: Format) -> str:
    """What travels along, as JSON: certificate (its file's text), message (base64) and the versions that export."""
    used = versions() | ({"onnx": version("onnx")} if kind is Format.onnx else {})
    content = {
        "certificate": certified.certificate.to_json(),
        "message": base64.b64encode(certified.message).decode(),
        "versions": used,
    }
    return json.dumps(content, sort_keys=True)


def to_bytes(certified: Certified, kind: Format) -> bytes:
    """The file.

    It is traced on random inputs: some formats keep what they were traced on, which must be nobody's data.

    Raises:
        InputError: the format's package is missing, or it cannot express the classifier.
    """
    if kind is Format.onnx:
        module_of_extra("onnx", "onnx")
    example = random_inputs(certified)
    with torch.no_grad():
        certified(example)  # constants that are made once must not be made while tracing
    writers = {Format.onnx: _onnx, Format.pt2: _pt2, Format.torchscript: _script, Format.state_dict: _state}
    try:
        with warnings.catch_warnings():  # of a tracer about shapes, which the check of the result answers
            warnings.simplefilter("ignore")
            return writers[kind](certified, example, statement(certified, kind))
    except Exception as error:  # torch's exporters raise whatever they like
        line = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise InputError(f"a classifier that torch can export to {kind}", line, "choose another format") from error


def _onnx(certified: Certified, example: Tensor, text: str) -> bytes:
    import onnx

    buffer = io.BytesIO()
    batch = {INPUT: {0: "batch"}, OUTPUT: {0: "batch"}}
    names = {"input_names": [INPUT], "output_names": [OUTPUT], "dynamic_axes": batch}
    torch.onnx.export(certified, (example,), buffer, dynamo=False, opset_version=OPSET, **names)  # type: ignore[arg-type]
    model = onnx.load_model_from_string(buffer.getvalue())
    onnx.helper.set_model_props(model, {KEY: text})
    return bytes(model.SerializeToString(deterministic=True))


def _pt2(certified: Certified, example: Tensor, text: str) -> bytes:
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(certified, (example,), dynamic_shapes={"inputs": {0: batch}})
    for module in program.graph_module.modules():
        for node in getattr(module, "graph", torch.fx.Graph()).nodes:
            node.meta.pop("stack_trace", None)  # names the folders of this machine
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={_EXTRA_FILE: text})
    return buffer.getvalue()


def _script(certified: Certified, example: Tensor, text: str) -> bytes:
    buffer = io.BytesIO()
    for _ in range(2):  # torch gives a name that is taken a number; after a first trace all are, in any process
        traced = torch.jit.trace(certified, (example,), check_trace=False)  # type: ignore[no-untyped-call]
    torch.jit.save(traced, buffer, _extra_files={_EXTRA_FILE: text})
    return _canonical_script(buffer)


def _canonical_script(written: io.BytesIO) -> bytes:
    """The same archive whatever process wrote it: names numbered from 0, no stacks with callers and folders."""
    numbers: dict[bytes, bytes] = {}

    def renumber(content: bytes) -> bytes:
        return _MANGLED.sub(lambda found: numbers.setdefault(found[0], b"___torch_mangle_%d" % len(numbers)), content)

    bare = io.BytesIO()
    with zipfile.ZipFile(written) as archive, zipfile.ZipFile(bare, "w") as kept:
        for name in archive.namelist():
            if name.endswith((".debug_pkl", "/serialization_id")):  # the latter hashes the former
                continue
            content = archive.read(name)
            info = zipfile.ZipInfo(renumber(name.encode()).decode())
            kept.writestr(info, renumber(content) if name.endswith((".py", ".pkl")) else content)
    return bare.getvalue()


def _state(certified: Certified, example: Tensor, text: str) -> bytes:
    tensors = {name: value.cpu().contiguous() for name, value in sorted(certified.network.state_dict().items())}
    return safetensors.torch.save(tensors, {KEY: text})


def run_onnx(content: bytes) -> Callable[[Tensor], Tensor]:
    """An ONNX file at work in onnxruntime: inputs ``[batch, ...]`` -> logits.

    Raises:
        InputError: onnxruntime is not installed.
    """
    runtime = module_of_extra("onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run([OUTPUT], {INPUT: x.numpy()})[0])


def run_program(content: bytes, kind: Format) -> Callable[[Tensor], Tensor]:
    """A ``.pt2`` or TorchScript file that this process has just written, at work."""
    if kind is Format.pt2:
        return torch.export.load(io.BytesIO(content)).module()
    return torch.jit.load(io.BytesIO(content))  # type: ignore[no-any-return, no-untyped-call]
