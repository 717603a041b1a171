"""An adapter of one's own: the one of docs/models.md, and files that hold none."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import joblib
import pytest
from flwr.app import ConfigRecord

from fedsm.datasets import breast_cancer, write_channels
from fedsm.errors import ConfigError
from fedsm.hooks import Hooks, first_arrays, model_of
from fedsm.learning.models import adapter, evaluate, save
from fedsm.learning.preparation import combine, statistics
from fedsm.learning.strategies import make_strategy
from fedsm.training_config import Training
from tests.learning.inprocess import ROOT, InProcessGrid, fresh_app

PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def block(text: str) -> str:
    (found,) = [block for block in BLOCKS if text in block]
    return str(found)


@pytest.fixture
def code(tmp_path: Path) -> Iterator[Path]:
    """A project's client code; what is imported from there is forgotten afterwards."""
    path, before = list(sys.path), sys.modules.get("model")
    (tmp_path / "client_code").mkdir()
    yield tmp_path / "client_code"
    sys.path[:] = path
    sys.modules.pop("model", None)
    if before is not None:
        sys.modules["model"] = before


def auc(name: str, code: Path, rounds: int) -> float:
    """Of a federation of two sites, with the model read back from its file."""
    dataset = breast_cancer()
    channels = list(write_channels(dataset, code.parent).values())[:2]
    also = {"model": name, "code": str(code)}
    grid = InProcessGrid(fresh_app(ROOT / "client_code"), channels, {}, also)
    summary, model = combine(grid.ask("query.statistics")), adapter(name, code)
    result = make_strategy("fedavg", {}, min_sites=2, sites=2).start(
        grid=grid,
        initial_arrays=model.initial(summary, {}),
        num_rounds=rounds,
        train_config=ConfigRecord(summary.to_config()),
        evaluate_config=ConfigRecord(summary.to_config()),
    )
    save(model.build(result.arrays, summary, {}), code / "model.joblib")
    read = joblib.load(code / "model.joblib")
    assert set(read.predict(dataset.test.features)) == {0, 1}
    found = evaluate(model, result.arrays, summary, {}, dataset.test)["auc"]
    assert isinstance(found, float)
    return found


def test_the_pages_fourth_adapter_trains_over_two_sites(code: Path) -> None:
    (code / "model.py").write_text(block("class FourierAdapter"))
    assert auc("custom", code, 20) >= 0.95


def test_the_pages_net_trains_over_two_sites(code: Path) -> None:
    (code / "net.py").write_text(block("def net(inputs"))
    assert auc("pytorch", code, 10) >= 0.97


def test_the_coordinator_takes_its_projects_own_file(code: Path) -> None:
    training = Training(model="custom", hyperparameters={"learning-rate": -1})
    with pytest.raises(ConfigError, match=r"there is no model\.py in the client code"):
        model_of(training, code.parent)
    (code / "model.py").write_text(block("class FourierAdapter"))
    with pytest.raises(ConfigError, match="learning-rate"):
        first_arrays(training, Hooks(), code.parent)
    training = Training(model="custom")
    first = model_of(training, code.parent)
    assert first is not None
    assert first is model_of(training, code.parent)
    (code / "model.py").write_text(block("class FourierAdapter") + "\nadapter.name = 'other'\n")
    second = model_of(training, code.parent)
    assert second is not None
    assert (first.name, second.name) == ("fourier", "other")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 3", "has no object `adapter` with check, initial, fit"),
        ("import nothing_of_that_name", "ModuleNotFoundError at line 1"),
        ("class A:\n    def check(self): ...\nadapter = A()", "with initial, fit"),
        ("x = 3\ndef broken(:", "SyntaxError at line 2"),
        ("import json\njson.loads('{')", "JSONDecodeError at line 2"),
        ("\nraise SystemExit(3)", "SystemExit at line 2"),
    ],
)
def test_a_file_without_an_adapter(code: Path, text: str, said: str) -> None:
    (code / "model.py").write_text(text)
    with pytest.raises(ConfigError, match=r"model\.py: ") as caught:
        adapter("custom", code)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 3", "has no function net"),
        ("\n1 / 0", "cannot be imported: ZeroDivisionError at line 2"),
        ("x = 3\ndef broken(:", "SyntaxError at line 2"),
        ("raise SystemExit", "SystemExit at line 1"),
    ],
)
def test_a_net_that_is_none_is_told_before_any_job(code: Path, text: str, said: str) -> None:
    pytest.importorskip("torch")
    (code / "net.py").write_text(text)
    with pytest.raises(ConfigError, match=r"net\.py: ") as caught:
        model_of(Training(model="pytorch"), code.parent)
    assert said in str(caught.value)


def test_a_net_that_fails_names_its_line(code: Path) -> None:
    pytest.importorskip("torch")
    (code / "net.py").write_text("def net(inputs, outputs):\n    return inputs / 0\n")
    made = adapter("pytorch", code)
    with pytest.raises(ConfigError, match=r"fails: ZeroDivisionError at line 2"):
        made.initial(combine({"one": statistics(breast_cancer().sites["north"].train)}), {})


def test_class_weights_are_read_before_any_job(tmp_path: Path) -> None:
    training = Training(model="logistic-regression", hyperparameters={"class-weights": "heavy"})
    with pytest.raises(ConfigError, match="class-weights"):
        model_of(training, tmp_path)
