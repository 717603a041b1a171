from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsm.client.contract import TrainingContract, decode, write_failure
from fedsm.errors import ConfigError
from tests.client.harness import workplace


@given(
    st.one_of(
        st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()
    )
)
def test_a_json_encoded_hyperparameter_comes_back(value: object) -> None:
    assert decode(json.dumps(value)) == value
    assert type(decode(json.dumps(value))) is type(value)


@pytest.mark.parametrize(
    "text", ["lbfgs", "NaN", "-Infinity", "[1, 2]", '{"a": 1}', "null", "", "0x1"]
)
def test_other_text_stays_text(text: str) -> None:
    assert decode(text) == text


def test_the_contract_below_a_base_folder(tmp_path: Path) -> None:
    workplace(tmp_path, {"train": None, "my-extra": None}, {"local-steps": 3, "label": "y"})
    path = tmp_path / "input" / "config" / "hyperparameters.json"
    hyperparameters = json.loads(path.read_text())
    hyperparameters |= {"solver": "lbfgs", "sagemaker_program": '"train.py"', "c": "0.5"}
    path.write_text(json.dumps(hyperparameters))
    contract = TrainingContract.from_environment({"SAGEMAKER_BASE_DIR": str(tmp_path)})
    assert contract.hyperparameters == {
        "local-steps": 3,
        "label": "y",
        "solver": "lbfgs",
        "c": 0.5,
    }
    data = tmp_path / "input" / "data"
    assert contract.channels == {"train": data / "train", "my-extra": data / "my-extra"}
    assert contract.model_dir == tmp_path / "model"


def test_script_modes_variables_serve_where_there_is_no_file(tmp_path: Path) -> None:
    environ = {
        "SAGEMAKER_BASE_DIR": str(tmp_path),
        "SM_CHANNEL_TRAIN": "/data/train",
        "SM_CHANNEL_FEDSM-CODE": "/data/code",
        "SM_HPS": '{"c": 2, "label": "y"}',
        "SM_MODEL_DIR": "/model",
    }
    contract = TrainingContract.from_environment(environ)
    assert contract.channels == {"train": Path("/data/train")}
    assert contract.hyperparameters == {"c": 2, "label": "y"}
    assert contract.model_dir == Path("/model")


@pytest.mark.parametrize("text", ["{", "[]", "\ud800"])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    workplace(tmp_path, {})
    path = tmp_path / "input" / "config" / "hyperparameters.json"
    path.write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(ConfigError) as caught:
        TrainingContract.from_environment({"SAGEMAKER_BASE_DIR": str(tmp_path)})
    assert caught.value.where == str(path)


def test_a_failure_is_one_line_that_sagemaker_shows_whole(tmp_path: Path) -> None:
    write_failure(tmp_path, "one\ntwo  " + "x" * 2000)
    text = (tmp_path / "output" / "failure").read_text()
    assert text.startswith("one two x")
    assert len(text) == 1024
