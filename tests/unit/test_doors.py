"""Whatever is brought in can be certified, verified and run: one small model of every kind."""

import json
import os

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

import bitcert
from bitcert import CertifyRequest, Role, Run, Sample, Status, certify, compress, export, load, verify
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
    elif kind == "digits":
        return Sample(rng.integers(0, 256, (ROWS, 1, 28, 28), np.uint8), np.arange(ROWS) % 10, 10, Role.TRAIN, kind)
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


def written(folder, nodes, weights, shape, opset):
    """A file of ONNX as :func:`tests.unit.network.onnx_models.build` makes it, read."""
    onnx = pytest.importorskip("onnx")
    from tests.unit.network.onnx_models import build

    nodes = [onnx.helper.make_node(op, inputs, outputs, **settings) for op, inputs, outputs, settings in nodes]
    onnx.save(build(nodes, weights, shape, opset), folder / "net.onnx")
    return load_model(str(folder / "net.onnx")).model


def random(*shape):
    return np.random.default_rng(4).standard_normal(shape).astype(np.float32)


def onnx_file(folder):
    nodes = [("Gemm", ["x", "w", "b"], ["y"], {})]
    return written(folder, nodes, {"w": random(5, 2), "b": random(2)}, ["N", 5], 13)


def onnx_image(folder):
    """As Keras writes them: channels last, one sample, probabilities."""
    nodes = [
        ("Reshape", ["x", "s"], ["h"], {}),
        ("Transpose", ["h"], ["t"], {"perm": [0, 3, 1, 2]}),
        ("Conv", ["t", "w"], ["a"], {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        ("Relu", ["a"], ["r"], {}),
        ("Flatten", ["r"], ["f"], {"axis": 0}),
        ("Gemm", ["f", "m", "b"], ["z"], {}),
        ("Softmax", ["z"], ["y"], {}),
    ]
    weights = {"s": np.array([1, 6, 6, 1]), "w": random(2, 1, 3, 3), "m": random(18, 2), "b": random(2)}
    return written(folder, nodes, weights, [1, 1, 6, 6], 11)


def onnx_jax(folder):
    """As JAX writes a softmax: a maximum that starts at minus infinity."""
    nodes = [
        ("MatMul", ["x", "w"], ["z"], {}),
        ("ReduceMax", ["z"], ["m"], {"axes": [1]}),
        ("Max", ["lowest", "m"], ["top"], {}),
        ("Sub", ["z", "top"], ["y"], {}),
    ]
    return written(folder, nodes, {"w": random(5, 2), "lowest": np.array(-np.inf, np.float32)}, ["N", 5], 13)


def onnx_class_token(folder):
    """A token before all others and the samples second, in a file for one sample."""
    nodes = [
        ("Squeeze", ["x"], ["s"], {"axes": [1]}),
        ("Concat", ["token", "s"], ["c"], {"axis": 1}),
        ("Transpose", ["c"], ["t"], {"perm": [1, 0, 2]}),
        ("ReduceMean", ["t"], ["m"], {"axes": [0], "keepdims": 0}),
        ("MatMul", ["m", "w"], ["y"], {}),
    ]
    return written(folder, nodes, {"token": random(1, 1, 6), "w": random(6, 2)}, [1, 1, 6, 6], 11)


def onnx_columns(folder):
    """As skl2onnx writes chosen columns."""
    nodes = [
        ("ArrayFeatureExtractor", ["x", "k"], ["c"], {"domain": "ai.onnx.ml"}),
        ("Scaler", ["c"], ["s"], {"domain": "ai.onnx.ml", "offset": [0.0, 1.0], "scale": [1.0, 0.5]}),
        ("MatMul", ["s", "w"], ["y"], {}),
    ]
    return written(folder, nodes, {"k": np.array([3, 1]), "w": random(2, 2)}, ["N", 5], 15)


def published(folder):
    """The MNIST network of the ONNX model zoo, for one sample."""
    pytest.importorskip("onnx")
    if "BITCERT_DATA" not in os.environ:
        pytest.skip("needs BITCERT_DATA")
    return load_model(f"{os.environ['BITCERT_DATA']}/pretrained/onnx_mnist8/opt-mnist.onnx").model


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
    "onnx, channels last, one sample": (onnx_image, "image"),
    "onnx, class token, one sample": (onnx_class_token, "image"),
    "onnx, minus infinity": (onnx_jax, "vector"),
    "onnx, columns": (onnx_columns, "vector"),
    "onnx, published": (published, "digits"),
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


def test_a_class_token_is_put_before_every_sample(tmp_path):
    x, model = torch.from_numpy(sample_of("image").inputs[:3]), onnx_class_token(tmp_path)
    expected = torch.cat([model(each[None]) for each in x])
    assert torch.allclose(model(x), expected, rtol=1e-5)
    assert torch.allclose(as_network(model, sample_of("image"))(x), expected, rtol=1e-5)


@pytest.mark.parametrize("name", sorted(DOORS))
def test_certified_verified_run_and_exported(name, tmp_path):
    make, kind = DOORS[name]
    sample = sample_of(kind)
    network = as_network(make(tmp_path), sample)
    compressed = compress(sample, network, fine_tune=False, run=Run(budget_seconds=0.05))
    (tmp_path / "message.bin").write_bytes(compressed.message)
    (tmp_path / ARCHITECTURE_FILE).write_text(compressed.helper.predictor.to_json())
    path = tmp_path / "certificate.json"
    path.write_text(certify(compressed, sample).to_json())
    assert verify(path, sample).status is Status.VALID
    certified = load(tmp_path)
    errors = int((certified.predict(sample.inputs) != sample.labels).sum())
    assert errors <= json.loads(path.read_text())["errors"]
    assert export(certified, tmp_path / "net.safetensors").agreement.deviation <= 1e-5


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
