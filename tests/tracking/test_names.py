"""Names against the rules of the SDK and of the service."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fedsm import policies
from fedsm.tracking import names

# The service's pattern of names, and the SDK's limit (sagemaker.core.experiments.run).
ENTITY = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,119}")
TAG = re.compile(r"[\w .:/=+\-@]{0,256}")


@given(prefix=st.text(max_size=80), federation=st.text(min_size=1, max_size=80))
def test_any_text_makes_valid_names(prefix: str, federation: str) -> None:
    experiment = names.experiment_name(prefix, federation)
    run = names.run_name(prefix, names.CLIENT, federation)
    for name in (experiment, run):
        assert name == name.lower()
        assert 1 <= len(name) <= 59
        assert ENTITY.fullmatch(name)
    for name in (names.trial_name(experiment), names.component_name(experiment, run)):
        assert ENTITY.fullmatch(name)
        assert len(name) <= 120
    assert TAG.fullmatch(names.tag_value(federation))
    assert experiment == names.experiment_name(prefix, federation)


@given(st.lists(st.text(min_size=1, max_size=90), min_size=2, max_size=20, unique_by=str.lower))
def test_sites_stay_apart(sites: list[str]) -> None:
    made = {names.run_name("run", names.CLIENT, site) for site in sites}
    assert len(made) == len(sites)


@given(
    prefix=st.text("aB0-", min_size=1, max_size=70).map(lambda s: s.strip("-")).filter(bool),
    federation=st.from_regex(r"[a-z0-9](-?[a-z0-9]){0,23}", fullmatch=True),
)
@example(prefix="p" * 49 + "-q", federation="cut-at-a-hyphen")
@example(prefix="p" * 60, federation="cut")
def test_the_coordinators_policy_covers_every_name(prefix: str, federation: str) -> None:
    statements = policies.coordinator_policy("1" * 12, "us-east-1", [], prefix)["Statement"]
    patterns = next(s["Resource"] for s in statements if s["Sid"] == "WriteExperiments")
    experiment = names.experiment_name(prefix, federation)
    trial = names.trial_name(experiment)
    for resource in (
        f"experiment/{experiment}",
        f"experiment-trial/{trial}",
        f"experiment-trial/{trial.lower()}",
        f"experiment-trial-component/{names.component_name(experiment, 'run')}",
    ):
        arn = f"arn:aws:sagemaker:us-east-1:{'1' * 12}:{resource}"
        assert any(fnmatchcase(arn, pattern) for pattern in patterns), arn


def test_valid_names_are_kept_as_they_are() -> None:
    assert names.experiment_name("fed-heart-disease", "demo") == "fed-heart-disease-demo"
    assert names.run_name("r1", names.AGGREGATOR, names.SERVER) == "r1-aggregator-server"
    assert names.trial_name("e") == "Default-Run-Group-e"
    assert names.component_name("e", "r1-client-a") == "e-r1-client-a"


@pytest.mark.parametrize(
    ("site", "expected"),
    [
        ("North", "r-client-north"),
        ("n_1", "r-client-n-1-df8d2e86"),
    ],
)
def test_changed_names_are_the_same_in_every_version(site: str, expected: str) -> None:
    assert names.run_name("r", names.CLIENT, site) == expected


def test_a_long_name_is_cut_and_hashed() -> None:
    first, second = (names.experiment_name("p" * 70, end) for end in ("a", "b"))
    assert first != second
    assert len(first) == len(second) == 59
    assert first[:50] == second[:50] == "p" * 50
