"""A scikit-learn classifier whose ``fit`` searches for the best certificate, and which carries it.

``certificate_.bound`` limits the error rate of the fitted classifier on new rows, from the training rows alone. Two
things are for the user to see to, because no program can:

* steps of a pipeline that were fitted on the same rows (a scaler, an encoder, a selection of columns) have seen the
  data, and nothing counts what they learnt: the bound then does not hold. Fit them on other rows, or leave them out;
  trees need no scaling.
* a search over parameters (``GridSearchCV``) that keeps the best of several fits chooses among certificates: give each
  fit its share of ``delta``.

Of labels that are not 0, 1, ... only the number of classes is in the message; which labels there are is trusted to be
known beforehand.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from bitcert.certificates.loading import Certified, empty_sample
from bitcert.counting import TensorClassifier
from bitcert.data import Role, Sample
from bitcert.decoder import as_network, decode_message
from bitcert.decoder.network import QuantisedNetwork
from bitcert.run import Run
from bitcert.search.compression import certify_best
from bitcert.search.request import CertifyRequest


def _is_network(estimator: CertifiedClassifier) -> bool:
    """Whether logits are those of a network; a head's have no scale, and a tree's are 0 and 1."""
    check_is_fitted(estimator)
    return isinstance(estimator.certified_.decoded.classifier, QuantisedNetwork)


class CertifiedClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier with a certificate.

    Args:
        delta: probability, over the draw of the rows, that the bound fails.
        budget_seconds: time of the search.
        families: built-in families to search (``"tree"``, ``"votes"``, ``"head"``); by default all three.
        network: a trained module of one tensor ``[batch, features]`` to compress instead, or ``None``.
        random_state: seed of the search.

    Attributes:
        certificate_: what is proved of the fitted classifier.
        certified_: the classifier as a torch module, for :func:`bitcert.export`.
        classes_: the labels, sorted.
        n_features_in_, feature_names_in_: as in scikit-learn.
    """

    certified_: Certified
    classes_: NDArray[Any]

    def __init__(
        self,
        *,
        delta: float = 0.05,
        budget_seconds: float = 60.0,
        families: tuple[str, ...] = (),
        network: nn.Module | None = None,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.delta = delta
        self.budget_seconds = budget_seconds
        self.families = families
        self.network = network
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> CertifiedClassifier:
        """Search, and certify what was found.

        Args:
            X: numbers ``[n, features]``, an array or a frame of pandas or polars; kept as float32.
            y: labels ``[n]``, numbers or texts.

        Raises:
            ValueError: what scikit-learn refuses, and labels of one class.
            InputError: an unknown family or a network that cannot be used.
        """
        rows, labels = validate_data(self, X, y, dtype=np.float32)
        check_classification_targets(labels)
        self.classes_ = np.unique(labels)
        if len(self.classes_) < 2:
            raise ValueError("expected labels of at least two classes, got one class; give rows of another one too")
        sample = self._sample(rows, labels)
        network = None if self.network is None else as_network(self.network, sample)
        request = CertifyRequest(sample, network, delta=self.delta, families=tuple(self.families))
        found = certify_best(request, Run(self._seed(), self.budget_seconds))
        compressed = found.compressed
        decoded = decode_message(compressed.message, compressed.helper)
        self.certificate_ = found.certificate
        like = empty_sample(sample.input_shape, sample.num_classes, sample.name)
        self.certified_ = Certified(found.certificate, compressed.helper, decoded, compressed.message, like)
        return self

    def to_sample(self, X: ArrayLike, y: ArrayLike) -> Sample:
        """The rows as the certificate names them: what :func:`bitcert.verify` takes as data."""
        check_is_fitted(self)
        return self._sample(*validate_data(self, X, y, dtype=np.float32, reset=False))

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Logits ``[n, classes]``, computed in float64; of two classes their difference ``[n]``."""
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Labels ``[n]``."""
        found = self._logits(X).argmax(1)
        return np.asarray(self.classes_[found])

    @available_if(_is_network)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Softmax of a network's logits, ``[n, classes]``. Nothing is certified of it but the largest one's class."""
        return torch.from_numpy(self._logits(X)).softmax(1).numpy()

    def _sample(self, X: NDArray[np.float32], y: NDArray[Any]) -> Sample:
        codes = np.searchsorted(self.classes_, y)
        return Sample.from_arrays(X, codes, Role.TRAIN, "rows given to fit", None)

    def _seed(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(1 << 31))

    def _logits(self, X: ArrayLike) -> NDArray[np.float64]:
        check_is_fitted(self)
        rows: NDArray[np.float32] = validate_data(self, X, dtype=np.float32, reset=False)
        classifier, size = self.certified_.decoded.classifier, self.certified_.helper.batch_size
        assert isinstance(classifier, TensorClassifier)
        with torch.no_grad():
            parts = [classifier.logits(rows[at : at + size], torch.float64) for at in range(0, len(rows), size)]
        return torch.cat(parts).numpy()
