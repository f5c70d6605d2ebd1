"""A head as a scikit-learn classifier, for notebooks. The one module that knows scikit-learn.

Knows no network: `X` are embeddings, from `POST /v1/embeddings` or any other place, or whole rows of an
extractor with taps.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from training.errors import HeadFileError, HeadstartError
from training.heads import NEGATIVE_LABEL, FitOptions, Head, Prediction, fit_head, load_head, save_head
from training.heads.layers import EMBEDDING
from training.heads.options import AUTO, SINGLE_LABEL

LARGEST_SEED = 2**31 - 1
NO_EXTRACTOR = ""  # digest of a head whose embeddings come from nobody knows where

Array = npt.NDArray[Any]


class HeadClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Calibrated linear classification of embeddings, with an answer for unknown inputs.

    What it fits is what the service fits, bit for bit. Embeddings are brought to unit length, so that their
    direction counts and their length does not: for features that are no embeddings, such as measured
    quantities, put a scaler before it in a pipeline.

    Parameters
    ----------
    feature_transform : "l2" or "signed_root_l2", from embedding to feature; None chooses from the examples
    regularisation : strength of the L2 penalty; None chooses from the examples
    unknown_rate : share of in-class inputs that may be called unknown, in [0, 1)
    threshold : typicality in [0, 1] below which an input is unknown; None takes it from `unknown_rate`
    random_state : int, RandomState or None; orders the examples where some of them stand for all
    layers : names of the layers that are used, or "auto" to choose them from the examples
    layer_dims : length of each layer by its name, in the order of the columns; None if `X` are embeddings

    Attributes
    ----------
    classes_ : (k,) labels in ascending order; examples of the label `__none__` belong to none of them
    head_ : the fitted `training.heads.Head`, whose classes are the labels as strings
    report_ : its held-out quality, `training.heads.Report`
    n_features_in_ : number of columns of `X`

    Examples
    --------
    >>> import numpy as np
    >>> from training.estimator import HeadClassifier
    >>> X = np.array([[1.0, 0.1], [0.9, 0.0], [0.1, 1.0], [0.0, 0.8]])
    >>> HeadClassifier().fit(X, ["cat", "cat", "dog", "dog"]).predict([[0.1, 0.7]]).tolist()
    ['dog']
    """

    def __init__(
        self,
        feature_transform: str | None = None,
        regularisation: float | None = None,
        unknown_rate: float = 0.05,
        threshold: float | None = None,
        random_state: Any = 0,
        layers: Sequence[str] | str = (EMBEDDING,),
        layer_dims: Mapping[str, int] | None = None,
    ) -> None:
        # Not `transform`: scikit-learn takes what has that attribute for a transformer.
        self.feature_transform = feature_transform
        self.regularisation = regularisation
        self.unknown_rate = unknown_rate
        self.threshold = threshold
        self.random_state = random_state
        self.layers = layers
        self.layer_dims = layer_dims

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803
        """Fit, choose, calibrate and evaluate a head.

        Parameters
        ----------
        X : (n, d) embeddings, or rows of `layer_dims`, finite in float32
        y : n labels of any type that scikit-learn takes, at least two different ones

        Raises
        ------
        ValueError
            If a shape, type or value cannot be used. The message says what was expected.
        """
        embeddings, y = validate_data(self, X, y, dtype=(np.float32, np.float64))
        check_classification_targets(y)
        labels, codes = np.unique(y, return_inverse=True)
        names = [str(label) for label in labels]
        if len({*names} - {NEGATIVE_LABEL}) < 2:
            raise ValueError(f"expected at least two classes, got one class: {names}")
        with _value_errors():
            head = fit_head(
                embeddings,
                [names[code] for code in codes],
                extractor_digest=NO_EXTRACTOR,
                options=self._options(),
                layer_dims=self.layer_dims,
            )
        self.classes_ = np.array([label for label in labels if str(label) != NEGATIVE_LABEL], labels.dtype)
        self._take(head)
        return self

    def predict(self, X: Any) -> Array:  # noqa: N803
        """The most probable class of each embedding, also of an unknown one: (m,)."""
        best = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[best])

    def predict_proba(self, X: Any) -> Array:  # noqa: N803
        """Calibrated probabilities (m, k) float64 in the order of `classes_`; rows sum to 1."""
        chances = self._ask(X).probabilities[:, self._columns].astype(np.float64)
        return np.asarray(chances / chances.sum(axis=1, keepdims=True))

    def predict_known(self, X: Any, unknown: Any = None) -> Array:  # noqa: N803
        """The most probable class (m,), as objects, and `unknown` for inputs unlike every class."""
        found = self._ask(X)
        answers = self.classes_[found.probabilities[:, self._columns].argmax(axis=1)].astype(object)
        answers[found.unknown] = unknown
        return np.asarray(answers)

    def typicality(self, X: Any) -> Array:  # noqa: N803
        """How like the training examples each embedding is: (m,) float32 in [0, 1].

        About this share of in-class inputs are less typical.
        """
        return self._ask(X).typicality

    @classmethod
    def from_head_file(cls, path: str | Path) -> Self:
        """A fitted classifier from a head file, such as the service exports.

        It takes the layers that the head uses, side by side: in most cases, embeddings.

        Raises
        ------
        HeadFileError
            If the file is not a complete single-label head.
        OSError
            If it cannot be read.
        """
        head = load_head(Path(path).read_bytes())
        if head.task != SINGLE_LABEL:
            raise HeadFileError(f"expected a {SINGLE_LABEL} head, got {head.task}")
        report = head.report
        self = cls(
            head.transform,
            report.regularisation,
            threshold=head.unknown_threshold,
            layers=report.layers,
            layer_dims={layer.name: layer.dim for layer in head.layers},
        )
        self.classes_ = np.array(head.classes)
        self.n_features_in_ = head.dim
        self._take(head)
        return self

    def save_head(self, path: str | Path, *, extractor_digest: str | None = None) -> None:
        """Write the head file (safetensors and JSON, never pickle).

        Parameters
        ----------
        extractor_digest : the extractor whose embeddings it was fitted to, as `GET /v1/extractors` names it;
            may be left out if the head came from a file

        Raises
        ------
        ValueError
            If the extractor is not known.
        """
        check_is_fitted(self)
        digest = extractor_digest or self.head_.extractor_digest
        if digest == NO_EXTRACTOR:
            raise ValueError("extractor_digest: expected the digest of the extractor of the embeddings")
        Path(path).write_bytes(save_head(replace(self.head_, extractor_digest=digest)))

    def _options(self) -> FitOptions:
        seed = self.random_state
        if not isinstance(seed, int | np.integer):
            seed = check_random_state(seed).randint(LARGEST_SEED)
        with _value_errors():
            return FitOptions(
                transform=self.feature_transform,
                regularisation=self.regularisation,
                unknown_rate=self.unknown_rate,
                threshold=self.threshold,
                seed=int(seed),
                layers=AUTO if self.layers == AUTO else tuple(self.layers),
            )

    def _take(self, head: Head) -> None:
        self.head_ = head
        self.report_ = head.report
        self._columns = [head.classes.index(str(label)) for label in self.classes_]

    def _ask(self, X: Any) -> Prediction:  # noqa: N803
        check_is_fitted(self)
        embeddings = validate_data(self, X, dtype=(np.float32, np.float64), reset=False)
        with _value_errors():
            return self.head_.predict(embeddings)


@contextmanager
def _value_errors() -> Iterator[None]:
    """Headstart's errors as the ValueError that scikit-learn's users and tools expect."""
    try:
        yield
    except HeadstartError as error:
        raise ValueError(str(error)) from error
