"""The shipped app, through a stock strategy and CSV channels, against the pooled model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from flwr.app import ConfigRecord
from flwr.clientapp import ClientApp
from sklearn.linear_model import LogisticRegression

from fedsm.datasets import Dataset, breast_cancer, heart_disease, write_channels
from fedsm.learning.metrics import area_under_roc
from fedsm.learning.models import adapter, evaluate
from fedsm.learning.preparation import combine
from fedsm.learning.strategies import make_strategy
from fedsm.learning.tables import concatenate
from tests.learning.inprocess import ROOT, InProcessGrid, fresh_app

HEART = ROOT.parent / "shared" / "data" / "heart"
ROUNDS = 10


@pytest.fixture(scope="module")
def app() -> ClientApp:
    return fresh_app(ROOT / "client_code")


def compare(dataset: Dataset, app: ClientApp, folder: Path) -> tuple[float, float]:
    """AUC on the held-out rows of the federated and of the pooled model."""
    channels = write_channels(dataset, folder)
    grid = InProcessGrid(app, channels.values())
    summary = combine(grid.ask("query.statistics"))
    model = adapter("logistic-regression")
    config = summary.to_config()
    sites = len(channels)
    result = make_strategy("fedavg", {}, min_sites=sites, sites=sites).start(
        grid=grid,
        initial_arrays=model.initial(summary, {}),
        num_rounds=ROUNDS,
        train_config=ConfigRecord(config),
        evaluate_config=ConfigRecord(config),
    )
    federated = evaluate(model, result.arrays, summary, {}, dataset.test)["auc"]
    rows = concatenate([tables.train for tables in dataset.sites.values()])
    pooled = LogisticRegression(tol=1e-8, max_iter=10_000)
    pooled.fit(summary.transform(rows), summary.encode(rows.labels))
    score = pooled.decision_function(summary.transform(dataset.test))
    assert isinstance(federated, float)
    return federated, area_under_roc(dataset.test.labels == 1, score)


def test_breast_cancer(app: ClientApp, tmp_path: Path) -> None:
    federated, _ = compare(breast_cancer(), app, tmp_path)
    assert federated >= 0.99


@pytest.mark.skipif(not HEART.is_dir(), reason="the heart-disease files are not on this machine")
def test_heart_disease_over_ten_splits(app: ClientApp, tmp_path: Path) -> None:
    pairs = [compare(heart_disease(HEART, seed), app, tmp_path / str(seed)) for seed in range(10)]
    differences = [pooled - federated for federated, pooled in pairs]
    print(f"mean {np.mean(differences):.4f}, worst {np.max(differences):.4f}")
    assert np.mean(differences) <= 0.01
