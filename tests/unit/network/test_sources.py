"""Which source files stand behind an opaque network: the user's, followed through imports, and no library's."""

import importlib
import sys
import types

import numpy as np
import pytest
import torch

from bitcert import Compressed, Helper, Preprocessing, Role, Sample, Status, certify, verify
from bitcert.codecs.tuned import compress_values
from bitcert.decoder.description import helper_ledger
from bitcert.errors import CaptureError
from bitcert.network import capture_opaque
from bitcert.network.sources import module_sources
from bitcert.run import Run

FILES = {
    "own_net.py": """
        import json
        import torch
        from torch import nn
        from own_parts import Scale
        import own_constants as c

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.first = nn.Linear(4, 3)
                self.scale = Scale()

            def forward(self, x):
                if bool((x > 1e9).any()):
                    x = x * 0
                return self.scale(self.first(x)) * c.GAIN

        def make():
            torch.manual_seed(0)
            return Net()
    """,
    "own_parts.py": """
        import numpy
        from torch import nn

        class Scale(nn.Module):
            def forward(self, x):
                return 2 * x
    """,
    "own_constants.py": "GAIN = 1.5\n",
    "own_unused.py": "NOTHING = 0\n",
}


@pytest.fixture
def own(tmp_path, monkeypatch):
    for name, text in FILES.items():
        (tmp_path / name).write_text("\n".join(line[8:] if line[:8].isspace() else line for line in text.splitlines()))
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("own_net")
    for name in FILES:
        sys.modules.pop(name.removesuffix(".py"), None)


def test_the_users_files_are_followed_and_no_others(own, tmp_path):
    found = module_sources(own.make(), "own_net:make")
    assert sorted(found) == ["own_constants", "own_net", "own_parts"]
    assert found["own_net"] == (tmp_path / "own_net.py").read_bytes()


def test_numbers_that_an_import_brings_are_found(own, tmp_path, monkeypatch):
    (tmp_path / "own_table.py").write_text("ONES = [1, 2, 3]\n")
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "__init__.py").write_text("from .deep import TWOS\n")
    (tmp_path / "own_package" / "deep.py").write_text("TWOS = [2]\n")
    with (tmp_path / "own_parts.py").open("a") as stream:
        stream.write("\nfrom own_table import ONES\ndef late():\n    import own_package.deep as d\n    return d.TWOS\n")
    monkeypatch.delitem(sys.modules, "own_parts")
    net = importlib.reload(own).make()
    sys.modules["own_parts"].late()
    found = module_sources(net, "own_net:make")
    for name in ("own_table", "own_package", "own_package.deep"):
        del sys.modules[name]
    assert sorted(found) == ["own_constants", "own_net", "own_package", "own_package.deep", "own_parts", "own_table"]


def test_a_base_class_elsewhere_is_found_and_a_proxy_is_left_in_peace(own, tmp_path):
    class Touchy:
        @property
        def __class__(self):
            raise RuntimeError("working outside of application context")

    own.touchy = Touchy()

    class Child(type(own.make())):
        pass

    assert "own_net" in module_sources(Child(), "elsewhere:Child")


def test_what_the_name_of_a_factory_says_is_charged(own):
    def bits(factory):
        opaque, _ = capture_opaque(own.make(), factory, torch.ones(4, 4))
        return dict(helper_ledger(Helper((4,), 3, Preprocessing(), opaque)).sections)["code"]

    rng = np.random.default_rng(1)
    secret = "".join(rng.choice(list("0123456789abcdef"), 2000))
    assert bits("own_net:f" + secret) > bits("own_net:make") + 4 * 2000


def test_state_that_the_message_would_not_hold_is_refused(own):
    class Hidden(type(own.make())):
        def get_extra_state(self):
            return torch.ones(1)

    with pytest.raises(CaptureError, match="extra state in the network"):
        capture_opaque(Hidden(), "own_net:make", torch.ones(4, 4))


def test_line_ends_do_not_matter(own, tmp_path):
    before = module_sources(own.make(), "own_net:make")
    file = tmp_path / "own_parts.py"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert module_sources(own.make(), "own_net:make") == before


def test_code_that_no_file_holds_is_unknown(own, tmp_path):
    module = types.ModuleType("own_elsewhere")
    exec("from torch import nn\nclass Part(nn.Module):\n    def forward(self, x):\n        return x\n", module.__dict__)
    sys.modules["own_elsewhere"] = module
    try:
        net = torch.nn.Sequential(own.make(), module.Part())
        assert module_sources(net, "own_net:make") == {}
    finally:
        del sys.modules["own_elsewhere"]
    (tmp_path / "own_constants.py").unlink()
    assert module_sources(own.make(), "own_net:make") == {}, "a file that is gone"


def test_a_network_of_torch_alone_has_no_files_of_the_user():
    assert module_sources(torch.nn.Linear(2, 2), "torch.nn:Linear") == {}


@pytest.fixture
def sample():
    rng = np.random.default_rng(0)
    return Sample(rng.normal(size=(300, 4)).astype(np.float32), rng.integers(0, 3, 300), 3, Role.TRAIN, "toy")


def opaque_certificate(own, sample):
    opaque, values = capture_opaque(own.make(), "own_net:make", torch.tensor(sample.inputs[:4]))
    helper = Helper.for_sample(sample, opaque)
    compressed = compress_values(values, sample, helper, Run(budget_seconds=1.0), fine_tune=False)
    return compressed, certify(compressed, sample)


def test_the_code_is_hashed_charged_and_named(own, sample, tmp_path):
    compressed, certificate = opaque_certificate(own, sample)
    sources = certificate.helper["sources"]
    assert [name for name, _, _ in sources] == ["own_constants", "own_net", "own_parts"]
    size = sum(size for *_, size in sources)
    assert 0 < dict(certificate.helper_sections)["code"] < 8 * size
    assert any("'own_net:make'" in c and f"{size:,} bytes" in c for c in certificate.conditions)
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "message.bin").write_bytes(compressed.message)
    (folder / "certificate.json").write_text(certificate.to_json())
    same, _ = capture_opaque(own.make(), "own_net:make", torch.tensor(sample.inputs[:4]))
    outcome = verify(folder / "certificate.json", sample, model=same)
    assert outcome.status is Status.VALID, outcome.reason
    parts = tmp_path / "own_parts.py"
    parts.write_text(parts.read_text().replace("2 * x", "x + x"))
    other, _ = capture_opaque(own.make(), "own_net:make", torch.tensor(sample.inputs[:4]))
    outcome = verify(folder / "certificate.json", sample, model=other)
    assert outcome.status is Status.INVALID
    assert outcome.reason.startswith("architecture:"), "other code is another network"


def test_without_the_source_nothing_is_certified_without_trust(own, sample, tmp_path):
    (tmp_path / "own_constants.py").unlink()
    compressed, certificate = opaque_certificate(own, sample)
    assert (certificate.helper_sections, certificate.helper_bits) == ((), None)
    assert certificate.self_contained == 1.0
    assert any("whose source was not found" in condition for condition in certificate.conditions)
    assert isinstance(compressed, Compressed)
