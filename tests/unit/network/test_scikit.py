"""Fitted classifiers of scikit-learn become networks of the same scores."""

import numpy as np
import pytest
import torch
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.naive_bayes import BernoulliNB, GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
)

from bitcert.errors import CaptureError
from bitcert.network import as_module, capture

GENERATOR = np.random.default_rng(0)
INPUTS = GENERATOR.standard_normal((120, 5)).astype(np.float32)
INPUTS[:, 3], INPUTS[:, 4] = GENERATOR.integers(0, 4, 120), GENERATOR.integers(0, 3, 120)
TWO = (INPUTS[:, 0] > 0).astype(int)
THREE = TWO + (INPUTS[:, 1] > 0.3)

COLUMNS = ColumnTransformer(
    [("scaled", StandardScaler(), [0, 1]), ("hot", OneHotEncoder(drop="first"), [3, 4])], remainder="passthrough"
)
WEIGHED = ColumnTransformer([("hot", OneHotEncoder(), [3, 4])], transformer_weights={"hot": 2.0})
CODES = ColumnTransformer([("codes", OrdinalEncoder(), slice(3, 5))], remainder=MaxAbsScaler())
UNKNOWN = {"handle_unknown": "use_encoded_value", "unknown_value": -1}
MODELS = {
    "logistic": LogisticRegression(),
    "descent": SGDClassifier(random_state=0),
    "ridge": RidgeClassifier(),
    "discriminant": LinearDiscriminantAnalysis(),
    "Gaussian": GaussianNB(),
    "Bernoulli": BernoulliNB(binarize=0.5),
    "perceptron": MLPClassifier((5, 4), activation="tanh", max_iter=10, random_state=0),
    "robust": make_pipeline(RobustScaler(), PCA(3, whiten=True), LogisticRegression()),
    "normed": make_pipeline(Normalizer("l1"), MinMaxScaler(clip=True), LogisticRegression()),
    "columns": make_pipeline(COLUMNS, MLPClassifier((6,), max_iter=10, random_state=0)),
    "codes": make_pipeline(CODES, "passthrough", LogisticRegression()),
}


def scores(model) -> np.ndarray:
    name = "decision_function" if hasattr(model, "decision_function") else "predict_log_proba"
    found = getattr(model, name)(INPUTS)
    found = np.stack([np.zeros(len(found)), found], 1) if found.ndim == 1 else found
    return found - found[:, :1]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize("labels", [TWO, THREE], ids=["two", "three"])
def test_equal_scores_and_classes(name, labels):
    model = MODELS[name].fit(INPUTS, labels)
    logits = capture(as_module(model), torch.from_numpy(INPUTS[:5]))(torch.from_numpy(INPUTS)).numpy()
    expected = scores(model)
    assert np.abs(logits - logits[:, :1] - expected).max() <= 1e-5 * np.abs(expected).max()
    assert (logits.argmax(1) == model.predict(INPUTS)).all()


@pytest.mark.parametrize(
    ("model", "labels", "words"),
    [
        (RandomForestClassifier(2), TWO, "got RandomForestClassifier"),
        (LogisticRegression(), TWO + 1, "classes 0, 1, 2"),
        (LogisticRegression(), np.where(TWO, "yes", "no"), "classes 0, 1, 2"),
        (make_pipeline(StandardScaler(), RandomForestClassifier(2)), TWO, "got RandomForestClassifier"),
        (make_pipeline(WEIGHED, LogisticRegression()), TWO, "transformer_weights"),
        (make_pipeline(OrdinalEncoder(**UNKNOWN | {"unknown_value": np.nan}), LogisticRegression()), TWO, "NaN"),
    ],
)
def test_what_is_no_network_is_named(model, labels, words):
    with pytest.raises(CaptureError, match=words):
        as_module(model.fit(INPUTS, labels))


def test_what_is_not_fitted_is_refused():
    with pytest.raises(CaptureError, match="fit it first"):
        as_module(LogisticRegression())


def test_an_unknown_category_has_the_code_that_was_chosen_for_it():
    encoder = ColumnTransformer([("codes", OrdinalEncoder(**UNKNOWN), [3, 4])])
    model = make_pipeline(encoder, LogisticRegression()).fit(INPUTS, THREE)
    new = INPUTS[:8].copy()
    new[:4, 3] = 99
    logits = as_module(model)(torch.from_numpy(new)).detach().numpy()
    expected = model.decision_function(new)
    assert np.allclose(logits - logits[:, :1], expected - expected[:, :1], atol=1e-5)
