from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgesdk.errors import ConversionError, ModelFormatError
from edgesdk_converters.frontends import read_source
from edgesdk_converters.frontends.sklearn import export_estimator
from edgesdk_converters.runner import OnnxRunner
from edgesdk_converters.spec import ModelSpec

WHY = "pip install 'edgesdk-converters[sklearn]'"


@pytest.fixture
def sklearn() -> Any:
    pytest.importorskip("skl2onnx", reason=WHY)
    pytest.importorskip("skops", reason=WHY)
    return pytest.importorskip("sklearn", reason=WHY)


def data() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(80, 4)).astype(np.float32)
    return features, (features.sum(axis=1) > 0).astype(int)


def test_sklearn__computes_the_same(sklearn: Any) -> None:
    from sklearn.ensemble import RandomForestClassifier

    features, labels = data()
    forest = RandomForestClassifier(8, random_state=0).fit(features, labels)
    source = export_estimator(forest, ModelSpec(), file="forest", sha256=None)
    label, probabilities = OnnxRunner(source.content).run([features])
    np.testing.assert_array_equal(label, forest.predict(features))
    np.testing.assert_allclose(probabilities, forest.predict_proba(features), atol=1e-5)
    assert [tensor.dtype for tensor in source.outputs] == ["int64", "float32"]
    assert set(source.tools) == {"scikit-learn", "skl2onnx"}


def test_sklearn__not_fitted(sklearn: Any) -> None:
    from sklearn.linear_model import LogisticRegression

    with pytest.raises(ConversionError, match=r"does not say how many features.*Fit it before it is saved"):
        export_estimator(LogisticRegression(), ModelSpec(), file="m.skops", sha256=None)


def test_sklearn__unknown_estimator(sklearn: Any) -> None:
    from sklearn.base import BaseEstimator

    class Own(BaseEstimator):  # type: ignore[misc]  # scikit-learn is not here when mypy looks
        n_features_in_ = 4

        def fit(self, _: Any) -> Any:
            return self

    with pytest.raises(ConversionError, match=r"skl2onnx does not export the Own: .*estimators that skl2onnx supports"):
        export_estimator(Own(), ModelSpec(), file="m.skops", sha256=None)


def test_sklearn__pickle_of_something_else(sklearn: Any, tmp_path: Path) -> None:
    import joblib

    joblib.dump([1, 2], tmp_path / "m.joblib")
    with pytest.raises(ModelFormatError, match=r"holds a list, expected a fitted scikit-learn estimator"):
        read_source(tmp_path / "m.joblib", ModelSpec(), trust_pickle=True)
