"""A real run in SageMaker Experiments: the coordinator's role writes, the SageMaker SDK reads."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from fedsm.aws.sessions import Sessions
from fedsm.tracking.names import AGGREGATOR, CLIENT, SERVER, experiment_name, run_name
from tests.end_to_end.conftest import Project
from tests.tracking import sdk

SITES = ("north", "south")


@sdk.needs_sdk
def test_the_sdk_opens_what_a_run_wrote(project: Project) -> None:
    federation = project.federation({"tracking.experiments": True})
    config = federation.config
    run = federation.train(sites=list(SITES))
    state = run.status()
    assert state.status == "Completed"
    # Whatever the role were not allowed, the tracker would have said.
    assert [e.data for e in run.events() if e.kind == "tracking"] == []

    experiment = experiment_name(config.tracking.prefix, config.name)
    clients = {site: run_name(run.id, CLIENT, site) for site in SITES}
    aggregator = run_name(run.id, AGGREGATOR, SERVER)
    found = sdk.read(federation.cloud.coordinator(), experiment, clients["north"])
    assert set(found["runs"]) == {aggregator, *clients.values()}
    assert {seen["status"] for seen in found["runs"].values()} == {"Completed"}
    last = run.history()[-1]
    assert found["runs"][aggregator]["metrics"]["Test:AUC"] == last["server"]["auc"]
    assert found["runs"][aggregator]["outputs"]["model"] == str(run.model_path())
    for site, name in clients.items():
        seen, own = found["runs"][name], last["sites"][site]
        assert seen["metrics"]["Training:Loss"] == own["train"]["loss"]
        assert seen["metrics"]["Validation:AUC"] == own["evaluate"]["auc"]
        assert seen["parameters"]["train-data-size"] == own["train"]["num-examples"]
        assert seen["outputs"]["model"] == state.sites[site].artifacts
    assert found["opened"] == found["runs"][clients["north"]]
    assert found["added"]["metrics"] == found["opened"]["metrics"] | {"Review:Score": 0.5}

    server = config.coordinator
    assert server.role_arn is not None
    role = Sessions(federation.cloud.coordinator(), "test").coordinator(
        server.region, server.role_arn
    )
    for name in (experiment, "other-experiment"):
        with pytest.raises(ClientError, match="AccessDenied"):
            role.client("sagemaker").describe_experiment(ExperimentName=name)
    with pytest.raises(ClientError, match="AccessDenied"):
        role.client("sagemaker").create_experiment(ExperimentName="other-experiment")
