"""A certificate of each new kind is valid for a stranger: a fresh process, more threads, files and data only.

One process verifies all of them: heads on banks (family 2) and on a helper network (5), each with
other claims beside them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from bitcert import Compressed, Helper, HelperWeights, Preprocessing, Role, Sample, capture, certify
from bitcert.certificates.original import Original
from bitcert.data import PriorSplit
from bitcert.decoder import head as bank_head
from bitcert.decoder.features.banks import BANKS, available_banks, bank_groups
from bitcert.decoder.network_head import Form, NetworkHeadCode, num_features, write

MODULE = """
from torch import nn

def plain():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, 3))
"""

STRANGER = """
import json, sys, torch
from functools import partial
from bitcert.cli.common import load_original
from bitcert.certificates.verification import verify
torch.set_num_threads(2)
load = partial(load_original, "strangers_nets:plain", "original.safetensors")
told = {}
for name in sys.argv[1:]:
    outcome = verify(name + "/certificate.json", "train.npz", original=load, unlabelled="new.npz")
    told[name] = [outcome.status.name, outcome.reason, outcome.certificate and outcome.certificate.bound]
print(json.dumps([torch.get_num_threads(), told]))
"""


def images(num: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    inputs = rng.integers(0, 256, (num, 1, 8, 8), dtype=np.uint8)
    quarters = np.stack([inputs[:, 0, :4, :4], inputs[:, 0, :4, 4:], inputs[:, 0, 4:, :4]], 1)
    return inputs, quarters.reshape(num, 3, -1).astype(np.int64).sum(2).argmax(1)


TRAIN = Sample(*images(240, 0), 3, Role.TRAIN, "train.npz")
NEW = Sample(images(200, 1)[0], None, 3, Role.UNLABELLED, "new.npz")
HELPER = Helper.for_sample(TRAIN, None, Preprocessing(255.0))


def network(seed: int):
    """A fixed network of three classes with its captured form."""
    generator = torch.Generator().manual_seed(seed)
    layers = [torch.nn.Flatten(), torch.nn.Linear(64, 6), torch.nn.ReLU(), torch.nn.Linear(6, 3)]
    module = torch.nn.Sequential(*layers)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return module, capture(module, torch.zeros(2, 1, 8, 8))


def integers(shape: tuple[int, ...] | int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(-2, 3, shape) * (rng.random(shape) < 0.3)


def bank() -> Compressed:
    chosen = next(b for b in BANKS if b in available_banks((1, 8, 8)))
    message, ledger = bank_head.write(chosen, integers((len(bank_groups(chosen, (1, 8, 8))), 3), 2), HELPER)
    return Compressed(message, ledger, HELPER)


def on_network() -> Compressed:
    _, public = network(4)
    weights = HelperWeights.of(public.architecture, public.parameters)
    helper = Helper.for_sample(TRAIN, public.architecture, Preprocessing(255.0), weights)
    code = NetworkHeadCode(Form.HEAD)
    code = NetworkHeadCode(Form.HEAD, weights=integers((num_features(helper, code), 3), 5))
    return Compressed(*write(helper, code), helper)


def certificates(original: Original) -> dict[str, tuple[Compressed, dict[str, object]]]:
    """What is certified, and with which claims."""
    split = PriorSplit.of(TRAIN, 0.3).with_helper(original.classifier)
    return {
        "bank-losses": (bank(), {"losses": ("brier", "top-2", "margin:1")}),
        "bank": (bank(), {}),
        "network-head-prior": (on_network(), {"prior": split}),
        "bank-original": (bank(), {"original": original}),
        "bank-everything": (bank(), {"prior": split, "original": original, "losses": ("brier",)}),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("kinds")
    (place / "strangers_nets.py").write_text(MODULE)
    module, captured = network(6)
    save_file(module.state_dict(), place / "original.safetensors")
    np.savez(place / "train.npz", x=TRAIN.inputs, y=TRAIN.labels)
    np.savez(place / "new.npz", x=NEW.inputs, y=np.arange(len(NEW)) % 3)
    original = Original.of(captured, Preprocessing(255.0), NEW, "strangers_nets:plain")
    for name, (compressed, claims) in certificates(original).items():
        write_kind(place / name, compressed, claims)
    return place


def write_kind(out: Path, compressed: Compressed, claims: dict[str, object]) -> None:
    out.mkdir()
    split, helper = claims.get("prior"), compressed.helper
    sample = split.rest if isinstance(split, PriorSplit) else TRAIN
    (out / "certificate.json").write_text(certify(compressed, sample, **claims).to_json())
    (out / "message.bin").write_bytes(compressed.message)
    if helper.weights is not None:
        (out / "architecture.json").write_text(helper.predictor.to_json())
        (out / "helper.safetensors").write_bytes(helper.weights.to_bytes())


def test_every_kind_is_valid_in_a_fresh_process_with_more_threads(folder: Path) -> None:
    names = sorted(path.parent.name for path in folder.glob("*/certificate.json"))
    assert len(names) == 5
    environment = os.environ | {"OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "3"}
    done = subprocess.run(
        [sys.executable, "-c", STRANGER, *names],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    threads, told = json.loads(done.stdout)
    assert threads == 2
    for name in names:
        status, reason, bound = told[name]
        assert (status, reason) == ("VALID", ""), name
        assert bound == json.loads((folder / name / "certificate.json").read_text())["bound"]
