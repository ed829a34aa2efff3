"""A user's own network from the command line: captured or opaque, with its weights in each of the usual files."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from bitcert.coding import MessageReader

MODULE = """
import torch
from torch import nn

class Mlp(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))

class Again(nn.Module):
    def __init__(self):
        super().__init__()
        self.step, self.last = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x):
        for _ in range(5):
            x = torch.relu(self.step(x))
        return self.last(x)

class Guarded(Mlp):
    # cannot be exported: Python looks at the numbers
    def forward(self, x):
        if float(x.abs().max()) > 1e6:
            raise ValueError("not one of these")
        return super().forward(x)

def guarded_again():
    return Guarded()
"""

STATE = {
    "0.weight": torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]),
    "0.bias": torch.zeros(4),
    "2.weight": torch.tensor([[-1.0, 1.0, 0.0, 0.0], [1.0, -1.0, 0.0, 0.0]]),
    "2.bias": torch.zeros(2),
}
"""The right answer for the data of these tests: the sign of the first input."""


@pytest.fixture
def network(here, toy_data):
    """The module, with its weights in the two usual files."""
    (here / "my_networks.py").write_text(MODULE)
    save_file(STATE, here / "weights.safetensors")
    torch.save(STATE, here / "weights.pt")
    return here


def certify(bitcert, *arguments, folder="out-weights"):
    """The certificate of the network's own weights, one of several options; the best one is in ``out``."""
    outcome = bitcert("certify", *arguments, "--data", "toy.npz", "--budget", "0.3")
    assert outcome.code == 0, outcome.err
    assert "its weights, compressed" in outcome.out
    return json.loads(Path(folder, "certificate.json").read_text())


def verify(bitcert, *arguments, folder="out-weights"):
    return bitcert("verify", f"{folder}/certificate.json", "--data", "toy.npz", *arguments)


@pytest.mark.parametrize("weights", ["weights.safetensors", "weights.pt"])
def test_a_factory_with_weights(bitcert, network, weights):
    content = certify(bitcert, "my_networks:Mlp", "--weights", weights)
    assert content["certifies"] == "compressed"
    assert content["errors"] < 0.1 * content["samples"], "the weights in the file were used"
    assert content["helper"]["factory"] is None
    names = {path.name for path in (network / "out-weights").iterdir()}
    assert names == {"message.bin", "certificate.json", "report.html", "architecture.json"}
    (network / "my_networks.py").unlink()
    (network / weights).unlink()
    assert verify(bitcert).code == 0, "message and architecture are enough"


def test_what_could_be_certified_is_a_table_and_each_has_its_certificate(bitcert, network):
    """The network's own weights, its architecture and a built-in classifier: the best first, and in ``out``."""
    arguments = ("certify", "my_networks:Mlp", "--weights", "weights.pt", "--data", "toy.npz", "--budget", "1")
    outcome = bitcert(*arguments)
    assert outcome.code == 0, outcome.err
    table = outcome.out[outcome.out.index("What can be certified") :]
    found = {}
    for folder, words in (("out-weights", "its weights"), ("out-built-in", "a built-in classifier")):
        assert words in table
        assert folder in table
        found[folder] = json.loads((network / folder / "certificate.json").read_text())
        assert verify(bitcert, folder=folder).code == 0
        assert found[folder]["delta_ledger"] == [["occam bound of the compressed network", 0.05]], (
            "one delta: all are words of one code"
        )
    best, worst = sorted(found, key=lambda folder: found[folder]["bound"])
    assert (network / "out" / "message.bin").read_bytes() == (network / best / "message.bin").read_bytes()
    assert table.index(best) < table.index(worst)
    families = {MessageReader((network / folder / "message.bin").read_bytes()).family for folder in found}
    assert len(families) == 2, "no two options read one message differently"


def test_an_option_that_says_no_more_than_guessing_has_no_certificate(bitcert, network):
    (network / "out-weights").mkdir()
    (network / "out-weights" / "certificate.json").write_text("{}")
    wrong = {name: -value if name == "2.weight" else value for name, value in STATE.items()}
    save_file(wrong, network / "wrong.safetensors")
    arguments = ("--weights", "wrong.safetensors", "--data", "toy.npz", "--budget", "0.3", "--no-fine-tune")
    outcome = bitcert("certify", "my_networks:Mlp", *arguments)
    assert outcome.code == 0, outcome.err
    assert "no more than guessing" in " ".join(outcome.out.replace("│", " ").split())
    assert verify(bitcert, folder="out").code == 0
    assert not (network / "out-weights").exists(), "nothing of an earlier run stays beside the new table"


def test_a_folder_of_an_option_that_could_not_be_replaced_is_refused_before_any_work(bitcert, network):
    (network / "out-weights").mkdir()
    (network / "out-weights" / "thesis.tex").write_text("")
    outcome = bitcert("certify", "my_networks:Mlp", "--weights", "weights.pt", "--data", "toy.npz", "--budget", "0.3")
    assert outcome.code == 2
    assert "thesis.tex" in outcome.failures[0]
    assert not (network / "out").exists()


def test_sequences_keep_their_axes_with_a_shape(bitcert, network):
    """Three axes are taken for grey images unless a shape says otherwise; ``verify`` takes it from the certificate."""
    (network / "sequences.py").write_text(
        "from torch import nn\n"
        "class Convolution(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.inner, self.last = nn.Conv1d(2, 3, 3), nn.Linear(3, 2)\n"
        "    def forward(self, x):\n"
        "        assert x.ndim == 3\n"
        "        return self.last(self.inner(x).relu().amax(2))\n"
    )
    rng = np.random.default_rng(0)
    for name, count in (("some.npz", 300), ("new.npz", 100)):
        x = rng.normal(size=(count, 2, 7)).astype(np.float32)
        np.savez(network / name, x=x, y=(x[:, 0, 3] > 0).astype(int))
    arguments = ("certify", "sequences:Convolution", "--data", "some.npz", "--holdout", "new.npz", "--budget", "0.5")
    refused = bitcert(*arguments)
    assert refused.code == 2
    outcome = bitcert(*arguments, "--shape", "2,7")
    assert outcome.code == 0, outcome.err
    content = json.loads((network / "out" / "certificate.json").read_text())
    assert content["data"]["input_shape"] == [2, 7]
    assert content["holdout"]["samples"] == 100
    assert bitcert("verify", "out/certificate.json", "--data", "some.npz").code == 0
    for wrong in ("7,2", "2,8", "14", "0,14", "2,-7", "two", ","):
        code = bitcert(*arguments, "--shape", wrong).code
        assert code == 2, wrong


def test_an_exported_program(bitcert, network):
    module = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    module.load_state_dict(STATE)
    batch = torch.export.Dim("batch", min=1, max=4096)
    program = torch.export.export(module.eval(), (torch.zeros(4, 2),), dynamic_shapes=({0: batch},))
    torch.export.save(program, network / "mlp.pt2")
    content = certify(bitcert, "mlp.pt2", "--no-fine-tune")
    assert content["errors"] < 0.1 * content["samples"]
    assert verify(bitcert).code == 0
    refused = bitcert("certify", "mlp.pt2", "--weights", "weights.pt", "--data", "toy.npz")
    assert refused.code == 2
    assert "leave out --weights" in refused.failures[0]


def test_preprocessing_is_part_of_the_helper(bitcert, network):
    options = ("--weights", "weights.pt", "--no-fine-tune", "--scale", "8", "--mean", "0.5,0", "--std", "2,1")
    content = certify(bitcert, "my_networks:Mlp", *options, folder="out")
    assert (content["helper"]["scale"], content["helper"]["mean"], content["helper"]["std"]) == (
        8.0,
        [0.5, 0.0],
        [2.0, 1.0],
    )
    assert verify(bitcert, folder="out").code == 0


def test_an_opaque_network(bitcert, network):
    outcome = bitcert(
        "certify", "my_networks:Guarded", "--weights", "weights.pt", "--data", "toy.npz", "--budget", "0.3"
    )
    assert outcome.code == 0, outcome.err
    assert "opaque module" in outcome.out
    assert "torch.export" in outcome.out, "the reason why is told"
    content = json.loads((network / "out-weights" / "certificate.json").read_text())
    assert content["helper"]["factory"] == "my_networks:Guarded"
    assert content["errors"] < 0.1 * content["samples"]
    names = {path.name for path in (network / "out-weights").iterdir()}
    assert names == {"message.bin", "certificate.json", "report.html"}

    without = verify(bitcert)
    assert without.code == 2
    assert "--model" in without.out
    assert verify(bitcert, "--model", "my_networks:Guarded").code == 0
    assert verify(bitcert, "--model", "my_networks:guarded_again").code == 1
    assert verify(bitcert, "--model", "my_networks:gone").code == 2
    assert verify(bitcert, "--model", "gone.pt2").code == 2


def test_check_a_captured_network(bitcert, network):
    outcome = bitcert("check", "my_networks:Mlp", "--weights", "weights.pt", "--data", "toy.npz")
    assert outcome.code == 0
    assert "22 parameters" in outcome.out
    assert "Plan for 400 samples" in outcome.out
    (rate,) = re.findall(r"it errs on\s+([\d.]+) %", outcome.out)
    assert float(rate) < 10, "of the trained network"
    assert not (network / "out").exists()


def test_check_lists_a_weight_that_every_step_uses_once(bitcert, network):
    outcome = bitcert("check", "my_networks:Again", "--data", "toy.npz")
    assert outcome.code == 0
    assert outcome.out.count("step.weight") == 1
    assert "linear and 4 more" in outcome.out


def test_check_an_opaque_network(bitcert, network):
    outcome = bitcert("check", "my_networks:Guarded", "--data", "toy.npz")
    assert outcome.code == 0
    assert "Not captured" in outcome.out
    assert "22 numbers coded" in outcome.out
    assert "What could be certified: it errs on" in outcome.out
    assert not (network / "out").exists()


def test_an_unsupported_operation_is_named(bitcert, network):
    (network / "odd_networks.py").write_text(
        "import torch\n"
        "class Odd(torch.nn.Linear):\n"
        "    def __init__(self):\n"
        "        super().__init__(2, 2)\n"
        "    def forward(self, x):\n"
        "        return torch.special.bessel_j0(super().forward(x))\n"
    )
    checked = bitcert("check", "odd_networks:Odd", "--data", "toy.npz")
    assert checked.code == 0
    assert "Not captured" in checked.out
    assert "bessel_j0" in checked.out
    outcome = bitcert("certify", "odd_networks:Odd", "--data", "toy.npz", "--budget", "0.1")
    assert outcome.code == 0
    assert "bessel_j0" in outcome.out
    assert verify(bitcert, folder="out").code == 0, "an untrained network: a built-in classifier says more"


def test_the_plan_is_said_and_more_than_allowed_is_not_counted(bitcert, network):
    outcome = bitcert(
        "certify",
        "my_networks:Mlp",
        "--weights",
        "weights.pt",
        "--data",
        "toy.npz",
        "--budget",
        "0.3",
        "--no-fine-tune",
    )
    assert outcome.code == 0
    assert "Counting a message once takes about 9.2e+05 operations" in outcome.err
    checked = verify(bitcert)
    assert checked.code == 0
    assert "Plan: counting 400 examples takes about 9.2e+05 operations" in checked.err
    refused = verify(bitcert, "--max-operations", "9e5")
    assert refused.code == 2
    assert "CANNOT CHECK" in refused.out
    assert "--max-operations 1e+06" in refused.out
    assert verify(bitcert, "--max-operations", "1e6").code == 0
    for wrong in ("0", "-1", "nan", "inf", "many"):
        assert verify(bitcert, "--max-operations", wrong).code == 2
