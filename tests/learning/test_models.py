from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fedsm.errors import ConfigError, TrainingError
from fedsm.learning.arrays import arrays_from_npz, arrays_to_npz, save_npz
from fedsm.learning.metrics import classification
from fedsm.learning.models import ADAPTERS, adapter, evaluate, save
from fedsm.learning.preparation import Summary, combine, statistics
from fedsm.learning.tables import Table

MADE = adapter("logistic-regression")


def example() -> tuple[ArrayRecord, Summary, Table]:
    random = np.random.default_rng(0)
    x = random.normal([1.0, 20.0, -3.0], [1.0, 9.0, 0.1], size=(40, 3))
    x[::7, 1] = np.nan
    table = Table(("a", "b", "c"), x, np.array(["no", "yes"] * 20))
    arrays = ArrayRecord(
        {"coef": Array(random.normal(size=(1, 3))), "intercept": Array(np.array([0.3]))}
    )
    return arrays, combine({"one": statistics(table)}), table


def test_the_model_takes_raw_rows_and_gives_labels() -> None:
    arrays, summary, table = example()
    model = MADE.build(arrays, summary, {})
    z = summary.transform(table) @ arrays["coef"].numpy()[0] + 0.3
    np.testing.assert_allclose(model.predict_proba(table.features)[:, 1], 1 / (1 + np.exp(-z)))
    assert set(model.predict(table.features)) == {"no", "yes"}


def test_it_is_the_pipeline_that_scikit_learn_would_fit_on_pooled_rows() -> None:
    _, _, table = example()
    table = Table(table.columns, np.nan_to_num(table.features, nan=20.0), table.labels)
    fitted = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression())
    fitted.fit(table.features, table.labels)
    arrays = ArrayRecord(
        {"coef": Array(fitted[-1].coef_), "intercept": Array(fitted[-1].intercept_)}
    )
    ours = MADE.build(arrays, combine({"one": statistics(table)}), {})
    np.testing.assert_allclose(
        ours.predict_proba(table.features), fitted.predict_proba(table.features)
    )


def test_evaluation_is_that_of_the_model() -> None:
    arrays, summary, table = example()
    expected = classification(
        summary.encode(table.labels),
        MADE.build(arrays, summary, {}).predict_proba(table.features),
    )
    assert evaluate(MADE, arrays, summary, {}, table) == expected
    nothing = table.take(np.array([], dtype=np.intp))
    assert evaluate(MADE, arrays, summary, {}, nothing)["num-examples"] == 0


def test_another_process_writes_the_same_bytes(tmp_path: Path) -> None:
    arrays, summary, table = example()
    save(MADE.build(arrays, summary, {"c": 2}), tmp_path / "here.joblib")
    program = (
        "import sys; from pathlib import Path\n"
        "from tests.learning.test_models import MADE, example\n"
        "from fedsm.learning.models import save\n"
        "from fedsm.learning.preparation import Summary\n"
        "from flwr.app import ConfigRecord\n"
        "arrays, summary, _ = example()\n"
        "summary = Summary.from_config(ConfigRecord(summary.to_config()))\n"
        "save(MADE.build(arrays, summary, {'c': 2.0}), Path(sys.argv[1]))\n"
    )
    there = tmp_path / "there.joblib"
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", program, str(there)], cwd=root, check=True)
    here, there_ = (
        hashlib.sha256(p.read_bytes()).digest() for p in (tmp_path / "here.joblib", there)
    )
    assert here == there_
    assert not list(tmp_path.glob("*.part"))
    loaded = joblib.load(there)
    assert loaded.predict_proba(table.features).shape == (40, 2)


def test_an_unknown_name_lists_the_valid_ones() -> None:
    with pytest.raises(ConfigError, match=ADAPTERS[0]):
        adapter("forest")


def test_arrays_on_disk_are_the_same_everywhere_and_read_back(tmp_path: Path) -> None:
    arrays = ArrayRecord(
        {"a/b": Array(np.arange(6.0).reshape(2, 3)), "n": Array(np.array(3, dtype=np.int32))}
    )
    save_npz(tmp_path / "model.npz", arrays)
    assert (tmp_path / "model.npz").read_bytes() == arrays_to_npz(arrays)
    back = arrays_from_npz(tmp_path / "model.npz")
    assert list(back) == ["a/b", "n"]
    np.testing.assert_array_equal(back["a/b"].numpy(), arrays["a/b"].numpy())
    (tmp_path / "model.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(TrainingError, match="not a readable"):
        arrays_from_npz(tmp_path / "model.npz")
