"""federation.yaml: what is accepted, what is refused, and how it is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fedsm.config import FederationConfig, load, parse_override
from fedsm.errors import ConfigError
from tests.support import federation, site


def write(tmp_path: Path, values: Any) -> Path:
    path = tmp_path / "federation.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def faults(tmp_path: Path, values: Any) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, values))
    return dict(caught.value.faults)


def test_a_valid_file_is_typed(tmp_path: Path) -> None:
    config = load(write(tmp_path, federation()))
    assert [s.name for s in config.sites] == ["a", "b"]
    assert config.sites[0].output == "s3://a-models/output"
    assert config.min_sites == 2


def test_all_faults_are_reported_at_once_each_with_its_field(tmp_path: Path) -> None:
    broken = federation(
        site("a", account="12", subnets=["subnet-1"], colour="red"),
        site("a", "333333333333", role_arn="arn:aws:iam::999999999999:role/x"),
        training={"rounds": 0, "min_sites": 0},
        surprise=1,
    )
    broken["coordinator"]["address"] = "127.0.0.1"
    found = faults(tmp_path, broken)
    assert {
        "sites.a.account_id",
        "sites.a.subnets",
        "sites.a.colour",
        "sites.a.name",
        "sites.a.role_arn",
        "training.rounds",
        "training.min_sites",
        "coordinator.address",
        "surprise",
    } <= set(found)


def test_two_sites_may_not_share_an_execution_role(tmp_path: Path) -> None:
    role = "arn:aws:iam::222222222222:role/shared"
    found = faults(
        tmp_path,
        federation(site("a", execution_role_arn=role), site("b", execution_role_arn=role)),
    )
    assert "no two sites may share one" in found["sites.b.execution_role_arn"]


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost", "0.0.0.0", "169.254.1.1"])
def test_an_address_that_no_job_reaches_is_refused(tmp_path: Path, address: str) -> None:
    values = federation()
    values["coordinator"]["address"] = address
    assert "no job can reach" in faults(tmp_path, values)["coordinator.address"]


def test_auto_needs_the_vpc_ranges(tmp_path: Path) -> None:
    values = federation()
    values["coordinator"]["address"] = "auto"
    assert "coordinator.vpc_cidrs" in faults(tmp_path, values)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        ("a: [", "not valid YAML at line 1"),
        ("- 1", "holds no mapping"),
        ("", "holds no mapping"),
    ],
)
def test_an_unreadable_file_is_one_clear_error(
    tmp_path: Path, content: str | None, said: str
) -> None:
    path = tmp_path / "federation.yaml"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        load(path)


def test_overrides_reach_fields_and_sites_by_name(tmp_path: Path) -> None:
    path = write(tmp_path, federation())
    config = load(
        path, {"training.rounds": 5, "sites.b.instance_type": "ml.m5.large", "tracking.prefix": "x"}
    )
    assert config.training.rounds == 5
    assert config.sites[1].instance_type == "ml.m5.large"
    with pytest.raises(ConfigError, match="no site named c"):
        load(path, {"sites.c.region": "eu-west-1"})
    with pytest.raises(ConfigError, match="name holds a value"):
        load(path, {"name.deeper": 1})


def test_an_account_id_may_be_a_number_of_twelve_digits(tmp_path: Path) -> None:
    path = write(
        tmp_path, federation(site("a", account_id=222222222222), site("b", "333333333333"))
    )
    assert load(path).sites[0].account_id == "222222222222"
    config = load(path, {"coordinator.account_id": 444444444444})
    assert config.coordinator.account_id == "444444444444"
    for wrong in (12, True, 1.5):
        with pytest.raises(ConfigError, match=r"coordinator\.account_id"):
            load(path, {"coordinator.account_id": wrong})


def test_faults_are_told_without_patterns(tmp_path: Path) -> None:
    broken = federation(
        site("A_b", account="1", region="x", role_arn="r", external_id="", code="c", bundle="0"),
        site("b", "333333333333", subnets=["s"], security_groups=["g"], instance_type="m5"),
        training={"initial": "x", "hyperparameters": {"Local Epochs": 1}},
        tracking={"prefix": "-"},
    )
    found = faults(tmp_path, broken)
    assert len(found) >= 14
    assert not [text for text in found.values() if "pattern" in text or "^" in text]
    assert found["sites.A_b.region"] == "must be a Region, such as us-east-1"


def test_an_unknown_field_gets_the_nearest_name(tmp_path: Path) -> None:
    wrong = site("a", instance_typ="ml.m5.large", zzz=1)
    wrong["framework"] = {"name": "sklearn", "versoin": "1"}
    found = faults(tmp_path, federation(wrong, training={"round": 1}, trainig={}))
    assert "did you mean rounds?" in found["training.round"]
    assert "did you mean training?" in found["trainig"]
    assert "did you mean instance_type?" in found["sites.a.instance_typ"]
    assert "did you mean version?" in found["sites.a.framework.versoin"]
    assert found["sites.a.zzz"] == "there is no such field"
    assert found["sites.a.framework.version"] == "is missing"


def test_a_model_needs_preparation_and_test_rows_need_a_model(tmp_path: Path) -> None:
    found = faults(tmp_path, federation(training={"model": "logistic-regression"}))
    assert found == {
        "training.prepare": "model: logistic-regression needs prepare: standardize",
    }
    found = faults(tmp_path, federation(training={"test": "t.csv"}))
    assert "need a model" in found["training.test"]


def test_categories_have_no_bands(tmp_path: Path) -> None:
    training = {
        "hyperparameters": {"categories": "ward, sex"},
        "report": {"groups": {"ward": [40], "sex": [], "age": [40, 65]}},
    }
    found = faults(tmp_path, federation(training=training))
    assert set(found) == {"training.report.groups.ward"}
    assert "write []" in found["training.report.groups.ward"]


@pytest.mark.parametrize(
    ("model", "strategy", "options"),
    [
        ("pytorch", "exact", {}),
        ("custom", "exact", {}),
        ("pytorch", "fedxgb-bagging", {}),
        ("logistic-regression", "fedxgb-cyclic", {}),
        ("xgboost", "fedavg", {}),
        ("xgboost", "dp-server-fixed", {}),
        ("sgd-classifier", "scaffold", {}),
        ("mlp-classifier", "fedprox", {}),
        ("mlp-classifier", "dp-server-fixed", {"strategy": "fedprox"}),
    ],
)
def test_a_strategy_and_a_model_that_do_not_fit(
    tmp_path: Path, model: str, strategy: str, options: dict[str, Any]
) -> None:
    training = {"model": model, "strategy": strategy, "options": options, "prepare": "standardize"}
    found = faults(tmp_path, federation(training=training))
    assert set(found) == {"training.strategy"}
    assert model in found["training.strategy"]


@pytest.mark.parametrize(
    ("model", "strategy"),
    [
        ("xgboost", "fedxgb-cyclic"),
        ("custom", "fedxgb-bagging"),
        ("pytorch", "scaffold"),
        ("sgd-classifier", "fedadam"),
    ],
)
def test_a_strategy_and_a_model_that_fit(tmp_path: Path, model: str, strategy: str) -> None:
    training = {"model": model, "strategy": strategy, "prepare": "standardize"}
    load(write(tmp_path, federation(training=training)))


def test_hyperparameters_keep_within_what_the_owners_are_asked_for(tmp_path: Path) -> None:
    training = {
        "hyperparameters": {"learning-rate": 3, "solver": "sgd", "c": 1.0, "label": "y"},
        "limits": {
            "learning-rate": {"low": 0.001, "high": 2},
            "solver": {"choices": ["lbfgs", "newton-cg"]},
            "c": {"low": 0, "high": 1},
            "penalty": {"choices": ["l2"]},
        },
    }
    found = faults(tmp_path, federation(training=training))
    assert set(found) == {
        "training.hyperparameters.learning-rate",
        "training.hyperparameters.solver",
        "training.limits.penalty",
    }
    assert "training.limits.solver" in found["training.hyperparameters.solver"]


@pytest.mark.parametrize("address", ["10.2.0.5", "coordinator.example"])
def test_a_pipelines_job_dials_only_into_the_ranges(tmp_path: Path, address: str) -> None:
    values = federation()
    values["coordinator"] |= {"address": address, "vpc_cidrs": ["10.0.0.0/16", "10.1.0.0/16"]}
    assert "vpc_cidrs" in faults(tmp_path, values)["coordinator.address"]
    load(write(tmp_path, {**values, "launch": "direct"}))
    values["coordinator"]["address"] = "10.1.0.5"
    load(write(tmp_path, values))


def test_override_text() -> None:
    assert parse_override("training.rounds=5") == ("training.rounds", 5)
    assert parse_override("training.strategy=fedadam") == ("training.strategy", "fedadam")
    for bad in ("training.rounds", "=5", "a=[", ""):
        with pytest.raises(ConfigError):
            parse_override(bad)


def test_a_subset_keeps_the_named_sites() -> None:
    config = FederationConfig.model_validate(federation(training={"min_sites": 2}))
    assert [s.name for s in config.subset(["b"]).sites] == ["b"]
    assert [s.name for s in config.subset("b").sites] == ["b"]
    assert config.subset(["b"]).min_sites == 1
    with pytest.raises(ConfigError, match="no such site: z"):
        config.subset(["z"])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["cloud", "name", "sites", "coordinator", "training", "address"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_document_is_accepted_or_refused_as_a_config_error(document: Any) -> None:
    from fedsm.config import _validate

    if isinstance(document, dict):
        with pytest.raises(ConfigError):
            _validate(document, "x")
