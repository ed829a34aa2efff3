"""Fitted classifiers and pipelines of scikit-learn as torch modules, read from their fitted attributes.

Linear classifiers (whatever they were fitted by), multi-layer perceptrons, linear discriminants, naive Bayes (Gaussian,
Bernoulli, multinomial), and before them scalers, one-hot and ordinal encoders of numbers, binarizers, column
transformers, PCA and truncated SVD. The classes must be 0, 1, ... in this order, as a sample numbers them. Where a
classifier with two classes has one score, the logits are 0 and that score. Numbers are rounded to float32, so what
scikit-learn computes in float64 may differ near a tie; categories are compared in float32.

Trees and nearest neighbours are no networks and are refused; ``bitcert certify --data`` grows trees of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from bitcert.errors import CaptureError

__all__ = ["scikit_module"]

Maker = Callable[[Any], nn.Module]


def scikit_module(model: Any) -> nn.Module:
    """A fitted classifier, or a pipeline that ends in one, as a module ``[batch, features]`` -> logits.

    Raises:
        CaptureError: it is not fitted, of another kind, or its classes are not 0, 1, ...
    """
    classes = getattr(model, "classes_", None)
    if classes is None:
        raise CaptureError("a fitted classifier", f"{type(model).__name__} without classes", "fit it first")
    if not np.array_equal(np.asarray(classes), np.arange(len(classes))):
        got = f"classes {list(classes)[:8]}"
        raise CaptureError("classes 0, 1, 2, ...", got, "number the labels from 0 before fitting")
    return _module(model).eval()


def _module(step: Any) -> nn.Module:
    name = type(step).__name__
    if isinstance(step, str):
        if step == "passthrough":
            return nn.Identity()
        raise _unknown(f"the step {step!r}")
    maker = _MAKERS.get(name)
    is_library = type(step).__module__.startswith("sklearn.")
    if maker is None or not is_library:
        raise _unknown(name)
    try:
        return maker(step)
    except AttributeError as error:
        raise CaptureError(
            "a fitted pipeline", f"{name} without its fitted values ({error})"[:200], "fit it"
        ) from error


def _unknown(got: str) -> CaptureError:
    do = "use one of the listed kinds, or export it to ONNX; trees are grown by bitcert certify --data"
    return CaptureError("linear classifiers, perceptrons, discriminants, scalers and encoders", got, do)


def _tensor(values: ArrayLike) -> Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float32).copy())


def _linear(weight: ArrayLike, bias: ArrayLike) -> nn.Linear:
    matrix = _tensor(weight)
    layer = nn.Linear(matrix.shape[1], matrix.shape[0])
    with torch.no_grad():
        layer.weight.copy_(matrix)
        layer.bias.copy_(_tensor(bias).reshape(-1).expand(matrix.shape[0]))
    return layer


def _two(weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of a single score the logits 0 and the score."""
    if len(weight) > 1:
        return weight, bias
    return np.concatenate([np.zeros_like(weight), weight]), np.concatenate([np.zeros_like(bias), bias])


def _scores(model: Any) -> nn.Module:
    weight = np.atleast_2d(np.asarray(model.coef_))
    return _linear(*_two(weight, np.broadcast_to(np.atleast_1d(model.intercept_), len(weight)).copy()))


_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "logistic": nn.Sigmoid,
    "identity": nn.Identity,
}


def _perceptron(model: Any) -> nn.Module:
    weights, biases = [np.asarray(w).T for w in model.coefs_], [np.asarray(b) for b in model.intercepts_]
    weights[-1], biases[-1] = _two(weights[-1], biases[-1])
    layers: list[nn.Module] = []
    for weight, bias in zip(weights, biases, strict=True):
        layers += [_linear(weight, bias), _ACTIVATIONS[model.activation]()]
    return nn.Sequential(*layers[:-1])


class _Affine(nn.Module):
    """``x * scale + shift`` column by column."""

    def __init__(self, scale: ArrayLike, shift: ArrayLike) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(_tensor(scale)), nn.Parameter(_tensor(shift))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


class _Clipped(nn.Module):
    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(self.low, self.high)


def _standard(step: Any) -> nn.Module:
    width = step.n_features_in_
    mean = step.mean_ if step.with_mean else np.zeros(width)
    scale = 1 / step.scale_ if step.with_std else np.ones(width)
    return _Affine(scale, -np.asarray(mean) * scale)


def _min_max(step: Any) -> nn.Module:
    affine = _Affine(step.scale_, step.min_)
    low, high = step.feature_range
    return nn.Sequential(affine, _Clipped(float(low), float(high))) if step.clip else affine


def _robust(step: Any) -> nn.Module:
    width = step.n_features_in_
    center = step.center_ if step.with_centering else np.zeros(width)
    scale = 1 / np.asarray(step.scale_) if step.with_scaling else np.ones(width)
    return _Affine(scale, -np.asarray(center) * scale)


class _Normalised(nn.Module):
    def __init__(self, norm: str) -> None:
        super().__init__()
        self.order = {"l1": 1.0, "l2": 2.0, "max": float("inf")}[norm]

    def forward(self, x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, self.order, 1, keepdim=True)
        return x / torch.where(length == 0, torch.ones_like(length), length)


class _Compared(nn.Module):
    """One column for each listed value of each input, 1 where they are equal; encoders of categories."""

    def __init__(self, categories: list[np.ndarray]) -> None:
        super().__init__()
        sizes = [len(values) for values in categories]
        places = np.repeat(np.arange(len(sizes)), sizes)
        self.places, self.values = nn.Buffer(torch.from_numpy(places)), nn.Buffer(_tensor(np.concatenate(categories)))

    def forward(self, x: Tensor) -> Tensor:
        return torch.eq(torch.index_select(x, 1, self.places), self.values).to(torch.float32)


def _numbers(step: Any) -> list[np.ndarray]:
    found = [np.asarray(values) for values in step.categories_]
    if any(values.dtype.kind not in "biuf" for values in found):
        raise CaptureError("categories that are numbers", "texts", "encode the texts as numbers in the data")
    return found


def _one_hot(step: Any) -> nn.Module:
    if getattr(step, "_infrequent_enabled", False):
        raise _unknown("OneHotEncoder with rare categories together")
    categories, dropped = _numbers(step), step.drop_idx_
    if dropped is not None:
        pairs = zip(categories, dropped, strict=True)
        categories = [values if drop is None else np.delete(values, int(drop)) for values, drop in pairs]
    return _Compared(categories)


def _ordinal(step: Any) -> nn.Module:
    categories, other = _numbers(step), step.unknown_value if step.handle_unknown == "use_encoded_value" else 0
    if not np.isfinite(other):
        raise _unknown("OrdinalEncoder with NaN for unknown categories")
    matrix = np.zeros((len(categories), sum(map(len, categories))))
    start = 0
    for k, values in enumerate(categories):
        matrix[k, start : start + len(values)] = np.arange(len(values)) - other
        start += len(values)
    return nn.Sequential(_Compared(categories), _linear(matrix, np.full(len(categories), other)))


class _Columns(nn.Module):
    """Steps for parts of the columns, their results side by side."""

    def __init__(self, parts: list[tuple[nn.Module, list[int]]]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(step for step, _ in parts)
        for k, (_, columns) in enumerate(parts):
            self.register_buffer(f"columns{k}", torch.tensor(columns, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        parts = [step(torch.index_select(x, 1, getattr(self, f"columns{k}"))) for k, step in enumerate(self.steps)]
        return torch.cat(parts, 1)


def _columns(step: Any) -> nn.Module:
    if step.transformer_weights:
        raise _unknown("ColumnTransformer with transformer_weights")
    width = step.n_features_in_
    names = list(getattr(step, "feature_names_in_", ()))
    parts: list[tuple[nn.Module, list[int]]] = []
    for _, transformer, chosen in step.transformers_:
        columns = _indices(chosen, width, names)
        if columns and transformer != "drop":
            parts.append((_module(transformer), columns))
    return _Columns(parts)


def _indices(chosen: Any, width: int, names: list[str]) -> list[int]:
    if isinstance(chosen, slice) and all(not isinstance(end, str) for end in (chosen.start, chosen.stop)):
        return list(range(width))[chosen]
    listed = np.atleast_1d(np.asarray(chosen))
    if listed.dtype == bool:
        return np.flatnonzero(listed).tolist()
    return [names.index(each) if isinstance(each, str) else int(each) % width for each in listed.tolist()]


def _pca(step: Any) -> nn.Module:
    matrix = np.asarray(step.components_)
    if getattr(step, "whiten", False):
        matrix = matrix / np.sqrt(step.explained_variance_)[:, None]
    mean = getattr(step, "mean_", None)
    return _linear(matrix, np.zeros(len(matrix)) if mean is None else -matrix @ mean)


class _Gaussian(nn.Module):
    """Log-densities of normal distributions ``[classes]``, up to one constant: quadratic in each column."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        mean, variance = np.asarray(model.theta_), np.asarray(model.var_)
        constant = np.log(model.class_prior_) - 0.5 * np.log(variance).sum(1) - 0.5 * (mean**2 / variance).sum(1)
        self.linear = _linear(mean / variance, constant)
        self.square = _linear(-0.5 / variance, np.zeros(len(mean)))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x) + self.square(x * x)
        return logits


def _chain(model: Any) -> nn.Module:
    return nn.Sequential(*(_module(step) for _, step in model.steps if step is not None))


def _discrete_bayes(model: Any) -> nn.Module:
    if type(model).__name__ == "BernoulliNB":
        absent = np.log1p(-np.exp(model.feature_log_prob_))
        linear = _linear(model.feature_log_prob_ - absent, model.class_log_prior_ + absent.sum(1))
        return linear if model.binarize is None else nn.Sequential(_Above(float(model.binarize)), linear)
    return _linear(model.feature_log_prob_, model.class_log_prior_)


class _Above(nn.Module):
    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        return (x > self.threshold).to(torch.float32)


def _function(step: Any) -> nn.Module:
    if step.func is not None:
        raise _unknown("FunctionTransformer with a function")
    return nn.Identity()


_MAKERS: dict[str, Maker] = {
    "FunctionTransformer": _function,
    **dict.fromkeys(
        (
            *("LogisticRegression", "LogisticRegressionCV", "SGDClassifier", "Perceptron", "LinearSVC"),
            *("RidgeClassifier", "RidgeClassifierCV", "PassiveAggressiveClassifier", "LinearDiscriminantAnalysis"),
        ),
        _scores,
    ),
    "MLPClassifier": _perceptron,
    "GaussianNB": _Gaussian,
    "BernoulliNB": _discrete_bayes,
    "MultinomialNB": _discrete_bayes,
    "StandardScaler": _standard,
    "MinMaxScaler": _min_max,
    "MaxAbsScaler": lambda step: _Affine(1 / np.asarray(step.scale_), np.zeros(step.n_features_in_)),
    "RobustScaler": _robust,
    "Normalizer": lambda step: _Normalised(step.norm),
    "Binarizer": lambda step: _Above(float(step.threshold)),
    "OneHotEncoder": _one_hot,
    "OrdinalEncoder": _ordinal,
    "ColumnTransformer": _columns,
    "PCA": _pca,
    "TruncatedSVD": _pca,
    "Pipeline": _chain,
}
