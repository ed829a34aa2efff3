"""Certified classifiers as torch modules and in the formats of others: same decisions, the certificate in the file."""

import base64
import copy
import hashlib
import json
import pickle
import sys
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

import bitcert
from bitcert import Certificate, Helper, HelperWeights, Role, Sample, capture, export, is_export, load
from bitcert.certificates.certification import certify
from bitcert.coding.trees import Comparison, Leaf, Split, Subject
from bitcert.decoder import head as bank_head
from bitcert.decoder import network as quantised
from bitcert.decoder import network_head, trees
from bitcert.decoder.features.banks import BANKS, bank_groups
from bitcert.errors import InputError
from bitcert.exports import agreement, formats, hub
from bitcert.run import Compressed

FORMATS = list(formats.Format)
TREE = Split(
    Comparison(Subject(0), 0.5),
    Split(Comparison(Subject(0, 2, -0.5), 0.25), Leaf(2), Leaf(0)),
    Split(Comparison(Subject(1), 2.0, equal=True), Leaf(1), Leaf(0)),
)


class Clashing(nn.Module):
    """Names of its parts are names that a certified module has itself."""

    def __init__(self):
        super().__init__()
        self.classifier = nn.Linear(64, 12)
        self.logits = nn.Linear(12, 4)

    def forward(self, x):
        return self.logits(torch.relu(self.classifier(x.flatten(1))))


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.out = nn.Embedding(9, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.out(self.table(x).mean(1))


def sample_of(inputs, classes):
    rng = np.random.default_rng(5)
    return Sample(inputs, rng.integers(0, classes, len(inputs)), classes, Role.TRAIN, "made")


def images(side=8):
    return np.random.default_rng(1).random((24, 1, side, side), dtype=np.float32)


def head(index, side):
    sample, rng = sample_of(images(side), 4), np.random.default_rng(index)
    helper, bank = Helper.for_sample(sample), BANKS[index]
    size = len(bank_groups(bank, helper.input_shape))
    weights = rng.integers(-3, 4, (size, 4)) * (rng.random((size, 1)) < 0.2)
    return sample, Compressed(*bank_head.write(bank, weights, helper), helper)


def columns():
    rng = np.random.default_rng(2)
    return rng.choice([0.25, 0.5, 2.0, -1.0, 0.1], (60, 3)).astype(np.float32)


def tree():
    sample = sample_of(columns(), 3)
    helper = Helper.for_sample(sample)
    return sample, Compressed(*trees.write(TREE, helper), helper)


def network(model=None, inputs=None):
    inputs = images() if inputs is None else inputs
    torch.manual_seed(0)
    model = Clashing() if model is None else model
    example = torch.from_numpy(inputs[:4])
    captured = capture(model.eval(), example.long() if inputs.dtype == np.uint8 else example)
    sample = sample_of(inputs, captured.architecture.num_outputs)
    architecture, rng = captured.architecture, np.random.default_rng(6)
    integers = {spec.name: rng.integers(-9, 10, spec.shape) for spec in architecture.parameters}
    exponents = dict.fromkeys(integers, -12)
    return sample, Compressed(
        *quantised.write(architecture, integers, exponents), Helper.for_sample(sample, architecture)
    )


def words():
    torch.manual_seed(0)
    return network(Words(), np.random.default_rng(3).integers(0, 9, (24, 5)).astype(np.uint8))


def correction():
    torch.manual_seed(0)
    captured = capture(Clashing().eval(), torch.from_numpy(images()[:4]))
    architecture, sample = captured.architecture, sample_of(images(), 4)
    helper = Helper.for_sample(sample, architecture, weights=HelperWeights.of(architecture, captured.parameters))
    code = network_head.NetworkHeadCode(network_head.Form.CORRECTION, exponent=-8)
    weights = np.random.default_rng(4).integers(-2, 3, (network_head.num_features(helper, code), 4))
    return sample, Compressed(*network_head.write(helper, replace(code, weights=weights)), helper)


KINDS = {
    "tree": tree,
    "network": network,
    "words": words,
    "correction": correction,
    "edges": lambda: head(0, 5),
    "strokes": lambda: head(3, 5),
    "waves": lambda: head(11, 8),
}
SMALL = ("tree", "network", "words", "correction")


def put(folder, sample, compressed):
    helper = compressed.helper
    (folder / "message.bin").write_bytes(compressed.message)
    (folder / "certificate.json").write_text(certify(compressed, sample).to_json())
    if helper.predictor is not None:
        (folder / "architecture.json").write_text(helper.predictor.to_json())
    if helper.weights is not None:
        (folder / "helper.safetensors").write_bytes(helper.weights.to_bytes())
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}

    def folder(kind):
        if kind not in made:
            made[kind] = put(tmp_path_factory.mktemp(kind), *KINDS[kind]())
        return made[kind]

    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_a_module_that_answers_as_the_decoded_classifier(folders, kind):
    certified, (sample, compressed) = load(folders(kind)), KINDS[kind]()
    classifier = bitcert.decode_message(compressed.message, compressed.helper).classifier
    assert isinstance(certified, nn.Module)
    inputs = torch.from_numpy(np.array(sample.inputs))
    assert torch.equal(certified(inputs), classifier(sample.inputs))
    assert torch.equal(certified(inputs.double()), classifier(sample.inputs))
    assert certified(inputs[:1]).shape == (1, sample.num_classes)
    assert not any(each.requires_grad for each in certified.parameters())
    assert certified.is_intact()
    twin = copy.deepcopy(certified)
    twin.load_state_dict(certified.state_dict())
    assert torch.equal(pickle.loads(pickle.dumps(twin))(inputs), certified(inputs))


def test_a_tree_descends_as_its_tests_say():
    classifier, inputs = trees.TreeClassifier(TREE, 3), columns()
    np.testing.assert_array_equal(classifier(inputs).argmax(1), trees.answers(TREE, inputs))
    assert len(set(trees.answers(TREE, inputs))) == 3
    assert trees.TreeClassifier(Leaf(1), 3)(inputs).argmax(1).eq(1).all()


def test_it_stays_in_evaluation_mode(folders):
    certified = load(folders("network"))
    assert certified.train() is certified
    assert not certified.training
    assert not any(module.training for module in certified.train(True).modules())


def test_its_tensors_have_the_names_of_the_network(folders):
    certified = load(folders("network"))
    names = ["classifier.weight", "classifier.bias", "logits.weight", "logits.bias"]
    assert sorted(certified.network.state_dict()) == sorted(names)
    model = Clashing()
    model.load_state_dict(certified.network.state_dict())
    inputs = torch.from_numpy(images())
    torch.testing.assert_close(model(inputs), certified(inputs))


def test_of_changed_tensors_nothing_is_certified(folders, tmp_path):
    certified = load(folders("network"))
    assert "of new data like these" in repr(certified) or "nothing is certified" in repr(certified)
    with torch.no_grad():
        certified.network.get_parameter("logits.bias")[0] += 1e-3
    assert not certified.is_intact()
    assert "not certified: its tensors are no longer those of the message" in repr(certified)
    for write in (export, hub.save_pretrained):
        with pytest.raises(InputError, match="expected the tensors that were certified, got others"):
            write(certified, tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []
    assert not load(folders("network")).half().is_intact()


def statement_in(path, kind):
    if kind == "onnx":
        import onnx

        (found,) = [each.value for each in onnx.load(path).metadata_props if each.key == formats.KEY]
        return found
    if kind == "state_dict":
        with safetensors.safe_open(path, framework="pt") as file:
            return file.metadata()[formats.KEY]
    extra = {"bitcert.json": ""}
    torch.jit.load(path, _extra_files=extra) if kind == "torchscript" else torch.export.load(path, extra_files=extra)
    found = extra["bitcert.json"]
    return found if isinstance(found, str) else found.decode()


def exported(kind, path):
    if kind == "onnx":
        return formats.run_onnx(path.read_bytes())
    if kind == "state_dict":
        return None
    return formats.run_program(path.read_bytes(), kind)


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_an_export_agrees_and_carries_its_certificate(folders, kind, to, tmp_path):
    if (to == "pt2" and kind not in ("network", "words")) or (to == "torchscript" and kind in ("strokes", "waves")):
        pytest.skip("takes seconds, and other kinds take the same road")
    if to == "onnx":
        pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    certified, path = load(folders(kind)), tmp_path / "file"
    made = export(certified, path, to)
    assert made.agreement.deviation <= made.agreement.allowed
    stated = json.loads(statement_in(path, to))
    assert stated["certificate"] == (folders(kind) / "certificate.json").read_text()
    assert base64.b64decode(stated["message"]) == (folders(kind) / "message.bin").read_bytes()
    assert Certificate.from_json(stated["certificate"]).bound == certified.certificate.bound
    run = exported(to, path)
    if run is None:
        assert certified.network.state_dict().keys() == safetensors.torch.load_file(path).keys()
        return
    generator = torch.Generator().manual_seed(7)  # other inputs than the export was compared on
    shape, vocabulary = (33, *certified.like.input_shape), 9
    words = torch.randint(0, vocabulary, shape, generator=generator)
    inputs = words if certified.input_dtype == torch.int64 else torch.randn(shape, generator=generator)
    assert agreement.compare(certified, run, inputs).deviation <= 5e-5


@pytest.mark.parametrize("to", ["onnx", "state_dict", "torchscript"])
def test_a_changed_export_is_not_one_of_this_certificate(folders, tmp_path, to):
    if to == "onnx":
        pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    certified, path = load(folders("network")), tmp_path / "file"
    made = export(certified, path, to)
    assert is_export(load(folders("network")), path, to)
    content = path.read_bytes()
    assert b"tests" not in content, "a file that says who wrote it has other bytes elsewhere"
    assert made.sha256 == hashlib.sha256(content).hexdigest()
    for place in (0, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert not is_export(certified, path, to)
    other = load(folders("correction"))
    path.write_bytes(content)
    assert not is_export(other, path, to)


def test_an_export_that_decides_otherwise_is_refused(folders, tmp_path, monkeypatch):
    certified = load(folders("network"))
    with pytest.raises(InputError, match="expected logits as the certified classifier's, within 5e-05 of the largest"):
        agreement.compare(certified, lambda x: certified(x) * 1.001, agreement.random_inputs(certified))
    with pytest.raises(InputError, match=r"got a shape of \[64, 3\]"):
        agreement.compare(certified, lambda x: certified(x)[:, :3], agreement.random_inputs(certified))
    monkeypatch.setattr("bitcert.exports.files.run_program", lambda content, kind: lambda x: -certified(x))
    (tmp_path / "old.pt").write_bytes(b"kept")
    with pytest.raises(InputError, match="got a difference of 2 of the largest"):
        export(certified, tmp_path / "old.pt")
    assert (tmp_path / "old.pt").read_bytes() == b"kept"
    assert [each.name for each in tmp_path.iterdir()] == ["old.pt"]


def test_it_is_compared_on_the_users_data(folders, tmp_path):
    certified = load(folders("tree"))
    assert export(certified, tmp_path / "a.pt", inputs=columns()).agreement.examples == 60
    assert export(certified, tmp_path / "a.pt", inputs=columns()[:1]).agreement.examples == 2
    with pytest.raises(InputError, match=r"expected inputs of shape \[3\]"):
        export(certified, tmp_path / "b.pt", inputs=columns()[:, :2])


def test_the_users_data_are_not_in_the_file(folders, tmp_path):
    """torch keeps in a ``.pt2`` file what it was traced on."""
    certified, path = load(folders("network")), tmp_path / "a.pt2"
    export(certified, path, inputs=images()[:3])
    assert is_export(certified, path)
    (kept,), _ = torch.export.load(path).example_inputs
    assert torch.equal(kept, agreement.random_inputs(certified))


def test_a_certificate_cannot_widen_what_counts_as_agreement(folders):
    certified = load(folders("network"))
    for tolerance in (1.0, "x"):
        certified.certificate = replace(certified.certificate, decision_rule={"tolerance": tolerance})
        assert agreement.compare(certified, certified, agreement.random_inputs(certified)).allowed == 5e-5


def test_a_format_is_named_or_seen_in_the_name(folders, tmp_path):
    certified = load(folders("tree"))
    with pytest.raises(InputError, match=r"a file whose name ends in \.onnx, \.pt2, \.pt, \.safetensors, got 'x'"):
        export(certified, tmp_path / "x")
    with pytest.raises(InputError, match="expected a format among onnx"):
        export(certified, tmp_path / "x", "tflite")


def test_a_missing_package_is_named(folders, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match=r"the package onnx, got .*; install it: pip install 'bitcert\[onnx\]'"):
        export(load(folders("tree")), tmp_path / "x.onnx")


@pytest.mark.parametrize("kind", SMALL)
def test_a_folder_for_a_hub_can_be_loaded_and_verified(folders, kind, tmp_path):
    certified, (sample, _) = load(folders(kind)), KINDS[kind]()
    hub.save_pretrained(certified, tmp_path / "card")
    hub.save_pretrained(certified, tmp_path / "card")
    inputs = torch.from_numpy(np.array(sample.inputs))
    assert torch.equal(load(tmp_path / "card")(inputs), certified(inputs))
    assert bitcert.verify(tmp_path / "card" / "certificate.json", sample).status is bitcert.Status.VALID
    tensors = safetensors.torch.load_file(tmp_path / "card" / "model.safetensors")
    assert tensors.keys() == certified.network.state_dict().keys()
    card = (tmp_path / "card" / "README.md").read_text()
    for text in ("library_name: bitcert", certified.certificate.sentence[:40], "drawn independently", "bitcert verify"):
        assert text in card


def test_a_card_shows_what_a_stranger_wrote_and_does_nothing_else(folders):
    certificate = load(folders("tree")).certificate
    hostile = "<script>x</script> | [a](http://b) `c` **d** ~~e~~ \n# e"
    card = hub.model_card(replace(certificate, description=hostile, data=dict.fromkeys(certificate.data, hostile)))
    for text in ("<script>", "](http", "\n# e", " `c", "~~e"):
        assert text not in card
    assert "content hash –." in hub.model_card(replace(certificate, data={}))


class Uploads:
    """Stands for the hub: what was sent to it."""

    def __init__(self, fails=False):
        self.sent, self.fails = {}, fails

    def HfApi(self, token, library_name):
        return self

    def create_repo(self, name, private, exist_ok):
        if self.fails:
            raise OSError("no route to host")
        self.repo_id = name
        return self

    def CommitOperationAdd(self, path, content):
        return path, content

    def create_commit(self, repo_id, operations, commit_message):
        self.sent[repo_id] = dict(operations)
        self.commit_url = f"https://hub/{repo_id}/commit/1"
        return self


def test_a_push_sends_the_folder(folders, tmp_path, monkeypatch):
    certified, hub_there = load(folders("network")), Uploads()
    monkeypatch.setattr(hub, "module_of_extra", lambda name, extra: hub_there)
    assert hub.push_to_hub(certified, "me/small") == "https://hub/me/small/commit/1"
    hub.save_pretrained(certified, tmp_path / "card")
    assert hub_there.sent["me/small"] == {each.name: each.read_bytes() for each in (tmp_path / "card").iterdir()}
    hub_there.fails = True
    with pytest.raises(InputError, match="expected an upload to 'me/small', got no route to host"):
        hub.push_to_hub(certified, "me/small")
    real = pytest.importorskip("huggingface_hub")
    for name in ("HfApi", "CommitOperationAdd"):
        assert hasattr(real, name)


def test_a_safetensors_file_is_the_same_whoever_writes_it(folders):
    certified = load(folders("network"))
    one, two = (formats.to_bytes(certified, formats.Format.state_dict) for _ in range(2))
    assert one == two
