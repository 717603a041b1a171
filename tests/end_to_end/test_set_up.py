"""When accounts, roles and data are set up on the local cloud, and when they are not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from botocore.exceptions import ClientError

from fedsm import Federation, local
from fedsm.errors import AccessError, ConfigError, LocalCloudError
from fedsm.names import role_name
from fedsm.scaffold import write

FEDERATION = "breast-cancer"
KICKOFF = role_name(FEDERATION, "north", "kickoff")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("written")
    write(place, "breast-cancer", None)
    return place


@pytest.fixture
def place(written: Path, tmp_path: Path) -> Iterator[Path]:
    """A project of two sites, north and west, whose cloud is down."""
    made = tmp_path / "study"
    shutil.copytree(written, made)
    edit(made, lambda v: v.update(sites=[s for s in v["sites"] if s["name"] in ("north", "west")]))
    yield made
    local.down(made)


def edit(place: Path, how: Any) -> None:
    file = place / "federation.yaml"
    values = yaml.safe_load(file.read_text())
    how(values)
    file.write_text(yaml.safe_dump(values))


def client(place: Path, service: Any, name: str = "north") -> Any:
    """A client of the site's administrator; sets up nothing."""
    endpoint = local.status(place)
    assert endpoint is not None
    site = Federation.load(place).config.subset([name]).sites[0]
    return endpoint.session(site.account_id, site.region).client(service)


def objects(place: Path, name: str = "north") -> dict[str, bytes]:
    s3 = client(place, "s3", name)
    bucket = Federation.load(place).config.subset([name]).sites[0].channels["train"].split("/")[2]
    found = s3.list_objects_v2(Bucket=bucket).get("Contents", [])
    return {e["Key"]: s3.get_object(Bucket=bucket, Key=e["Key"])["Body"].read() for e in found}


def roles(place: Path, name: str = "north") -> set[str]:
    return {role["RoleName"] for role in client(place, "iam", name).list_roles()["Roles"]}


def test_changed_data_are_uploaded_and_gone_files_deleted(place: Path) -> None:
    federation = Federation.load(place)
    folder = place / "data" / "north" / "train"
    (folder / "deep").mkdir()
    (folder / "deep" / "more.csv").write_text("a\n1\n")
    assert federation.cloud.isolation
    assert {"train/train.csv", "train/deep/more.csv"} < set(objects(place))
    shutil.rmtree(folder / "deep")
    (folder / "train.csv").write_text("changed")
    assert federation.cloud.isolation  # the same federation, as in a notebook
    assert objects(place)["train/train.csv"] == b"changed"
    assert set(objects(place)) == {"train/train.csv", "validation/validation.csv"}


def test_a_channel_around_another_leaves_its_objects(place: Path) -> None:
    edit(place, lambda v: v["sites"][0]["channels"].update(train="s3://north-222222222222-data"))
    federation = Federation.load(place)
    assert federation.cloud.isolation
    client(place, "s3").put_object(Bucket="north-222222222222-data", Key="left", Body=b"")
    (place / "data" / "north" / "train" / "train.csv").write_text("changed")
    assert federation.cloud.isolation
    assert set(objects(place)) == {"train.csv", "validation/validation.csv"}


def test_what_has_not_changed_is_not_touched(place: Path) -> None:
    assert Federation.load(place).cloud.isolation
    client(place, "s3").put_object(
        Bucket="north-222222222222-data", Key="train/train.csv", Body=b"the owner's"
    )
    (place / "data" / "test.csv").write_text("no site's")
    (place / "data" / "west" / "train" / "train.csv").write_text("changed")
    assert Federation.load(place).cloud.isolation
    assert objects(place)["train/train.csv"] == b"the owner's"
    assert objects(place, "west")["train/train.csv"] == b"changed"


def test_a_failed_set_up_is_not_taken_for_complete(place: Path) -> None:
    folder = place / "data" / "west" / "train"
    folder.rename(place / "away")
    for _ in range(2):
        with pytest.raises(LocalCloudError, match=r"west: there are no files for channel train"):
            Federation.load(place).train()
    (place / "away").rename(folder)
    assert Federation.load(place).cloud.isolation
    assert "train/train.csv" in objects(place, "west")


def test_a_failed_upload_is_not_taken_for_what_was_there(place: Path) -> None:
    assert Federation.load(place).cloud.isolation
    file, west = place / "data/north/train/train.csv", place / "data/west/train"
    before = file.read_bytes()
    file.write_text("changed")
    west.rename(place / "away")
    with pytest.raises(LocalCloudError):
        Federation.load(place).cloud  # noqa: B018
    file.write_bytes(before)
    (place / "away").rename(west)
    assert Federation.load(place).cloud.isolation
    assert objects(place)["train/train.csv"] == before


def test_a_cloud_that_was_down_is_set_up_again(place: Path) -> None:
    federation = Federation.load(place)
    assert federation.cloud.isolation
    local.down(place)
    assert federation.cloud.isolation
    assert KICKOFF in roles(place)
    assert "train/train.csv" in objects(place)


def test_a_second_process_waits_for_the_first(place: Path) -> None:
    program = (
        "import sys\n"
        "from fedsm import Federation\n"
        "federation = Federation.load(sys.argv[1])\n"
        "for site in federation.config.sites:\n"
        "    owner = federation.cloud.owner(site)\n"
        "    role = site.execution_role_arn.rpartition('/')[2]\n"
        "    owner.client('iam').get_role(RoleName=role)\n"
        "    uri = site.channels['validation'].removeprefix('s3://').partition('/')\n"
        "    owner.client('s3').head_object(Bucket=uri[0], Key=uri[2] + 'validation.csv')\n"
    )
    command = [sys.executable, "-c", program, str(place)]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        said = process.communicate(timeout=60)[1]
        assert process.returncode == 0, said


def test_a_site_that_joins_does_not_renew_the_others_consent(place: Path, written: Path) -> None:
    assert Federation.load(place).cloud.isolation
    client(place, "iam").delete_role_policy(RoleName=KICKOFF, PolicyName="fedsm")
    sites = yaml.safe_load((written / "federation.yaml").read_text())["sites"]
    newcomer = next(s for s in sites if s["name"] not in ("north", "west"))
    edit(place, lambda v: v["sites"].append(newcomer))
    assert Federation.load(place).cloud.isolation
    joined = role_name(FEDERATION, newcomer["name"], "kickoff")
    assert joined in roles(place, newcomer["name"])
    assert client(place, "iam").list_role_policies(RoleName=KICKOFF)["PolicyNames"] == []


def test_consent_is_renewed_by_set_up_alone(place: Path) -> None:
    assert Federation.load(place).cloud.isolation
    iam = client(place, "iam")

    def longest() -> bool:
        rights = iam.get_role_policy(RoleName=KICKOFF, PolicyName="fedsm")["PolicyDocument"]
        return "'600'" in str(rights)

    edit(place, lambda v: v["sites"][0].update(max_runtime=600))
    (place / "data" / "north" / "train" / "train.csv").write_text("changed")
    assert Federation.load(place).cloud.isolation
    assert objects(place)["train/train.csv"] == b"changed"
    assert not longest()
    Federation.load(place).set_up()
    assert longest()


def test_other_roles_than_onboarding_makes_are_named(place: Path) -> None:
    other = "arn:aws:iam::222222222222:role/other"
    edit(place, lambda v: v["sites"][0].update(role_arn=other))
    with pytest.raises(ConfigError, match=r"sites\.north\.role_arn") as caught:
        Federation.load(place).set_up()
    assert f"write arn:aws:iam::222222222222:role/{KICKOFF}" in str(caught.value)


def test_an_owner_of_its_own_is_left_alone(place: Path) -> None:
    shutil.rmtree(place / "data" / "west")
    with pytest.raises(LocalCloudError, match="fedsm site invite west"):
        Federation.load(place).set_up()
    record = place / "agreements" / "west" / "acceptance.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    Federation.load(place).set_up()
    assert KICKOFF in roles(place)
    assert not [name for name in roles(place, "west") if "fedsm" in name]


def test_the_coordinator_may_take_the_roles_of_all_sites(place: Path, written: Path) -> None:
    assert Federation.load(place).cloud.isolation
    sites = yaml.safe_load((written / "federation.yaml").read_text())["sites"]
    newcomer = next(s for s in sites if s["name"] not in ("north", "west"))
    edit(place, lambda v: v["sites"].append(newcomer))
    assert Federation.load(place).cloud.isolation
    endpoint = local.status(place)
    assert endpoint is not None
    iam = endpoint.session("111111111111", "us-east-1").client("iam")
    rights = iam.get_role_policy(RoleName="fedsm-coordinator", PolicyName="fedsm")
    assert newcomer["role_arn"] in str(rights["PolicyDocument"])


def test_data_for_a_bucket_that_is_not_set_up(place: Path) -> None:
    assert Federation.load(place).cloud.isolation
    (place / "data" / "north" / "train" / "train.csv").write_text("changed")
    edit(place, lambda v: v["sites"][0]["channels"].update(train="s3://no-such-bucket-yet/train/"))
    with pytest.raises(LocalCloudError, match="fedsm local up"):
        Federation.load(place).cloud  # noqa: B018
    Federation.load(place).set_up()
    edit(
        place,
        lambda v: v["sites"][0]["channels"].update(train="s3://west-555555555555-data/train/"),
    )
    (place / "data" / "north" / "train" / "train.csv").write_text("changed again")
    with pytest.raises(AccessError, match="own account"):
        Federation.load(place).cloud  # noqa: B018


def test_a_lost_marker_means_all_is_set_up(place: Path) -> None:
    federation = Federation.load(place)
    assert federation.cloud.isolation
    marker = place / ".fedsm" / "cloud" / "set-up.json"
    for text in ("", "[]", '{"cloud": 1}', '{"other": 1}'):
        client(place, "iam").delete_role_policy(RoleName=KICKOFF, PolicyName="fedsm")
        marker.write_text(text)
        assert federation.cloud.isolation
        assert client(place, "iam").get_role_policy(RoleName=KICKOFF, PolicyName="fedsm")
    with pytest.raises(ClientError):
        client(place, "iam").get_role_policy(RoleName=KICKOFF, PolicyName="none")
