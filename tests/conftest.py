"""What several test files share: small certified problems, made once, and a forger of certificates."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

from bitcert import (
    Compressed,
    DecisionRule,
    Helper,
    Role,
    Run,
    Sample,
    certify,
    clock,
    compress,
    decode_message,
    load_sample,
)
from bitcert.counting import Level, count_losses
from bitcert.decoder import head as bank_head
from bitcert.proof import occam_bound
from bitcert.stability import planning
from bitcert.theory.ingredients import sample_pass

Change = Callable[[dict], None]

TICK = 2.0**-9
"""Seconds that pass at every look at the clock; a power of two, so that differences of times are exact."""

torch.manual_seed(0)  # for networks that test files make when they are read

settings.register_profile("fixed", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("random", deadline=None, print_blob=True)
settings.load_profile("fixed")


@pytest.hookimpl(wrapper=True)
def pytest_collect_file() -> Iterator[list[pytest.Collector]]:
    """No test module has examples in docstrings; looking for some takes as long as importing it."""
    found = yield
    return [each for each in found if type(each).__name__ != "DoctestModule"]


class Sealed(Sample):
    """An unlabelled sample of which only the size may be asked."""

    def __init__(self, size: int) -> None:
        object.__setattr__(self, "size", size)

    def __len__(self) -> int:
        return self.size

    def __getattribute__(self, name: str):
        if name not in ("size", "__len__", "__class__"):
            raise AssertionError(f"the search looked at {name} of the unlabelled sample")
        return super().__getattribute__(name)


@pytest.fixture(autouse=True)
def _same_weights() -> None:
    """Networks that a test makes start from the same values, whichever tests ran before."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _state_of_the_session(tmp_path_factory):
    """Fixtures that outlive a test count their looks here, never in the user's state folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BITCERT_STATE", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(autouse=True)
def state_folder(monkeypatch, tmp_path_factory):
    """A state folder of this test alone, so that no test is another one's earlier look."""
    folder = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("BITCERT_STATE", str(folder))
    return folder


@pytest.fixture
def sealed() -> type[Sealed]:
    """Makes unlabelled samples that betray whoever looks into them."""
    return Sealed


@pytest.fixture
def small_shards(monkeypatch):
    """Shards of a few examples, of which a test has few."""
    monkeypatch.setattr(planning, "MAX_SHARD_SIZE", 3)
    monkeypatch.setattr(sample_pass, "MAX_BATCH_SIZE", 3)
    monkeypatch.setattr(Helper, "batch_size", 3)


class Ticks:
    """A clock that moves by a fixed step at every look, so that a time budget means a number of training steps."""

    def __init__(self, step: float) -> None:
        self.step, self.now = step, 0.0

    def seconds(self) -> float:
        self.now += self.step
        return self.now


@pytest.fixture(scope="session", autouse=True)
def counted_time() -> Iterator[None]:
    """Nothing in a test follows the machine's clock, what fixtures of a session or a module do included."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "seconds", Ticks(TICK).seconds)
        yield


@pytest.fixture(autouse=True)
def ticking(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Every test has a clock of its own that moves by :data:`TICK`; call this with another step to replace it."""

    def start(step: float) -> None:
        monkeypatch.setattr(clock, "seconds", Ticks(step).seconds)

    start(TICK)
    return start


def canonical(content: dict) -> str:
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def seal(content: dict) -> str:
    """The text of a certificate with a checksum that fits: what a forger writes, in code of the tests' own."""
    content = {key: value for key, value in content.items() if key != "checksum"}
    content["checksum"] = hashlib.sha256(canonical(content).encode()).hexdigest()
    return canonical(content)


def restate_bounds(content: dict) -> None:
    """Make the bounds follow from the counts that a forger has changed."""
    bound = occam_bound(content["errors"], content["samples"], content["message_bits"], content["delta"])
    forms = {name: getattr(bound, name) for name in ("binomial", "kl_chernoff", "hoeffding")}
    bits = content["message_bits"] + sum(bits for _, bits in content["helper_sections"])
    charged = occam_bound(content["errors"], content["samples"], bits, content["delta"]).binomial
    content |= {"bounds": forms, "bound": bound.binomial, "self_contained": charged}
    drawn, claims, *others = content["conditions"]
    drawn = re.sub(r"^the [\d,]+ examples", f"the {content['samples']:,} examples", drawn)
    content["conditions"] = [drawn, re.sub(r"^delta = \S+", f"delta = {content['delta']:g}", claims), *others]


def write_files(folder: Path, compressed: Compressed, sample: Sample, **options) -> Path:
    """Message and certificate in ``folder``; returns the certificate's path."""
    (folder / "message.bin").write_bytes(compressed.message)
    path = folder / "certificate.json"
    path.write_text(certify(compressed, sample, **options).to_json())
    return path


@pytest.fixture(scope="session")
def digits() -> Sample:
    return load_sample("digits", Role.TRAIN)


@pytest.fixture(scope="session")
def digits_compressed(digits: Sample) -> Compressed:
    """The same message however busy the machine is; one whose counts no tolerance between half and twice changes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "seconds", Ticks(0.1).seconds)
        compressed = compress(digits, run=Run(budget_seconds=10.0))
    classifier = decode_message(compressed.message, compressed.helper).classifier
    rule = DecisionRule(compressed.helper.batch_size)
    low, high = count_losses(classifier, digits, rule, levels=(Level.LENIENT, Level.STRICT), ways=None)
    assert low.errors == high.errors
    return compressed


@pytest.fixture(scope="session")
def digits_folder(digits: Sample, digits_compressed: Compressed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of a certificate of the embedded digits; not to be changed."""
    folder = tmp_path_factory.mktemp("digits")
    write_files(folder, digits_compressed, digits)
    return folder


@pytest.fixture
def digits_certificate(digits_folder: Path, tmp_path: Path) -> Path:
    """A copy of the digits' certificate that a test may change; the message lies beside it."""
    shutil.copytree(digits_folder, tmp_path / "certified")
    return tmp_path / "certified" / "certificate.json"


@pytest.fixture(scope="session")
def toy() -> Sample:
    """Two noisy half planes, [300, 2]."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(300, 2)).astype(np.float32)
    labels = (inputs[:, 0] + 0.3 * rng.normal(size=300) > 0).astype(np.int64)
    return Sample(inputs, labels, 2, Role.TRAIN, "toy")


@pytest.fixture(scope="session")
def toy_compressed(toy: Sample) -> Compressed:
    helper = Helper.for_sample(toy)
    message, ledger = bank_head.write(None, np.array([[-3, 2], [0, 1], [0, 0]]), helper)
    return Compressed(message, ledger, helper)


@pytest.fixture
def toy_certificate(toy: Sample, toy_compressed: Compressed, tmp_path: Path) -> Path:
    """A certificate small enough to be checked thousands of times; the message lies beside it."""
    folder = tmp_path / "toy"
    folder.mkdir()
    return write_files(folder, toy_compressed, toy)


@pytest.fixture(scope="session")
def forge() -> Callable[..., None]:
    """``forge(path, change, restate=False)``: change a certificate file and make its checksum fit again.

    With ``restate`` the bounds are made to follow from the changed counts too.
    """

    def forge_file(path: Path, change: Change, restate: bool = False) -> None:
        content = json.loads(path.read_text())
        change(content)
        if restate:
            restate_bounds(content)
        path.write_text(seal(content))

    return forge_file
