"""What strategy ``exact`` asks of an owner beside the model, and where he sees it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from fedsm.agreement import METRICS, Invitation, sums_of
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
        ({"strategy": "scaffold"}, set(), {"losses"}),
    ],
)
def test_only_what_the_strategy_needs_is_asked_for(
    values: dict[str, Any], there: set[str], absent: set[str]
) -> None:
    found = set(sums_of(training(**values)))
    assert there <= found
    assert not absent & found
    assert found <= set(exact_site.LEAVING)


def test_the_owner_sees_the_sums_in_his_file_of_terms() -> None:
    asked = sums_of(training())
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
    text = terms_template(Invitation.model_validate({**values, "sums": asked}))
    assert yaml.safe_load(text)["metrics"] == [*METRICS, *asked]
    assert max(map(len, text.splitlines())) <= 100
    # Without any, the metrics stay as they are by default.
    assert "metrics" not in yaml.safe_load(terms_template(Invitation.model_validate(values)))
