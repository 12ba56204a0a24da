from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgesdk.errors import ConversionError, ModelFormatError
from edgesdk_converters.frontends import read_source
from edgesdk_converters.frontends.sklearn import export_estimator
from edgesdk_converters.runner import OnnxRunner
from edgesdk_converters.spec import InputHint, ModelSpec

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


def test_sklearn__columns_of_several_types(sklearn: Any) -> None:
    """Several inputs, whole numbers among them, each stated in the spec."""
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pandas = pytest.importorskip("pandas", reason="a table of named columns needs pandas: pip install pandas")
    rng = np.random.default_rng(0)
    table = pandas.DataFrame({"heat": rng.normal(size=40).astype(np.float32), "turns": rng.integers(0, 9, 40)})
    columns = ColumnTransformer([("a", StandardScaler(), ["heat"]), ("b", "passthrough", ["turns"])])
    model = make_pipeline(columns, LinearRegression()).fit(table, table["heat"] * 2 + table["turns"])
    spec = ModelSpec(inputs={"heat": InputHint(shape=(40, 1)), "turns": InputHint(shape=(40, 1), dtype="int64")})
    source = export_estimator(model, spec, file="m.skops", sha256=None)
    assert [(tensor.name, tensor.dtype) for tensor in source.inputs] == [("heat", "float32"), ("turns", "int64")]
    feed = [table[["heat"]].to_numpy(), table[["turns"]].to_numpy()]
    np.testing.assert_allclose(OnnxRunner(source.content).run(feed)[0].reshape(-1), model.predict(table), atol=1e-4)


def test_sklearn__dtype_that_skl2onnx_has_not(sklearn: Any) -> None:
    from sklearn.linear_model import LinearRegression

    model = LinearRegression().fit(*data())
    spec = ModelSpec(inputs={"input": InputHint(shape=(1, 4), dtype="int8")})
    with pytest.raises(
        ConversionError, match=r"skl2onnx takes inputs of float32, .*Correct the dtype in the model spec"
    ):
        export_estimator(model, spec, file="m.skops", sha256=None)


@pytest.mark.parametrize("kind", ["classifier", "regressor", "scaler", "svm"])
def test_sklearn__every_export_is_compared(sklearn: Any, kind: str) -> None:
    from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    made = {
        "classifier": RandomForestClassifier(5, random_state=0),
        "regressor": GradientBoostingRegressor(n_estimators=5),
        "scaler": StandardScaler(),
        "svm": LinearSVC(),
    }[kind]
    source = export_estimator(made.fit(*data()), ModelSpec(), file=kind, sha256=None)
    assert [line for line in source.assumptions if "compared" in line] == []
