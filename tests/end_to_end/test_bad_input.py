"""Bad input: one clear error that names the site and the next action, and nothing left running."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedsm.errors import AccessError, ConfigError, FedsmError, JobError, QuorumLost
from fedsm.run import Run
from tests.end_to_end.conftest import Project

Edit = Callable[[Callable[[dict[str, Any]], None]], None]

SECRET = "row-4711"

APP = """
import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()

def answer(message, arrays, **metrics):
    records = {{"metrics": MetricRecord(metrics)}}
    if arrays is not None:
        records["arrays"] = ArrayRecord(arrays)
    return Message(RecordDict(records), reply_to=message)

@app.train()
def train(message, context):
    north = context.node_config["site"] == "north"
    number = message.content["config"]["server-round"]
    arrays = message.content["arrays"].to_numpy_ndarrays()
    {body}
    return answer(message, arrays, **{{"num-examples": 1}})

@app.evaluate()
def evaluate(message, context):
    return answer(message, None, **{{"num-examples": 1, "loss": 0.5}})
"""

PLAIN = {"training.model": None, "training.prepare": None, "training.test": None}


def initial() -> Any:
    import numpy as np
    from flwr.app import ArrayRecord

    return ArrayRecord([np.zeros(3)])


def site(values: dict[str, Any], name: str = "north") -> dict[str, Any]:
    return next(s for s in values["sites"] if s["name"] == name)


def last(project: Project) -> Run:
    return project.federation().attach()


def nothing_runs(project: Project) -> bool:
    states = last(project).status().sites.values()
    return all(s.status in ("Planned", "Completed", "Failed", "Stopped") for s in states)


def refused(
    project: Project, kind: type[FedsmError], *said: str, overrides: Any = None, **options: Any
) -> str:
    federation = project.federation(overrides)
    with pytest.raises(kind) as caught:
        federation.train(**{"sites": ["north", "west"], **options})
    message = str(caught.value)
    for text in said:
        assert text in message
    assert "Next: " in message
    assert SECRET not in message
    state = last(project).status()
    assert state.status == "Failed"
    assert nothing_runs(project)
    return message


def test_a_wrong_external_id(project: Project, edit: Edit) -> None:
    edit(lambda v: site(v).update(external_id="not-the-one"))
    message = refused(project, AccessError, "north", "north-kickoff", "sts:ExternalId")
    assert "arn:aws:iam::111111111111:role/fedsm-coordinator" in message


def test_a_role_that_is_not_there(project: Project, edit: Edit) -> None:
    edit(lambda v: site(v).update(role_arn="arn:aws:iam::222222222222:role/nobody"))
    refused(project, AccessError, "north", "role/nobody", "the role exists")


def test_an_execution_role_that_may_not_be_passed(project: Project, edit: Edit) -> None:
    edit(lambda v: site(v).update(execution_role_arn="arn:aws:iam::222222222222:role/other"))
    refused(project, AccessError, "north", "iam:PassRole")


def test_an_empty_prefix(project: Project, edit: Edit) -> None:
    edit(lambda v: site(v)["channels"].update(train="s3://north-222222222222-data/train/no/"))
    refused(project, JobError, "north", "No S3 objects found", overrides={"training.min_sites": 2})


def test_another_accounts_bucket(project: Project, edit: Edit) -> None:
    edit(lambda v: site(v)["channels"].update(train="s3://west-555555555555-data/train/"))
    refused(project, JobError, "north", "AccessDenied")


def test_a_missing_channel(project: Project, edit: Edit) -> None:
    edit(lambda v: site(v)["channels"].pop("train"))
    message = refused(project, QuorumLost, overrides={"training.min_sites": 2})
    errors = last(project).status().sites["north"].errors
    assert any("DataError at data.py" in e for e in errors), (message, errors)


def test_a_bundle_that_is_not_there(project: Project, edit: Edit) -> None:
    edit(lambda v: site(v).update(bundle="0" * 64))
    refused(project, JobError, "north", "000000000000 is not published", "fedsm publish")


def test_an_altered_bundle(project: Project, edit: Edit) -> None:
    federation = project.federation()
    owner = federation.cloud.owner(federation.config.sites[0]).client("s3")
    digest = "1" * 64
    bucket = "north-222222222222-code"
    policy = owner.get_bucket_policy(Bucket=bucket)["Policy"]
    owner.delete_bucket_policy(Bucket=bucket)
    owner.put_object(Bucket=bucket, Key=f"fedsm/{digest}/source.tar.gz", Body=b"altered")
    owner.put_bucket_policy(Bucket=bucket, Policy=policy)
    edit(lambda v: site(v).update(bundle=digest))
    refused(project, JobError, "north", "exit code: 51")


def test_code_that_raises_at_import(project: Project) -> None:
    project.code(app=f"raise ValueError('{SECRET}')\n")
    refused(project, JobError, "ValueError at app.py:1", "exit code: 10")


def test_a_site_that_raises_in_round_2_is_left_to_the_quorum(project: Project) -> None:
    project.code(app=APP.format(body=f"if north and number == 2: raise RuntimeError('{SECRET}')"))
    run = project.train({**PLAIN, "training.min_sites": 1}, initial=initial())
    errors = run.status().sites["north"].errors
    assert len(errors) == 1
    assert "round 2, train: RuntimeError at app.py" in errors[0]
    assert SECRET not in run.journal.read_text()
    assert "north" in run.status().rounds[2].sites


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("if north: arrays[0][0] = np.nan", "holds NaN, infinite"),
        ("if north: arrays = [np.zeros(4)]", "has shape (4,), not (3,)"),
        ("if north: return answer(message, arrays, other=1)", "lack 'num-examples'"),
        ("if north: return answer(message, None, **{'num-examples': 1})", "0 array records"),
    ],
)
def test_an_unusable_reply_is_named_and_left_out(project: Project, body: str, said: str) -> None:
    project.code(app=APP.format(body=body))
    message = refused(
        project,
        QuorumLost,
        "min_sites is 2",
        overrides={**PLAIN, "training.min_sites": 2},
        initial=initial(),
    )
    errors = last(project).status().sites["north"].errors
    assert any(said in error for error in errors), (errors, message)


def test_a_client_of_another_protocol_version(project: Project) -> None:
    project.code(
        train="import sys\n"
        "import fedsm.transport.wire as wire\n"
        "wire.PROTOCOL = 99\n"
        "import fedsm.transport.session, fedsm.transport.dial\n"
        "for module in (fedsm.transport.session, fedsm.transport.dial):\n"
        "    if hasattr(module, 'PROTOCOL'):\n"
        "        module.PROTOCOL = 99\n"
        "from fedsm.client.runtime import main\n"
        "sys.exit(main())\n"
    )
    refused(project, JobError, "protocol", "99", "exit code: 30")


def test_garbage_on_the_port_disturbs_nobody(project: Project) -> None:
    def throw(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as plain:
            plain.sendall(b"\x00garbage" * 1000)
        context = ssl._create_unverified_context()  # noqa: S323
        context.set_alpn_protocols(["h2"])
        with (
            socket.create_connection(("127.0.0.1", port)) as raw,
            context.wrap_socket(raw) as secured,
        ):
            secured.sendall(b"GET / HTTP/1.1\r\n\r\n" * 100)

    federation = project.federation()
    run_id = federation.new_run_id()

    def disturb(number: int) -> dict[str, Any]:
        plan = (project.directory / "runs" / run_id / "plan.json").read_text()
        port = int(plan.split('"address": "127.0.0.1:')[1].split('"')[0])
        throw(port)
        return {}

    run = federation.train(run=run_id, sites=["north", "west"], config_fn=disturb)
    assert run.status().status == "Completed"
    assert not run.status().sites["north"].errors


def test_a_port_in_use(project: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        federation = project.federation({"coordinator.port": port})
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}") as caught:
            federation.train(sites=["north"])
    assert "Next: " in str(caught.value)
    assert all(not s.job for s in last(project).status().sites.values())


def test_an_image_that_cannot_be_pulled(project: Project, edit: Edit) -> None:
    edit(lambda v: site(v).update(image="nobody/nothing:1"))
    refused(project, FedsmError, "north", "nobody/nothing:1")


def test_test_rows_that_are_not_there(project: Project) -> None:
    federation = project.federation({"training.test": "data/none.csv"})
    with pytest.raises(FedsmError, match=r"none\.csv"):
        federation.train()
    assert not Path(project.directory / "runs" / "x").exists()
