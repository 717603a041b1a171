"""SageMaker Experiments: what moto's version of it lacks of AWS's behaviour.

moto overwrites a name that is taken, drops the tags of a creation, fails on a name that is not
there and lists the components of all experiments; AWS refuses the first and third, keeps the tags
and lists what was asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from fedsm.local import backends, stores
from fedsm.local.protocol import ApiError, Call, Reply, json_reply

_KINDS = {
    "Experiment": ("Experiment", "experiment"),
    "Trial": ("Trial", "experiment-trial"),
    "TrialComponent": ("Trial Component", "experiment-trial-component"),
}


def answer(call: Call, account: str) -> Reply:
    """Answer an authorised action of Experiments.

    Raises
    ------
    ApiError
        ValidationException for a name that is taken, ResourceNotFound for one that is not there.
    """
    action, body = call.headers["x-amz-target"].rpartition(".")[2], call.json()
    found = re.fullmatch(r"(Create|Describe|Update|Delete)(\w+)", action)
    if found is None or found[2] not in _KINDS:
        if action == "AssociateTrialComponent":
            _require(call, account, "TrialComponent", body)
        reply = backends.dispatch(call, "sagemaker", account)
        if action == "ListTrialComponents" and "ExperimentName" in body:
            reply = _of_experiment(reply, call, account, str(body["ExperimentName"]))
        return reply
    kind = found[2]
    store = stores.experiments(account, call.region)[kind]
    name = str(body.get(f"{kind}Name"))
    if found[1] != "Create":
        _require(call, account, kind, body)
        return backends.dispatch(call, "sagemaker", account)
    if name in store:
        words = _KINDS[kind][0]
        raise ApiError(
            "ValidationException",
            f"{words} names must be unique within an AWS account and region. {words} with name "
            f"({name}) already exists.",
        )
    if kind == "Trial":
        _require(call, account, "Experiment", body)
    reply = backends.dispatch(call, "sagemaker", account)
    if reply.status == 200 and name in store:
        store[name].tags = list(body.get("Tags", []))
    return reply


def _of_experiment(reply: Reply, call: Call, account: str, experiment: str) -> Reply:
    """Keep the components of one experiment's trials; a page may hold fewer than was asked."""
    trials = stores.experiments(account, call.region)["Trial"].values()
    names = {
        component
        for trial in list(trials)
        if trial.experiment_name == experiment
        for component in trial.trial_components
    }
    listed = json.loads(reply.body)
    listed["TrialComponentSummaries"] = [
        summary
        for summary in listed.get("TrialComponentSummaries", [])
        if summary["TrialComponentName"] in names
    ]
    return json_reply(listed, reply.status)


def _require(call: Call, account: str, kind: str, body: Mapping[str, Any]) -> None:
    name = str(body.get(f"{kind}Name"))
    if name not in stores.experiments(account, call.region)[kind]:
        words, resource = _KINDS[kind]
        arn = f"arn:aws:sagemaker:{call.region}:{account}:{resource}/{name}"
        raise ApiError("ResourceNotFound", f"{words} '{arn}' does not exist.")
