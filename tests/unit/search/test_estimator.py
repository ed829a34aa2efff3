"""The scikit-learn estimator: what scikit-learn demands, its certificate, frames, texts as labels, pipelines."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator

from bitcert import Certified, CertifiedClassifier, Decoded, Helper, capture, certify, count_errors, export
from bitcert.decoder.network import QuantisedNetwork
from bitcert.errors import InputError
from bitcert.run import Compressed

NAMES = np.array(["early", "late", "never"])


def rows(seed=0, count=400):
    inputs = np.random.default_rng(seed).normal(size=(count, 4))
    return inputs, NAMES[(inputs[:, 1] > 0.3).astype(int) + (inputs[:, 2] > 0.5)]


@pytest.fixture(scope="module")
def fitted():
    return CertifiedClassifier(budget_seconds=0.2).fit(*rows())


@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_accepts_it():
    found = check_estimator(CertifiedClassifier(budget_seconds=0.02), on_skip=None)
    assert sum(each["status"] == "passed" for each in found) >= 50


def test_it_carries_a_certificate_that_can_be_verified(fitted):
    inputs, labels = rows()
    certificate, certified = fitted.certificate_, fitted.certified_
    assert certificate.bound < 0.6
    assert np.sum(fitted.predict(inputs) != labels) <= certificate.errors
    assert np.mean(fitted.predict(rows(1)[0]) != rows(1)[1]) < certificate.bound
    sample = fitted.to_sample(inputs, labels)
    assert certificate.data["hash"] == sample.content_hash
    assert count_errors(certified.decoded.classifier, sample).errors == certificate.errors
    again = certify(Compressed(certified.message, certified.decoded.ledger, certified.helper), sample)
    assert again.bound == certificate.bound
    assert list(fitted.classes_) == ["early", "late", "never"]
    assert fitted.decision_function(inputs[:5]).shape == (5, 3)


def test_one_seed_one_classifier(fitted):
    again = clone(fitted).fit(*rows())
    assert again.certified_.message == fitted.certified_.message
    assert clone(fitted).get_params() == fitted.get_params()


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_frames_are_read_by_column(kind, fitted):
    frames = pytest.importorskip(kind)
    inputs, labels = rows()
    data = {name: inputs[:, place] for place, name in enumerate("abcd")}
    made = clone(fitted).fit(frames.DataFrame(data), frames.Series(labels))
    assert list(made.feature_names_in_) == list("abcd")
    np.testing.assert_array_equal(made.predict(frames.DataFrame(data)), fitted.predict(inputs))
    with pytest.raises(ValueError, match="feature names"):
        made.predict(frames.DataFrame({"b": inputs[:, 0], **{k: data[k] for k in "acd"}}))


def test_it_works_in_a_pipeline_and_in_cross_validation(fitted):
    inputs, labels = rows()
    halved = make_pipeline(FunctionTransformer(lambda x: x / 2), clone(fitted)).fit(inputs, labels)
    assert halved[-1].certificate_.bound < 0.6
    assert cross_val_score(clone(fitted), inputs, labels, cv=2).min() > 0.6


def test_a_network_may_be_a_fitted_classifier_of_scikit_learn_and_keeps_its_mode():
    inputs, labels = rows(count=200)
    numbers = np.unique(labels, return_inverse=True)[1]
    fitted = MLPClassifier((4,), solver="lbfgs", tol=0.1, random_state=0).fit(inputs, numbers)
    assert CertifiedClassifier(network=fitted, budget_seconds=0.02).fit(inputs, numbers).certificate_.samples == 200
    module = torch.nn.Linear(4, 3).train()
    CertifiedClassifier(network=module, budget_seconds=0.02).fit(inputs, labels)
    assert module.training


def test_a_network_is_compressed_and_has_probabilities():
    inputs, labels = rows(count=200)
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(4, 3))
    with torch.no_grad():
        network[0].weight.zero_()
        network[0].weight[0, 1] = network[0].weight[0, 2] = -4
        network[0].weight[2, 1] = network[0].weight[2, 2] = 4
    made = CertifiedClassifier(network=network, budget_seconds=0.02).fit(inputs, labels)
    assert made.certificate_.samples == 200
    helper = made.certified_.helper if made.certified_.helper.predictor is not None else None
    assert hasattr(made, "predict_proba") == (helper is not None)
    tensors = {name: value.detach() for name, value in network.state_dict().items()}
    architecture = capture(network, torch.zeros(2, 4)).architecture
    decoded = Decoded(QuantisedNetwork(Helper((4,), 3, predictor=architecture), architecture, tensors), None, "")
    made.certified_ = Certified(made.certificate_, made.certified_.helper, decoded, b"", made.certified_.like)
    found = made.predict_proba(inputs)
    np.testing.assert_allclose(found.sum(1), 1)
    np.testing.assert_array_equal(made.classes_[found.argmax(1)], made.predict(inputs))


def test_trees_and_heads_have_no_probabilities(fitted):
    assert not hasattr(fitted, "predict_proba")


def test_what_cannot_be_used_is_named():
    inputs, labels = rows(count=50)
    with pytest.raises(ValueError, match="one class"):
        CertifiedClassifier().fit(inputs, np.zeros(50, int))
    with pytest.raises(InputError, match="forest"):
        CertifiedClassifier(families=("forest",)).fit(inputs, labels)


def test_it_can_be_exported(fitted, tmp_path):
    assert export(fitted.certified_, tmp_path / "c.safetensors").path.exists()
