"""What a strategy asks of an owner beside the model, and where he sees it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from fedsm.agreement import METRICS, Invitation, asked_of_sites
from fedsm.contract import TREES
from fedsm.learning import exact_site
from fedsm.terms_template import terms_template
from fedsm.training_config import Training


def training(**values: Any) -> Training:
    return Training.model_validate({"strategy": "exact", **values})


@pytest.mark.parametrize(
    ("values", "there", "absent"),
    [
        ({}, {"losses", "hessian", "curvature-blocks", "coupling-gram"}, {"extremes"}),
        ({"options": {"solver": "newton"}}, {"losses", "trials", "hessian"}, {"curvature-mean"}),
        ({"options": {"solver": "lbfgs"}}, {"losses", "curvature-mean"}, {"hessian", "extremes"}),
        ({"hyperparameters": {"penalty": "none"}}, {"extremes", "hessian"}, set()),
        ({"strategy": "scaffold"}, set(), {"losses", TREES}),
        ({"strategy": "fedxgb-bagging"}, {TREES}, {"losses"}),
        ({"strategy": "fedxgb-cyclic"}, {TREES}, {"losses"}),
    ],
)
def test_only_what_the_strategy_needs_is_asked_for(
    values: dict[str, Any], there: set[str], absent: set[str]
) -> None:
    found = set(asked_of_sites(training(**values)))
    assert there <= found
    assert not absent & found
    assert found <= {*exact_site.LEAVING, TREES}


@pytest.mark.parametrize(
    ("strategy", "says"),
    [("exact", "these sums over your rows"), ("fedxgb-bagging", "are values of a feature")],
)
def test_the_owner_sees_it_in_his_file_of_terms(strategy: str, says: str) -> None:
    asked = asked_of_sites(training(strategy=strategy))
    values: dict[str, Any] = {
        "fedsm": "0",
        "federation": "f",
        "site": "s",
        "launch": "pipeline",
        "server_account": "1" * 12,
        "server_role_arn": f"arn:aws:iam::{'1' * 12}:role/fedsm",
        "external_id": "an-external-id-0123",
        "addresses": ["10.0.0.0/8"],
        "port": 1,
        "sts_region": "us-east-1",
        "rounds": 3,
        "max_wait": 5,
    }
    text = terms_template(Invitation.model_validate({**values, "asks": asked}))
    assert says in text
    assert yaml.safe_load(text)["metrics"] == [*METRICS, *asked]
    assert max(map(len, text.splitlines())) <= 100
    # Without any, the metrics stay as they are by default.
    assert "metrics" not in yaml.safe_load(terms_template(Invitation.model_validate(values)))
