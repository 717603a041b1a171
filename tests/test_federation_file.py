"""Editing ``federation.yaml``: the site that is meant, and not one byte of the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedsm.agreement import Acceptance, Approval
from fedsm.config import Site, load
from fedsm.errors import ConfigError
from fedsm.federation_file import (
    add,
    put_site,
    remove,
    remove_site,
    set_fields,
)
from tests.support import site

HEAD = """\
# The heart study; do not rename.
cloud: aws
name:   heart   # short
coordinator: {account_id: "111111111111", region: us-east-1, address: 10.0.1.5}
"""
SITES = """\
sites:
  # the first to join
  - name: a
    account_id: "222222222222"
    region: us-east-1
    role_arn: arn:aws:iam::222222222222:role/kickoff
    external_id: 'a-external'
    execution_role_arn: arn:aws:iam::222222222222:role/execution
    channels: {train: "s3://a-data/train/"}   # no validation yet
    output: s3://a-models/output
    code: s3://a-code/fedsm
    image: fedsm/local
  # -------- the second
  - name: b
    region: us-east-1     # moves in May
    account_id: "333333333333"
    role_arn: arn:aws:iam::333333333333:role/kickoff
    external_id: b-external
    execution_role_arn: arn:aws:iam::333333333333:role/execution
    channels:
      train: s3://b-data/train/

      # asked for
      validation: s3://b-data/validation/
    output: s3://b-models/output
    code: s3://b-code/fedsm
    image: fedsm/local
    tags:
      team: x
  # nothing below is a site

"""
TAIL = """\
# few rounds, for now
training:
  rounds:    3
"""
WHOLE = HEAD + SITES + TAIL


def made(name: str, account: str = "444444444444", **changes: Any) -> dict[str, Any]:
    return site(name, account, **changes)


def of(text: str, name: str) -> dict[str, Any]:
    return next(s for s in yaml.safe_load(text)["sites"] if s["name"] == name)


def test_a_new_site_goes_behind_the_last() -> None:
    text = put_site(WHOLE, made("c"))
    start = WHOLE.index("  # nothing below")
    assert text.startswith(WHOLE[:start])
    assert text.endswith(WHOLE[start:])
    assert of(text, "c") == made("c")
    assert "  - name: c\n    account_id: '444444444444'\n" in text


@pytest.mark.parametrize(
    "none", ["sites: []  # none yet\n", "sites:\n", "sites:   # none yet\n", ""]
)
@pytest.mark.parametrize("tail", [TAIL, ""])
def test_the_first_site(none: str, tail: str) -> None:
    text = put_site(HEAD + none + tail, made("c"))
    assert text.startswith(HEAD)
    assert tail in text
    assert ("# none yet" in none) == ("# none yet" in text)
    assert of(text, "c") == made("c")


def test_a_changed_site_keeps_what_did_not_change() -> None:
    values = {**of(WHOLE, "b"), "instance_type": "ml.m5.4xlarge", "region": "eu-west-1"}
    del values["tags"]
    text = put_site(WHOLE, values)
    assert of(text, "b") == values
    assert "region: eu-west-1     # moves in May\n" in text
    assert "\n\n      # asked for\n" in text
    before, after = WHOLE.splitlines(), text.splitlines()
    assert set(before) - set(after) == {
        "    region: us-east-1     # moves in May",
        "    tags:",
        "      team: x",
    }
    assert len(after) == len(before) - 1


def test_an_acceptance_leaves_what_an_approval_set() -> None:
    approved = set_fields(WHOLE, "a", {"bundle": "0" * 64, "bundle_until": "2030-01-01T00:00:00Z"})
    text = put_site(approved, {**of(WHOLE, "a"), "volume_gb": 20})
    assert of(text, "a")["bundle"] == "0" * 64
    assert of(text, "a")["bundle_until"] == "2030-01-01T00:00:00Z"
    assert set_fields(text, "a", {"bundle_until": None}).count("bundle_until") == 0


def test_the_first_key_of_a_site_can_go() -> None:
    text = WHOLE.replace("  - name: a\n", "  - image: fedsm/local\n    name: a\n")
    text = text.replace(
        "code: s3://a-code/fedsm\n    image: fedsm/local\n", "code: s3://a-code/fedsm\n"
    )
    edited = set_fields(
        text, "a", {"image": None, "framework": {"name": "sklearn", "version": "1"}}
    )
    assert "  - name: a\n" in edited
    assert of(edited, "a")["framework"] == {"name": "sklearn", "version": "1"}


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_site_that_leaves_takes_nothing_along(name: str) -> None:
    text = remove_site(WHOLE, name)
    other = "b" if name == "a" else "a"
    assert [s["name"] for s in yaml.safe_load(text)["sites"]] == [other]
    start = WHOLE.index(f"  - name: {other}")
    end = WHOLE.index("  # ----") if other == "a" else WHOLE.index("  # nothing")
    assert WHOLE[start:end] in text
    assert text.startswith(HEAD)
    assert text.endswith(TAIL)


def test_the_last_site_can_leave_and_come_back() -> None:
    empty = remove_site(remove_site(WHOLE, "a"), "b")
    assert yaml.safe_load(empty)["sites"] == []
    assert of(put_site(empty, made("c")), "c") == made("c")


def test_line_ends_of_windows_are_kept() -> None:
    text = put_site(WHOLE.replace("\n", "\r\n"), made("c"))
    assert "\n" not in text.replace("\r\n", "")
    assert of(text, "c") == made("c")


def test_a_file_without_a_last_line_break() -> None:
    text = (HEAD + SITES).rstrip()
    text = text[: text.index("\n  # nothing")]
    assert of(put_site(text, made("c")), "c") == made("c")
    assert of(set_fields(text, "b", {"volume_gb": 7}), "b")["volume_gb"] == 7


@pytest.mark.parametrize(
    "sites",
    [
        'sites: [{name: a, region: "x"}]\n',
        "sites:\n- {name: a, region: x}\n",
        "sites:\n- &one\n  name: a\n  region: x\n- <<: *one\n  name: b\n",
        "sites:\n- name: a\n  region: &r x\n  tags: {k: *r}\n",
    ],
)
def test_what_cannot_be_edited_is_refused(sites: str) -> None:
    with pytest.raises(ConfigError, match="by hand"):
        set_fields(HEAD + sites, "a", {"region": "y"})


_TEXT = st.text("abc:#-'\"{}[]&*!|>%@`, \u00e9", min_size=0, max_size=12)
_VALUE = st.one_of(
    _TEXT,
    st.integers(),
    st.lists(_TEXT, max_size=3),
    st.dictionaries(st.text("abc", min_size=1, max_size=3), _TEXT, max_size=3),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(st.sampled_from(["x", "y", "tags", "channels", "region"]), _VALUE, max_size=5),
    st.sampled_from(["a", "b", "c"]),
)
def test_any_value_comes_back_as_it_was_meant(values: dict[str, Any], name: str) -> None:
    text = put_site(WHOLE, {"name": name, **values})
    assert of(text, name) == {"name": name, **values}
    assert text.startswith(HEAD)
    assert text.endswith(TAIL)
    assert remove_site(text, name).startswith(HEAD)
    others = [s for s in yaml.safe_load(text)["sites"] if s["name"] != name]
    assert others == [s for s in yaml.safe_load(WHOLE)["sites"] if s["name"] != name]


# Files ----------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "federation.yaml"
    file.write_text(WHOLE)
    return file


def acceptance(values: dict[str, Any], **changes: Any) -> Acceptance:
    return Acceptance.model_validate(
        {
            "fedsm": "0",
            "federation": "heart",
            "launch": "pipeline",
            "two_persons": True,
            "rounds": 3,
            "site": Site.model_validate(values),
            **changes,
        }
    )


def approval(**changes: Any) -> Approval:
    return Approval.model_validate(
        {
            "fedsm": "0",
            "federation": "heart",
            "site": "a",
            "bundle": "1" * 64,
            "pipeline_arn": "arn:aws:sagemaker:us-east-1:222222222222:pipeline/p",
            "definition_sha256": "2" * 64,
            "approved_by": "arn:aws:sts::222222222222:assumed-role/approver/x",
            "approved_at": "2026-11-01T00:00:00Z",
            "two_persons": True,
            **changes,
        }
    )


def test_documents_become_a_file_that_loads(path: Path) -> None:
    add(path, acceptance(made("c")))
    add(path, acceptance(made("c", volume_gb=20)))
    add(path, approval(site="a", until="2030-01-01T00:00:00+00:00"))
    sites = {s.name: s for s in load(path).sites}
    assert sites["c"].volume_gb == 20
    assert sites["a"].bundle == "1" * 64
    assert sites["a"].bundle_until is not None
    remove(path, "b")
    assert [s.name for s in load(path).sites] == ["a", "c"]
    assert [p.name for p in path.parent.iterdir()] == ["federation.yaml"]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (acceptance(made("c"), federation="lungs"), "for the federation lungs"),
        (acceptance(made("c"), launch="direct"), "launch: direct"),
        (acceptance(made("c", execution_role_arn=of(WHOLE, "a")["execution_role_arn"])), "no two"),
        (approval(federation="lungs"), "for the federation lungs"),
        (approval(site="z"), "no such site"),
        (approval(pipeline_arn="arn:aws:sagemaker:us-east-1:999999999999:pipeline/p"), "9999"),
    ],
)
def test_what_does_not_belong_is_refused(
    path: Path, document: Acceptance | Approval, said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        add(path, document)
    assert said in str(caught.value)
    assert "Next: " in str(caught.value)
    assert path.read_text() == WHOLE
    assert [p.name for p in path.parent.iterdir()] == ["federation.yaml"]
