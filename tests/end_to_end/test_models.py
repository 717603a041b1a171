"""Models other than the default one over real jobs; net.py and model.py come with the bundle."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from fedsm.assets import asset
from fedsm.errors import ConfigError
from tests.end_to_end.conftest import Project
from tests.end_to_end.test_runs import artifacts

PAGE = (asset("client_code").parent / "docs" / "models.md").read_text(encoding="utf-8")


def block(text: str) -> str:
    found = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return str(next(code for code in found if text in code))


def given(model: str, **values: Any) -> dict[str, Any]:
    return {
        "training.model": model,
        "training.hyperparameters": {"label": "target", **values},
        "training.report": None,
        "training.round_deadline": 60,  # PyTorch takes its time to load
    }


def test_a_pytorch_module_of_ones_own(project: Project, tmp_path: Path) -> None:
    project.code(net=block("def net(inputs"))
    settings = {"optimizer": "adamw", "learning-rate": 0.01, "batch-size": 16, "local-steps": 10}
    run = project.train(given("pytorch", **settings), sites=["north", "west"])
    assert run.status().status == "Completed"
    assert run.history()[-1]["server"]["auc"] >= 0.97
    own = run.model_path().read_bytes()
    for site in ("north", "west"):
        found = artifacts(run, site, tmp_path)
        assert found["model.joblib"] == own
        assert "local.joblib" in found
    assert joblib.load(run.model_path()).predict_proba(np.full((1, 30), np.nan)).shape == (1, 2)
    first = (run.directory / "events.jsonl").read_text(encoding="utf-8").splitlines()[0]
    assert "batch-size" in first


def test_an_adapter_of_ones_own(project: Project, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no model\.py in the client code"):
        project.train(given("custom"))
    project.code(model=block("class FourierAdapter"))
    run = project.train(given("custom"), sites=["north", "west"])
    assert run.status().status == "Completed"
    assert artifacts(run, "west", tmp_path)["model.joblib"] == run.model_path().read_bytes()


def test_trees(project: Project, tmp_path: Path) -> None:
    settings = given("xgboost", **{"local-steps": 2}) | {"training.strategy": "fedxgb-cyclic"}
    settings["training.report"] = {}
    run = project.train(settings, sites=["north", "west"])
    assert run.status().status == "Completed"
    assert [sorted(r["sites"]) for r in run.history()] == [["north", "west"]] * 3
    assert artifacts(run, "north", tmp_path)["model.joblib"] == run.model_path().read_bytes()
