"""The whole contract by the commands of both parties: two owners, each with an account and people.

Everything but the owners' uploads of data is a command in a process of its own, with ambient
credentials alone, as in CloudShell.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.exceptions import ClientError

from fedsm import local
from fedsm.run import Run, run_ids
from fedsm.scaffold import write

ACCOUNTS = {"north": "222222222222", "west": "555555555555"}
REGION = "us-east-1"


class Party:
    """Who runs commands: a folder to run them in, and credentials."""

    def __init__(self, folder: Path, environment: dict[str, str] | None = None) -> None:
        self.folder = folder
        clean = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        none = {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(folder)}
        self.environment = {**clean, **none, **(environment or {})}

    def fedsm(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "fedsm", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
        said = done.stdout + done.stderr
        assert done.returncode == code, f"{arguments}: {said}"
        assert "Traceback" not in said
        return said if code else done.stdout

    @property
    def session(self) -> boto3.Session:
        e = self.environment
        return boto3.Session(e["AWS_ACCESS_KEY_ID"], e["AWS_SECRET_ACCESS_KEY"], region_name=REGION)

    def client(self, service: Any) -> Any:
        return self.session.client(service, endpoint_url=self.environment["AWS_ENDPOINT_URL"])

    def with_user(self, name: str) -> Party:
        """A person of the account, who may only take roles whose trust names him."""
        iam = self.client("iam")
        iam.create_user(UserName=name)
        iam.put_user_policy(
            UserName=name,
            PolicyName="roles",
            PolicyDocument=json.dumps(
                {
                    "Version": "2012-10-17",
                    "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}],
                }
            ),
        )
        key = iam.create_access_key(UserName=name)["AccessKey"]
        keys = {
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        }
        return Party(self.folder, {**self.environment, **keys})


class Study:
    """A server's project without sites, two owners, and of the first who publishes and approves."""

    alice: Party
    bob: Party

    def __init__(self, place: Path) -> None:
        self.server = Party(place / "study")
        write(self.server.folder, "breast-cancer", None, launch="pipeline", invited=True)
        # What each owner has of his own lies with him.
        shutil.move(self.server.folder / "data", place / "data")
        (self.server.folder / "data").mkdir()
        shutil.move(place / "data" / "test.csv", self.server.folder / "data" / "test.csv")
        shutil.move(self.server.folder / "agreements", place / "terms")
        edit(self.server.folder / "federation.yaml", _shorten)
        self.owners = {
            name: Party(place, self.environment(account)) for name, account in ACCOUNTS.items()
        }
        self.place = place

    def environment(self, account: str) -> dict[str, str]:
        """What a shell gets of ``eval "$(fedsm local env …)"``."""
        printed = self.server.fedsm("local", "env", account)
        shell = subprocess.run(
            ["bash", "-c", f"{printed}\nenv"],
            env={"AWS_SESSION_TOKEN": "old"},
            capture_output=True,
            text=True,
            check=True,
        )
        found = dict(line.split("=", 1) for line in shell.stdout.splitlines() if "=" in line)
        assert "AWS_SESSION_TOKEN" not in found
        return {key: value for key, value in found.items() if key.startswith("AWS_")}

    def upload(self, site: str) -> None:
        s3 = self.owners[site].client("s3")
        for file in (self.place / "data" / site).rglob("*.csv"):
            key = file.relative_to(self.place / "data" / site).as_posix()
            s3.put_object(Bucket=f"{site}-{ACCOUNTS[site]}-data", Key=key, Body=file.read_bytes())

    def state(self, site: str) -> dict[str, Any]:
        """All that stands in an owner's account but for its people: IAM, buckets, pipelines."""
        party = self.owners[site]
        iam, s3, sagemaker = (party.client(name) for name in ("iam", "s3", "sagemaker"))
        details = iam.get_account_authorization_details()
        buckets = {}
        for name in (bucket["Name"] for bucket in s3.list_buckets()["Buckets"]):
            try:
                policy = s3.get_bucket_policy(Bucket=name)["Policy"]
            except ClientError:
                policy = ""
            versions = s3.list_object_versions(Bucket=name).get("Versions", [])
            status = s3.get_bucket_versioning(Bucket=name).get("Status")
            buckets[name] = [policy, status, sorted((v["Key"], v["ETag"]) for v in versions)]
        pipelines = [
            sagemaker.describe_pipeline(PipelineName=each["PipelineName"])
            for each in sagemaker.list_pipelines()["PipelineSummaries"]
        ]
        for each in pipelines:
            each.pop("ResponseMetadata")
            each.pop("LastRunTime", None)
        roles = [
            {key: value for key, value in role.items() if key != "RoleLastUsed"}
            for role in details["RoleDetailList"]
        ]
        return {
            "roles": roles,
            "policies": details["Policies"],
            "buckets": buckets,
            "pipelines": pipelines,
        }

    def train(self, *arguments: str) -> Run:
        self.server.fedsm("train", "--json", *arguments)
        folder = self.server.folder
        return Run.open(folder, run_ids(folder)[-1])


def _shorten(values: dict[str, Any]) -> None:
    values["training"] |= {"rounds": 2, "min_sites": 1, "max_wait": 5}
    values["tracking"] = {"experiments": False}


def edit(file: Path, how: Any) -> None:
    values = yaml.safe_load(file.read_text())
    how(values)
    file.write_text(yaml.safe_dump(values, sort_keys=False))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    place = tmp_path_factory.mktemp("two-parties")
    try:
        yield Study(place)
    finally:
        local.down(place / "study")


def digest_in(text: str) -> str:
    found = re.search(r"\b[0-9a-f]{64}\b", text)
    assert found, text
    return found[0]


# One story, told in order: each test takes up where the one before ended. --------------------


def test_owners_accept_what_they_have_seen(study: Study) -> None:
    for name, owner in study.owners.items():
        said = study.server.fedsm("site", "invite", name)
        assert "launch: pipeline" in said
        invitation = study.server.folder / "agreements" / name / "invitation.json"
        # Without credentials, and so without a call.
        outside = Party(owner.folder)
        assert "fill in your terms" in outside.fedsm("site", "accept", str(invitation))
        folder = owner.folder / f"breast-cancer-{name}"
        assert "<your account" in (folder / "terms.yaml").read_text()
        assert "must be an account id" in outside.fedsm("site", "accept", str(folder), code=2)
        shutil.copy(study.place / "terms" / name / "terms.yaml", folder / "terms.yaml")
        shown = outside.fedsm("site", "accept", str(folder))
        assert "nothing is created yet" in shown
        assert shown.count("lets ") + shown.count("denies ") > 20
        assert {"cloudformation.yaml", "kickoff-policy.json", "README.md"} <= {
            file.name for file in (folder / "review").iterdir()
        }
        assert "there are no AWS credentials" in outside.fedsm(
            "site", "accept", str(folder), "--apply", code=3
        )
        assert study.state(name)["roles"] == []


def test_people_of_the_account_are_kept_apart(study: Study) -> None:
    owner = study.owners["north"]
    folder = owner.folder / "breast-cancer-north"
    study.alice, study.bob = owner.with_user("alice"), owner.with_user("bob")
    account = ACCOUNTS["north"]
    edit(
        folder / "terms.yaml",
        lambda terms: terms.update(
            publisher=f"arn:aws:iam::{account}:user/alice",
            approver=f"arn:aws:iam::{account}:user/bob",
        ),
    )
    other = study.owners["west"].fedsm("site", "accept", "breast-cancer-north", "--apply", code=3)
    assert "credentials are of account 555555555555" in other
    assert "is set up" in owner.fedsm("site", "accept", "breast-cancer-north", "--apply")
    assert "all was there already" in owner.fedsm(
        "site", "accept", "breast-cancer-north", "--apply"
    )
    west = study.owners["west"].fedsm("site", "accept", "breast-cancer-west", "--apply", "--json")
    answer = json.loads(west)
    assert answer["applied"]
    assert not answer["two_persons"]
    assert len(answer["statements"]) > 20
    assert json.loads((folder / "acceptance.json").read_text())["two_persons"]
    assert "secret" not in (folder / "acceptance.json").read_text().lower()
    study.upload("north")
    study.upload("west")


def test_who_publishes_cannot_approve(study: Study) -> None:
    alice, bob = study.alice, study.bob
    owner = study.owners["north"]
    for someone in (bob, owner):  # the administrators neither
        said = someone.fedsm("site", "publish", "breast-cancer-north", code=3)
        assert "use the credentials of arn:aws:iam::222222222222:user/alice" in said
    digest = digest_in(alice.fedsm("site", "publish", "breast-cancer-north"))
    for someone in (alice, owner):
        said = someone.fedsm("site", "approve", digest, "breast-cancer-north", code=3)
        assert "use the credentials of arn:aws:iam::222222222222:user/bob" in said
    said = bob.fedsm("site", "approve", "0" * 64, "breast-cancer-north", code=2)
    assert "is not there" in said
    said = bob.fedsm("site", "approve", digest, "breast-cancer-north", "--until", "2099-12-31")
    assert "until 2100-01-01T00:00:00" in said
    assert f"{digest} until 2100-01-01" in bob.fedsm("site", "approvals", "breast-cancer-north")
    west = study.owners["west"]
    assert digest == digest_in(west.fedsm("site", "publish", "breast-cancer-west"))
    west.fedsm("site", "approve", digest, "breast-cancer-west", "--out", "west-approval.json")


def test_the_server_adds_them_and_trains(study: Study) -> None:
    server, place = study.server, study.place
    said = server.fedsm("train", code=2)
    assert "there is no site yet" in said
    documents = [
        str(place / "breast-cancer-north" / "acceptance.json"),
        str(next((place / "breast-cancer-north").glob("approval-*.json"))),
        str(place / "breast-cancer-west" / "acceptance.json"),
        str(place / "west-approval.json"),
    ]
    before = {name: study.state(name) for name in ACCOUNTS}
    server.fedsm("site", "add", *documents)
    run = study.train()
    state = run.status()
    assert state.status == "Completed"
    assert {site.status for site in state.sites.values()} == {"Completed"}
    for name in ACCOUNTS:
        # A run adds a model, and nothing else.
        after = study.state(name)
        after["buckets"].pop(f"{name}-{ACCOUNTS[name]}-models")
        before[name]["buckets"].pop(f"{name}-{ACCOUNTS[name]}-models")
        assert after == before[name]
    log = study.owners["west"].fedsm("site", "logs", "breast-cancer-west")
    assert "fedsm" in log
    assert "logs are the owner's" in server.fedsm("logs", "--site", "west", code=3)


def test_changed_code_waits_for_the_approver(study: Study) -> None:
    alice, bob = study.alice, study.bob
    folder = study.place / "breast-cancer-north"
    west = study.state("west")
    shutil.copytree(study.server.folder / "client_code", folder / "client_code")
    with (folder / "client_code" / "data.py").open("a") as file:
        file.write("\n# reviewed\n")
    old = json.loads(next(folder.glob("approval-*.json")).read_text())["bundle"]
    new = digest_in(alice.fedsm("site", "publish", "breast-cancer-north"))
    assert new != old
    shown = bob.fedsm("site", "diff", old, new, "breast-cancer-north")
    assert shown.splitlines()[0] == "changed: data.py"
    assert "+# reviewed" in shown
    refused = study.server.fedsm(
        "train", "--site", "north", "--set", f"sites.north.bundle={new}", code=3
    )
    assert f"north: bundle {new[:12]} is not approved" in refused
    assert f"fedsm site approve {new}" in refused
    bob.fedsm("site", "approve", new, "breast-cancer-north")
    study.server.fedsm("site", "add", str(folder / f"approval-{new[:12]}.json"))
    assert study.train("--site", "north").status().sites["north"].bundle == new
    bob.fedsm("site", "disapprove", new, "breast-cancer-north")
    again = study.server.fedsm("train", "--site", "north", code=3)
    assert f"bundle {new[:12]} is not approved" in again
    assert study.state("west") == west


def test_changed_terms_change_one_site_alone(study: Study) -> None:
    bob = study.bob
    west, folder = study.state("west"), study.place / "breast-cancer-north"
    file = study.server.folder / "federation.yaml"
    file.write_text("# the server's own words\n" + file.read_text())
    before = yaml.safe_load(file.read_text())["sites"]
    edit(folder / "terms.yaml", lambda terms: terms.update(volume_gb=20))
    said = study.owners["north"].fedsm("site", "accept", "breast-cancer-north", "--apply")
    old = json.loads(next(folder.glob("approval-*.json")).read_text())["bundle"]
    assert f"fedsm site approve {old}" in said
    bob.fedsm("site", "approve", old, "breast-cancer-north")
    study.server.fedsm(
        "site",
        "add",
        str(folder / "acceptance.json"),
        str(folder / f"approval-{old[:12]}.json"),
    )
    after = yaml.safe_load(file.read_text())["sites"]
    assert after[1] == before[1]
    assert after[0] == {**before[0], "volume_gb": 20, "bundle": old}
    assert file.read_text().startswith("# the server's own words\n")
    assert study.state("west") == west


def test_a_site_that_leaves_takes_all_of_its_own_along(study: Study) -> None:
    owner, west = study.owners["north"], study.state("west")
    held = study.state("north")["buckets"]
    study.server.fedsm("site", "remove", "north")
    assert "say so with --yes" in owner.fedsm("site", "revoke", "breast-cancer-north", code=2)
    owner.fedsm("site", "revoke", "breast-cancer-north", "--yes")
    left = study.state("north")
    assert (left["roles"], left["policies"], left["pipelines"]) == ([], [], [])
    assert {name: b[2] for name, b in left["buckets"].items()} == {
        name: b[2] for name, b in held.items()
    }
    assert {b[0] for b in left["buckets"].values()} == {""}
    assert study.state("west") == west
    assert owner.fedsm("site", "revoke", "breast-cancer-north", "--yes").count("0 changes")
    sites = yaml.safe_load((study.server.folder / "federation.yaml").read_text())["sites"]
    assert [site["name"] for site in sites] == ["west"]
    assert study.train().status().status == "Completed"


# A project that plays all parties ---------------------------------------------------------------


def test_a_local_project_says_how_its_owner_approves(tmp_path: Path) -> None:
    place = tmp_path / "study"
    user = Party(tmp_path)
    user.fedsm("init", "study", "--launch", "pipeline")
    edit(place / "federation.yaml", _shorten)
    try:
        user.fedsm("local", "up", "study")
        with (place / "client_code" / "app.py").open("a") as file:
            file.write("\n# edited\n")
        said = user.fedsm("publish", "--config", "study", "--site", "north")
        commands = "\n".join(line for line in said.splitlines() if line.startswith("  "))
        assert commands.count("fedsm ") == 2
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        subprocess.run(
            ["bash", "-ec", commands],
            env={**user.environment, "PATH": path},
            cwd=tmp_path,
            check=True,
        )
        user.fedsm("train", "--config", "study", "--site", "north")
    finally:
        local.down(place)
