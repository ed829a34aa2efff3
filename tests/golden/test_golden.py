"""Frozen bytes: today's encoder writes them, today's decoder reads what the manifest says, on any machine.

A failure here is either a bug or a breaking release (see ``make.py``).
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from bitcert.decoder.transforms import NUMBERS
from bitcert.errors import DecodeError

FOLDER = Path(__file__).parent


def _load_make() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_make", FOLDER / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


MAKE = _load_make()
MANIFEST = json.loads((FOLDER / "manifest.json").read_bytes())


def as_json(value: object) -> object:
    return json.loads(json.dumps(value))


def test_files_and_manifest_list_the_same_messages() -> None:
    assert {path.stem for path in FOLDER.glob("*.bin")} == set(MANIFEST["messages"]) == set(MAKE.GOLDEN)


@pytest.mark.parametrize("name", MAKE.GOLDEN)
def test_the_encoder_writes_these_bytes(name: str) -> None:
    message, ledger = MAKE.GOLDEN[name].encode()
    assert message == (FOLDER / f"{name}.bin").read_bytes()
    assert as_json(ledger.sections) == MANIFEST["messages"][name]["decoded"]["ledger"]
    assert ledger.total_bits == 8 * len(message)


@pytest.mark.parametrize("name", MANIFEST["messages"])
def test_the_decoder_reads_what_the_manifest_says(name: str) -> None:
    message = (FOLDER / f"{name}.bin").read_bytes()
    assert hashlib.sha256(message).hexdigest() == MANIFEST["messages"][name]["sha256"]
    assert as_json(MAKE.entry(message, MAKE.GOLDEN[name])) == MANIFEST["messages"][name]


@pytest.mark.parametrize("name", MANIFEST["messages"])
def test_a_golden_message_with_one_bit_changed_is_another_one(name: str) -> None:
    message = bytearray((FOLDER / f"{name}.bin").read_bytes())
    for place in range(0, len(message), 1 + len(message) // 4):
        message[place] ^= 1
        try:
            decoded = MAKE.GOLDEN[name].decode(bytes(message))
        except DecodeError:
            pass
        else:
            assert as_json(decoded) != MANIFEST["messages"][name]["decoded"]
        message[place] ^= 1


def test_grids_that_indices_refer_to_are_frozen() -> None:
    assert as_json(MAKE.grids()) == MANIFEST["grids"]


def test_every_transform_makes_the_same_numbers_for_ever() -> None:
    assert as_json(MAKE.transforms()) == MANIFEST["transforms"]
    tried = {name.split(" average")[0] for name in MANIFEST["transforms"]}
    assert all(any(name.startswith(transform) for name in tried) for transform in NUMBERS if transform != "exact")


def test_the_weights_do_not_depend_on_process_threads_or_default_dtype() -> None:
    program = f"""
import importlib.util, json, sys, torch
torch.set_num_threads(2)
torch.set_default_dtype(torch.float64)
spec = importlib.util.spec_from_file_location("golden_make", {str(FOLDER / "make.py")!r})
make = sys.modules["golden_make"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make)
read = lambda name: make.GOLDEN[name].decode((make.FOLDER / (name + ".bin")).read_bytes())["float32"]
weights = {{name: read(name) for name in make.GOLDEN}}
print(json.dumps([torch.get_num_threads(), weights, make.transforms()]))
"""
    environment = os.environ | {"OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    num_threads, hashes, transforms = json.loads(done.stdout)
    assert transforms == MANIFEST["transforms"]
    assert num_threads == 2
    assert hashes == {name: told["decoded"]["float32"] for name, told in MANIFEST["messages"].items()}
    assert torch.get_default_dtype() == torch.float32
