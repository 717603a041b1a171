"""``iam/`` holds what the code generates, and two linters of others find nothing in it."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedsm import onboarding
from fedsm.names import ROLES
from fedsm.onboarding.__main__ import FOLDERS, main, render
from tests.policies.reference import parliament
from tests.policies.world import OWNER, PLAIN, WORLDS, agreement

IAM = Path(__file__).resolve().parents[2] / "iam"
DOCUMENTS = sorted(path for folder in FOLDERS for path in (IAM / folder).glob("*.json"))
TEMPLATES = sorted(IAM.glob("*/cloudformation.yaml"))


def test_the_files_are_what_the_code_generates() -> None:
    there = {
        path.relative_to(IAM).as_posix(): path.read_text(encoding="utf-8")
        for folder in FOLDERS
        for path in (IAM / folder).rglob("*")
    }
    assert there == render(IAM / "example"), "run `make iam`, and read what has changed"


def test_writing_them_again_leaves_no_old_file(tmp_path: Path) -> None:
    example = tmp_path / "example"
    example.mkdir()
    for path in (IAM / "example").iterdir():
        (example / path.name).write_bytes(path.read_bytes())
    (tmp_path / "direct").mkdir()
    (tmp_path / "direct" / "old.json").write_text("{}")
    main(tmp_path)
    assert not (tmp_path / "direct" / "old.json").exists()
    assert {path.parent.name for path in tmp_path.glob("*/*.json")} == {*FOLDERS, "example"}


def test_the_readme_names_every_folder() -> None:
    text = (IAM / "README.md").read_text(encoding="utf-8")
    assert all(f"({folder}/README.md)" in text for folder in FOLDERS)
    for folder in FOLDERS:
        named = (IAM / folder / "README.md").read_text(encoding="utf-8")
        assert all(f"`{path.name}`" in named for path in (IAM / folder).glob("*.json"))


# --- CloudFormation -----------------------------------------------------------------------------


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_a_template_creates_the_same_account(world: Any) -> None:
    account, template = world.account, onboarding.cloudformation(world.account)
    resources = template["Resources"]
    made: dict[str, list[dict[str, Any]]] = {}
    for name, resource in resources.items():
        made.setdefault(resource["Type"], []).append({"Id": name, **resource["Properties"]})
    bounds = {each["Id"]: each for each in made["AWS::IAM::ManagedPolicy"]}
    by_arn = {f"arn:aws:iam::{OWNER}:policy/{b['ManagedPolicyName']}": b for b in bounds.values()}
    assert {arn: each["PolicyDocument"] for arn, each in by_arn.items()} == {
        bound.arn: bound.document for bound in account.boundaries
    }
    roles = {each["RoleName"]: each for each in made["AWS::IAM::Role"]}
    assert set(roles) == {role.name for role in account.roles}
    for role in account.roles:
        found = roles[role.name]
        assert found["AssumeRolePolicyDocument"] == role.trust
        rights = {each["PolicyName"]: each["PolicyDocument"] for each in found["Policies"]}
        assert rights == role.policies
        bound = found.get("PermissionsBoundary", {}).get("Ref")
        assert (bounds[bound] if bound else None) == by_arn.get(role.boundary)
    versioned = {
        each["BucketName"]: "VersioningConfiguration" in each for each in made["AWS::S3::Bucket"]
    }
    assert versioned == {rule.bucket: rule.versioned for rule in account.buckets}
    (policy,) = made["AWS::S3::BucketPolicy"]
    (code,) = [rule for rule in account.buckets if rule.statements]
    assert (policy["Bucket"], policy["PolicyDocument"]["Statement"]) == (
        code.bucket,
        list(code.statements),
    )
    endpoints = [each["PolicyDocument"] for each in made.get("AWS::EC2::VPCEndpoint", [])]
    assert endpoints == ([account.endpoint_policy] if world.full else [])


def test_buckets_that_the_owner_has_are_not_made_and_keep_their_policy() -> None:
    account = onboarding.account(*agreement({**PLAIN, "create_buckets": False}))
    template = onboarding.cloudformation(account)
    kinds = {resource["Type"] for resource in template["Resources"].values()}
    assert "AWS::S3::Bucket" not in kinds
    assert template["Parameters"]["CodeBucketPolicy"]["Default"] == "leave"


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.parent.name)
def test_each_statement_of_a_template_stands_under_its_sentence(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    sids = [i for i, line in enumerate(lines) if line.strip().startswith("- Sid:")]
    assert len(sids) > 30
    assert all(lines[i - 1].strip().startswith("# ") for i in sids)
    parsed = yaml.safe_load(path.read_text(encoding="utf-8"))
    made = {each for each in parsed["Resources"] if each.endswith("Role")}
    kinds = set(ROLES) - ({"pipeline", "approver"} if path.parent.name == "direct" else set())
    assert made == {f"{kind.capitalize()}Role" for kind in kinds}


def test_cfn_lint_finds_nothing(tmp_path: Path) -> None:
    """With its informational rules, and with no exception."""
    plain = tmp_path / "plain.yaml"
    other = onboarding.files(onboarding.account(*agreement({**PLAIN, "create_buckets": False})))
    plain.write_text(other["cloudformation.yaml"], encoding="utf-8")
    linter = Path(sys.executable).with_name("cfn-lint")
    command = [linter, "--include-checks", "I", "--", *TEMPLATES, plain]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "")


# --- parliament ---------------------------------------------------------------------------------

EXCEPTIONS: dict[tuple[str, str], str] = {
    ("CREDENTIALS_EXPOSURE", "sts:assumerole"): (
        "taking a role hands out credentials: that is what a trust policy, and the right to take "
        "the coordinator's and the kickoff roles, are there for; each names its one resource"
    ),
    ("CREDENTIALS_EXPOSURE", "ecr:getauthorizationtoken"): (
        "without the registry's token no image can be pulled; it opens what the other rights allow"
    ),
    ("PERMISSIONS_MANAGEMENT_ACTIONS", "iam:passrole"): (
        "a job or pipeline must be given its role; one role, to SageMaker only"
    ),
    ("PERMISSIONS_MANAGEMENT_ACTIONS", "iam:putrolepolicy"): (
        "an approval is a policy of two roles, which the approver puts there, within boundaries"
    ),
    ("PERMISSIONS_MANAGEMENT_ACTIONS", "iam:deleterolepolicy"): ("and takes away again"),
    ("PERMISSIONS_MANAGEMENT_ACTIONS", "kms:creategrant"): (
        "a volume is encrypted through a grant; to AWS services only"
    ),
    ("PERMISSIONS_MANAGEMENT_ACTIONS", "ec2:createnetworkinterfacepermission"): (
        "SageMaker attaches the interface to its own machine by it; in the owner's subnets only"
    ),
    ("RESOURCE_STAR", "kms:decrypt"): "in a key's policy the star is that key",
    ("RESOURCE_STAR", "kms:generatedatakey"): "in a key's policy the star is that key",
    ("RESOURCE_STAR", "kms:creategrant"): "in a key's policy the star is that key",
    ("RESOURCE_MISMATCH", "sagemaker:batchputmetrics"): (
        "AWS lists trial components and training jobs; the coordinator has no jobs of its own"
    ),
    ("MISMATCHED_TYPE_BUT_USABLE", "iam:permissionsboundary"): (
        "AWS's own examples compare this key as a string, which a whole ARN may be"
    ),
}


def findings(path: Path) -> Iterator[tuple[str, str]]:
    """Issue and action of what parliament finds in a document."""
    document = json.loads(path.read_text(encoding="utf-8"))
    if path.stem.endswith("trust"):
        # A trust policy must not name its resource, its role, and parliament wants one.
        for statement in document["Statement"]:
            statement["Resource"] = f"arn:aws:iam::{OWNER}:role/one"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        analysed = parliament.analyze_policy_string(
            json.dumps(document), include_community_auditors=True
        )
    for finding in analysed.findings:
        if finding.issue == "MISMATCHED_TYPE_BUT_USABLE":
            yield finding.issue, "iam:permissionsboundary"
            assert path.name == "approver-policy.json"
            continue
        of = finding.location.get("actions") or finding.detail
        for each in of:
            action = each["action"] if isinstance(each, dict) else each
            yield finding.issue, action.lower()


def test_parliament_finds_nothing_but_what_is_explained() -> None:
    found = {(path, *finding) for path in DOCUMENTS for finding in findings(path)}
    unexplained = {entry for entry in found if entry[1:] not in EXCEPTIONS}
    assert not unexplained
    assert {entry[1:] for entry in found} == set(EXCEPTIONS), "an exception is not needed any more"
