"""Both parties' commands as far as they call nothing: documents, messages, exit codes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from fedsm.agreement import Acceptance, Invitation, Terms, read, site_of, write
from fedsm.agreements import shortfalls
from fedsm.bundle import build
from fedsm.config import FederationConfig, load
from fedsm.errors import ConfigError
from fedsm.onboarding import account
from fedsm.owner_cli import moment
from fedsm.terms_template import terms_template
from tests.support import agreement, federation

ROLE = "arn:aws:iam::111111111111:role/fedsm-coordinator"


def fedsm(
    *arguments: str, place: Path, code: int = 0, program: list[str] | None = None
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *(program or ["-m", "fedsm"]), *arguments],
        cwd=place,
        env={"PATH": os.environ["PATH"], "HOME": str(place), "AWS_EC2_METADATA_DISABLED": "true"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """A server's project whose sites are all still to come."""
    values = federation()
    values |= {"sites": [], "training": {"rounds": 5, "hyperparameters": {"c": 1.0}}}
    values["coordinator"] |= {"role_arn": ROLE, "vpc_cidrs": ["10.0.0.0/16"]}
    place = tmp_path / "server"
    place.mkdir()
    (place / "federation.yaml").write_text("# ours\n" + yaml.safe_dump(values))
    return place


@pytest.fixture
def invitation(server: Path) -> Path:
    fedsm("site", "invite", "a", place=server)
    return server / "agreements" / "a" / "invitation.json"


def put_terms(folder: Path, **changes: Any) -> None:
    terms = agreement(terms=changes)[1].model_dump(mode="json", exclude_defaults=True)
    (folder / "terms.yaml").write_text(yaml.safe_dump(terms))


def accepted(invitation: Path, folder: Path, **changes: Any) -> Path:
    """An acceptance as ``accept --apply`` writes it."""
    asked = read(Invitation, invitation)
    terms = agreement(terms=changes)[1]
    document = Acceptance(
        fedsm="0",
        federation=asked.federation,
        launch=asked.launch,
        two_persons=False,
        hyperparameters=asked.hyperparameters,
        rounds=asked.rounds,
        site=site_of(asked, terms),
    )
    write(document, folder / "acceptance.json")
    return folder / "acceptance.json"


# The server -----------------------------------------------------------------------------------


def test_an_invitation_keeps_its_external_id(server: Path, invitation: Path) -> None:
    first = read(Invitation, invitation)
    assert first.launch == "pipeline"
    assert first.addresses == ("10.0.0.0/16",)
    assert len(first.external_id) > 30
    fedsm("site", "invite", "a", place=server)
    assert read(Invitation, invitation) == first
    fedsm("site", "invite", "b", "--out", "b.json", place=server)
    assert read(Invitation, server / "b.json").external_id != first.external_id
    done = fedsm("site", "invite", "a", "--out", "b.json", place=server, code=2)
    assert "is the invitation of b" in done.stderr


def test_a_site_of_the_file_keeps_its_external_id(server: Path) -> None:
    (server / "federation.yaml").write_text(
        yaml.safe_dump({**load_raw(server), "sites": federation()["sites"]})
    )
    fedsm("site", "invite", "a", place=server)
    made = read(Invitation, server / "agreements" / "a" / "invitation.json")
    assert made.external_id == "a-external"


def load_raw(server: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((server / "federation.yaml").read_text()))


def test_a_server_without_a_role_cannot_invite(tmp_path: Path) -> None:
    (tmp_path / "federation.yaml").write_text(yaml.safe_dump(federation()))
    done = fedsm("site", "invite", "c", place=tmp_path, code=2)
    assert "coordinator.role_arn" in done.stderr
    values = federation()
    values["coordinator"] |= {"role_arn": ROLE.replace("1", "3"), "vpc_cidrs": ["10.0.0.0/16"]}
    (tmp_path / "federation.yaml").write_text(yaml.safe_dump(values))
    done = fedsm("site", "invite", "c", place=tmp_path, code=2)
    assert "is not of the account 111111111111" in done.stderr
    assert "Next: " in done.stderr


def test_a_site_is_added_changed_and_removed(
    server: Path, invitation: Path, tmp_path: Path
) -> None:
    file = accepted(invitation, tmp_path)
    done = fedsm("site", "add", str(file), place=server)
    assert "a: added to federation.yaml" in done.stdout
    assert f"give {ROLE} the policy in agreements/coordinator-policy.json" in done.stdout
    policy = (server / "agreements" / "coordinator-policy.json").read_text()
    assert "role/fedsm-heart--a-kickoff" in policy
    assert (server / "agreements" / "a" / "acceptance.json").read_text() == file.read_text()
    fedsm("site", "add", str(accepted(invitation, tmp_path, volume_gb=20)), place=server)
    assert load(server / "federation.yaml").sites[0].volume_gb == 20
    fedsm("site", "remove", "a", place=server)
    assert load(server / "federation.yaml").sites == ()
    assert (server / "federation.yaml").read_text().startswith("# ours\n")
    done = fedsm("site", "remove", "a", place=server, code=2)
    assert "no such site: a" in done.stderr


def test_an_answer_to_another_invitation_is_refused(
    server: Path, invitation: Path, tmp_path: Path
) -> None:
    file = accepted(invitation, tmp_path)
    file.write_text(file.read_text().replace(read(Invitation, invitation).external_id, "another"))
    before = (server / "federation.yaml").read_text()
    done = fedsm("site", "add", str(file), place=server, code=2)
    assert "answers another invitation" in done.stderr
    assert (server / "federation.yaml").read_text() == before
    for wrong in ("federation.yaml", "agreements/a/invitation.json", "none.json"):
        fedsm("site", "add", wrong, place=server, code=2)


def test_what_an_owner_does_not_allow_is_said() -> None:
    config = FederationConfig.model_validate(
        federation(training={"rounds": 7, "hyperparameters": {"c": 2.0, "label": "x"}})
    )
    invited, terms = agreement(
        rounds=5, hyperparameters={"c": {"low": 0, "high": 1}, "d": {"choices": [1]}}
    )
    answer = Acceptance(
        fedsm="0",
        federation="heart",
        launch="pipeline",
        two_persons=False,
        hyperparameters=invited.hyperparameters,
        rounds=invited.rounds,
        site=site_of(invited, terms),
    )
    assert list(shortfalls(config, answer)) == [
        "allows 5 rounds, training.rounds is 7",
        "does not allow c: 2.0",
        'does not allow label: "x"',
        "expects a hyperparameter d",
    ]


# The owner ------------------------------------------------------------------------------------


def test_the_file_of_terms_names_every_term(invitation: Path) -> None:
    text = terms_template(read(Invitation, invitation))
    assert not [name for name in Terms.model_fields if f"{name}:" not in text]
    # As soon as what is marked is filled in, it holds.
    for mark, value in (
        ("<your account, twelve digits>", "222222222222"),
        ("<the Region of your data>", "us-east-1"),
        ("<your data bucket>", "data"),
        ("<your bucket>", "own"),
    ):
        text = text.replace(mark, value)
    assert "<" not in text.split("account_id")[1]
    names = "|".join(Terms.model_fields)
    commented = re.sub(f"^# ((?:{names}): )", r"\1", text, flags=re.MULTILINE)
    for filled in (text, commented.replace("framework:", "#")):
        assert Terms.model_validate(yaml.safe_load(filled)).account_id == "222222222222"


@pytest.mark.parametrize(
    "asked",
    [
        {"addresses": ["10.0.0.0/16\napprover: arn:aws:iam::111111111111:role/x"]},
        {"addresses": ["fe80::1%\napprover:"]},
        {"addresses": ["10.0.0.0/8 0.0.0.0/0"]},
        {"addresses": ["10.0.0.0/99"]},
        {"fedsm": "0.1\napprover: x"},
        {"model": "m\u2028approver: x"},
        {"server_account": "333333333333"},
        {"server_role_arn": "arn:aws:iam::111111111111:role/x\napprover: x"},
        {"external_id": "id\napprover: x"},
        {"sts_region": "us-east-1\n"},
    ],
)
def test_an_invitation_cannot_write_terms(asked: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        agreement(**asked)


def test_what_an_invitation_asks_is_said_in_comments() -> None:
    invited, _ = agreement(
        addresses=["10.0.0.0/16", "fd00::/8", "10.1.2.3", "fl.example.org"],
        port=0,
        hyperparameters={"c": {"choices": ["x\napprover: y"]}},
    )
    text = terms_template(invited)
    assert "10.0.0.0/16, fd00::/8, 10.1.2.3, fl.example.org, any port" in text
    assert "approver" not in yaml.safe_load(text)


def test_terms_that_let_others_in_or_data_be_overwritten() -> None:
    theirs = "arn:aws:iam::111111111111:role/fedsm-coordinator"
    for terms, fault in (
        ({"approver": theirs}, "approver .* is of account 111111111111"),
        ({"publisher": theirs}, "publisher .* is of account 111111111111"),
        ({"output": "s3://a-data/train/models"}, "channel train overlaps with the output"),
        ({"output": "s3://a-data"}, "channel train overlaps with the output"),
    ):
        with pytest.raises(ConfigError, match=fault):
            account(*agreement(terms=terms))


def test_accept_goes_from_an_invitation_to_a_review(invitation: Path, tmp_path: Path) -> None:
    done = fedsm("site", "accept", str(invitation), place=tmp_path)
    assert "fill in your terms" in done.stdout
    folder = tmp_path / "heart-a"
    done = fedsm("site", "accept", place=folder, code=2)
    assert "account_id: must be an account id of twelve digits" in done.stderr
    put_terms(folder)
    done = fedsm("site", "accept", "--json", place=folder)
    answer = json.loads(done.stdout)
    assert answer["applied"] is False
    assert answer["launch"] == "pipeline"
    assert all(set(line) == {"holder", "sid", "sentence"} for line in answer["statements"])
    done = fedsm("site", "accept", place=folder)
    assert "IAM does not keep publisher and approver apart" in done.stdout
    for line in answer["statements"]:
        assert line["sentence"] in done.stdout
    assert (folder / "review" / "cloudformation.yaml").is_file()
    assert not (folder / "acceptance.json").exists()
    done = fedsm("site", "accept", "--apply", place=folder, code=3)
    assert "there are no AWS credentials" in done.stderr


def test_terms_from_elsewhere_are_taken_in(invitation: Path, tmp_path: Path) -> None:
    put_terms(tmp_path)
    arguments = ["site", "accept", str(invitation), "--terms", "terms.yaml", "--out", "mine"]
    fedsm(*arguments, place=tmp_path)
    assert (tmp_path / "mine" / "review" / "README.md").is_file()
    changed = read(Invitation, invitation).model_copy(update={"rounds": 7})
    write(changed, invitation)
    said = fedsm(*arguments, place=tmp_path).stdout
    assert "the invitation has changed: rounds: 5 -> 7" in said
    (tmp_path / "terms.yaml").write_text("region: x")
    done = fedsm(*arguments, place=tmp_path, code=2)
    assert "terms.yaml: holds no valid terms" in done.stderr
    assert "region: must be a Region" in done.stderr


def test_a_folder_is_one_sites(server: Path, invitation: Path, tmp_path: Path) -> None:
    fedsm("site", "accept", str(invitation), "--out", "mine", place=tmp_path)
    fedsm("site", "invite", "b", place=server)
    other = server / "agreements" / "b" / "invitation.json"
    done = fedsm("site", "accept", str(other), "--out", "mine", place=tmp_path, code=2)
    assert "is the folder of a in heart" in done.stderr
    for change in ({"external_id": "another"}, {"server_role_arn": f"{ROLE}-2"}):
        write(read(Invitation, invitation).model_copy(update=change), tmp_path / "other.json")
        done = fedsm("site", "accept", "other.json", "--out", "mine", place=tmp_path, code=2)
        assert "answers another invitation" in done.stderr
        assert "fedsm site revoke" in done.stderr
        assert read(Invitation, tmp_path / "mine" / "invitation.json") == read(
            Invitation, invitation
        )
    for command in (["approvals"], ["publish"], ["revoke", "--yes"], ["logs"], ["accept"]):
        done = fedsm("site", *command, place=tmp_path, code=2)
        assert "there is no invitation.json" in done.stderr
        assert "Next: " in done.stderr


def test_a_digest_is_given_whole(tmp_path: Path) -> None:
    done = fedsm("site", "approve", "abc", place=tmp_path, code=2)
    assert "all 64 digits" in done.stderr


def test_in_the_direct_launch_nothing_is_approved(tmp_path: Path) -> None:
    write(agreement(launch="direct")[0], tmp_path / "invitation.json")
    put_terms(tmp_path)
    assert "IAM does not keep" not in fedsm("site", "accept", place=tmp_path).stdout
    program = ["-c", NOBODY + "main()"]
    done = fedsm("site", "approve", "0" * 64, place=tmp_path, code=2, program=program)
    assert "launch: direct" in done.stderr


# Credentials that nothing is asked of.
NOBODY = (
    "import fedsm.site_folder as f; f.owner_session = lambda *_: None\nfrom fedsm.cli import main\n"
)


def test_local_bundles_are_compared_without_an_account(tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "train.py").write_text("one = 1\n")
    (code / "requirements.txt").write_text("numpy==1.0\n")
    (tmp_path / "old.tar.gz").write_bytes(build(code).data)
    (code / "train.py").write_text("one = 2\n")
    done = fedsm("site", "diff", "old.tar.gz", "code", place=tmp_path)
    assert done.stdout.splitlines()[0] == "changed: train.py"
    answer = json.loads(
        fedsm("site", "diff", "old.tar.gz", "code", "--json", place=tmp_path).stdout
    )
    assert [file["file"] for file in answer["files"]] == ["train.py"]
    done = fedsm("site", "diff", "none", "code", place=tmp_path, code=2)
    assert "neither a digest nor a file" in done.stderr
    with tarfile.open(tmp_path / "odd.tar.gz", "w:gz") as tar:
        link = tarfile.TarInfo("app.py")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    assert (
        "link" in fedsm("site", "diff", "old.tar.gz", "odd.tar.gz", place=tmp_path, code=2).stderr
    )


def test_until_is_a_day_or_a_moment() -> None:
    assert moment("2099-12-31") == datetime(2100, 1, 1, tzinfo=UTC)
    assert moment("2099-12-31T12:00:00Z") == datetime(2099, 12, 31, 12, tzinfo=UTC)
    assert moment("2099-12-31T12:00:00+02:00") == datetime(2099, 12, 31, 10, tzinfo=UTC)
    assert moment("2099-12-31T12:00:00") == datetime(2099, 12, 31, 12, tzinfo=UTC)
    today = datetime.now(UTC).date()
    assert moment(today.isoformat()) > datetime.now(UTC)
    for wrong in ("soon", "2000-01-01", (today - timedelta(days=1)).isoformat()):
        with pytest.raises(ConfigError, match="--until"):
            moment(wrong)


def test_owners_need_little(invitation: Path, tmp_path: Path) -> None:
    """CloudShell has a gigabyte: neither Flower nor scikit-learn is read by an owner's command."""
    put_terms(tmp_path)
    code = (
        "import sys, atexit\n"
        "atexit.register(lambda: print('READ', *sorted({m.split('.')[0] for m in sys.modules})))\n"
        + NOBODY
        + "main()"
    )
    for arguments in (
        ["accept", str(invitation), "--terms", "terms.yaml", "--out", "mine"],
        ["publish", "mine"],
        ["approve", "0" * 64, "mine"],
        ["diff", "mine", "mine"],
        ["revoke", "mine", "--yes"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, "site", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        found = set(done.stdout.partition("READ")[2].split())
        heavy = {"flwr", "sklearn", "grpc", "numpy", "moto", "joblib", "cryptography", "psutil"}
        assert "boto3" in found or arguments[0] == "diff", done.stderr
        assert not found & heavy
