"""Whatever is brought in can be certified, verified and run: one small model of every kind."""

import json

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

import bitcert
from bitcert import CertifyRequest, Role, Run, Sample, Status, certify, compress, load, verify
from bitcert.certificates.certification import ARCHITECTURE_FILE
from bitcert.decoder import as_network
from bitcert.errors import CaptureError, InputError
from bitcert.network import load_model

ROWS = 60


def sample_of(kind: str) -> Sample:
    """Labelled examples; what they say can be learnt."""
    rng, labels = np.random.default_rng(5), np.arange(ROWS) % 2
    if kind == "tokens":
        inputs = rng.integers(3, 30_000, (ROWS, 6))
        inputs[:, 0] = 300 + labels
    elif kind == "image":
        inputs = rng.random((ROWS, 1, 6, 6)).astype(np.float32) + labels[:, None, None, None]
    else:
        inputs = rng.standard_normal((ROWS, 5)).astype(np.float32) + 2 * labels[:, None]
    return Sample(inputs, labels, 2, Role.TRAIN, kind)


def seeded(make):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return make().eval()


def vector_net():
    return seeded(lambda: nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)))


def token_net():
    return seeded(lambda: nn.Sequential(nn.Embedding(30_000, 2), nn.Flatten(), nn.Linear(12, 2)))


def exported(folder):
    program = torch.export.export(vector_net(), (torch.ones(2, 5),), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    torch.export.save(program, folder / "net.pt2")
    return load_model(str(folder / "net.pt2")).model


def onnx_file(folder):
    onnx = pytest.importorskip("onnx")
    weights = {"w": np.eye(5, 2, dtype=np.float32), "b": np.zeros(2, np.float32)}
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Gemm", ["x", "w", "b"], ["y"])],
        "graph",
        [onnx.helper.make_tensor_value_info("x", 1, ["N", 5])],
        [onnx.helper.make_tensor_value_info("y", 1, ["N", 2])],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)]), folder / "net.onnx")
    return load_model(str(folder / "net.onnx")).model


def transformers_folder(folder):
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 30_000, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BertConfig(**sizes, intermediate_size=8, max_position_embeddings=8, num_labels=2)
    model = seeded(lambda: transformers.BertForSequenceClassification(config))
    model.save_pretrained(folder / "bert")
    return load_model(str(folder / "bert")).model


def pipeline(folder):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    sample = sample_of("vector")
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(sample.inputs, sample.labels)


DOORS = {
    "module": (lambda folder: vector_net(), "vector"),
    "parallel": (lambda folder: nn.DataParallel(vector_net()), "vector"),
    "compiled": (lambda folder: Compiled(), "vector"),
    "recurrent": (lambda folder: seeded(Recurrent), "image"),
    "tokens": (lambda folder: token_net(), "tokens"),
    "pt2": (exported, "vector"),
    "onnx": (onnx_file, "vector"),
    "transformers": (transformers_folder, "tokens"),
    "scikit-learn": (pipeline, "vector"),
}


class Compiled(nn.Module):
    """As ``torch.compile`` makes them, whose own code takes long to import."""

    def __init__(self):
        super().__init__()
        self._orig_mod = vector_net()


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.GRU(6, 3, batch_first=True), nn.Linear(3, 2)

    def forward(self, x):
        return self.head(self.cell(x[:, 0])[0][:, -1])


@pytest.mark.parametrize("name", sorted(DOORS))
def test_certified_verified_and_run(name, tmp_path):
    make, kind = DOORS[name]
    sample = sample_of(kind)
    network = as_network(make(tmp_path), sample)
    compressed = compress(sample, network, fine_tune=False, run=Run(budget_seconds=0.05))
    (tmp_path / "message.bin").write_bytes(compressed.message)
    (tmp_path / ARCHITECTURE_FILE).write_text(compressed.helper.predictor.to_json())
    path = tmp_path / "certificate.json"
    path.write_text(certify(compressed, sample).to_json())
    assert verify(path, sample).status is Status.VALID
    errors = int((load(tmp_path).predict(sample.inputs) != sample.labels).sum())
    assert errors <= json.loads(path.read_text())["errors"]


def test_a_module_is_taken_wherever_a_network_is(tmp_path):
    net, sample = vector_net(), sample_of("vector")
    network = as_network(net, sample)
    assert as_network(network, sample) is network
    assert CertifyRequest(sample, net).network.architecture == network.architecture
    assert compress(sample, net, fine_tune=False).helper.predictor == network.architecture
    deviation = bitcert.output_deviation(net, network, sample)
    assert deviation.disagreements == 0
    assert deviation.entrywise.maximum < 1e-5
    quantise = bitcert.compare(net, sample, codecs=["quantise"])
    assert quantise.rows
    settings = bitcert.MeasureSettings(quantities=("layer_cushion",))
    found, expected = (bitcert.measure(each, sample, settings, init=each) for each in (net, network))
    assert found.distribution("layer_cushion", 1) == expected.distribution("layer_cushion", 1)
    gathered = bitcert.BoundSettings(margin_quantile=0.9, profile=False, flatness=False)
    rows = [bitcert.bounds(each, sample, gathered).rows for each in (net, network)]
    assert [row.log10 for row in rows[0]] == [row.log10 for row in rows[1]]


@pytest.mark.parametrize("wrong", ["net.pt2", 7, None, [1]])
def test_what_is_no_network_is_refused(wrong):
    with pytest.raises(InputError):
        as_network(wrong, sample_of("vector"))


def test_scripted_modules_are_named():
    with pytest.warns(DeprecationWarning, match="jit"), pytest.raises(CaptureError, match="TorchScript"):
        as_network(torch.jit.trace(vector_net(), torch.ones(2, 5)), sample_of("vector"))


def test_pickles_are_refused():
    with pytest.raises(InputError, match="no pickle"):
        load_model("model.pkl")


def test_a_folder_without_safetensors_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"architectures": ["BertForSequenceClassification"]}')
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(InputError, match="never read"):
        load_model(str(tmp_path))


ENDLESS = {
    **{key: f'"{key}": 1000000000' for key in ("num_labels", "num_hidden_layers", "vocab_size")},
    "depths": '"depths": [1000000000, 1, 1, 1]',
    "n_layer": '"text_config": {"sizes": [{"n_layer": 1000000000}]}',
}


@pytest.mark.parametrize("key", ENDLESS)
def test_a_folder_of_endless_sizes_is_refused_before_anything_is_built(tmp_path, key):
    (tmp_path / "config.json").write_text(f'{{"architectures": ["BertForSequenceClassification"], {ENDLESS[key]}}}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=rf"{key} of at most .*got 1,000,000,000;"):
        load_model(str(tmp_path))


def test_a_folder_without_all_weights_is_refused(tmp_path):
    transformers_folder(tmp_path)
    path = tmp_path / "bert" / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    del tensors["classifier.weight"]
    safetensors.torch.save_file(tensors, path, {"format": "pt"})
    with pytest.raises(InputError, match=r"all weights .*got none for classifier\.weight"):
        load_model(str(tmp_path / "bert"))


@pytest.mark.parametrize(
    "text", ["{}", "[]", '{"architectures": ["BertModel"]}', '{"architectures": 3}', "{", "[" * 9999]
)
def test_a_folder_without_a_classifier_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError) as caught:
        load_model(str(tmp_path))
    assert "\n" not in str(caught.value)
