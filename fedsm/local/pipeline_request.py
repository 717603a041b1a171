"""What a request to SageMaker Pipelines names, and which of its fields are honoured.

Source: Service Authorization Reference, "Amazon SageMaker", and the API Reference's pages of the
actions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fedsm.local import pipelines
from fedsm.local.pipeline_records import pipeline_arn
from fedsm.local.principals import Caller
from fedsm.local.protocol import ApiError, Call, not_modelled
from fedsm.local.training_request import MODELLED

TAGS = {"AddTags", "ListTags", "DeleteTags"}
_LISTED = {"CreatedAfter", "CreatedBefore", "SortBy", "SortOrder", "NextToken", "MaxResults"}
_CHANGEABLE = {
    "PipelineDisplayName",
    "PipelineDefinition",
    "PipelineDescription",
    "RoleArn",
}
FIELDS: dict[str, set[str]] = {
    "CreatePipeline": _CHANGEABLE | {"PipelineName", "ClientRequestToken", "Tags"},
    "UpdatePipeline": _CHANGEABLE | {"PipelineName"},
    "DescribePipeline": {"PipelineName"},
    "DeletePipeline": {"PipelineName", "ClientRequestToken"},
    "ListPipelines": _LISTED | {"PipelineNamePrefix"},
    "ListPipelineExecutions": _LISTED | {"PipelineName"},
    "StartPipelineExecution": {
        "PipelineName",
        "PipelineExecutionDisplayName",
        "PipelineParameters",
        "PipelineExecutionDescription",
        "ClientRequestToken",
    },
    "DescribePipelineExecution": {"PipelineExecutionArn"},
    "StopPipelineExecution": {"PipelineExecutionArn", "ClientRequestToken"},
    "ListPipelineExecutionSteps": {
        "PipelineExecutionArn",
        "NextToken",
        "MaxResults",
        "SortOrder",
    },
    "ListPipelineParametersForExecution": {"PipelineExecutionArn", "NextToken", "MaxResults"},
    "DescribePipelineDefinitionForExecution": {"PipelineExecutionArn"},
}
"""The actions, and the fields of each that are honoured."""

REFUSED = {
    "ListPipelineVersions",
    "UpdatePipelineVersion",
    "RetryPipelineExecution",
    "UpdatePipelineExecution",
}
"""Actions that are judged, so that who may not take one hears so, and then refused by name."""

_NAME = r"[a-zA-Z0-9](?:-*[a-zA-Z0-9]){0,255}"
_ARN = re.compile(
    rf"arn:aws:sagemaker:(?P<region>[a-z0-9-]+):(?P<account>\d{{12}}):pipeline/(?P<name>{_NAME})"
    r"(?:/execution/(?P<execution>[a-z0-9]+))?"
)


def check_fields(action: str, body: Mapping[str, Any]) -> None:
    """Refuse an action or a field that is not honoured, by name."""
    if action in REFUSED:
        raise not_modelled(f"sagemaker:{action}")
    for name in body:
        if name not in FIELDS[action]:
            raise not_modelled(f"{name} of {action}")


def resolve(call: Call, caller: Caller, body: Mapping[str, Any]) -> str:
    """ARN of the pipeline or execution that a request names; its name in lower case.

    So what is judged is one spelling, whether the caller gives name or ARN, and in which case.
    """
    fields = ("PipelineExecutionArn", "PipelineArn", "PipelineName")
    field = next((name for name in fields if name in body), "")
    given = str(body.get(field, ""))
    if field == "PipelineName" and re.fullmatch(_NAME, given):
        return pipeline_arn(caller.principal.account, call.region, given)
    found = _ARN.fullmatch(given)
    on_execution = field == "PipelineExecutionArn"
    if found is None or bool(found["execution"]) != on_execution:
        raise ApiError("ValidationException", f"{given!r} names no pipeline or execution.")
    if found["region"] != call.region:
        raise ApiError("ValidationException", f"{given} is not in the Region {call.region}.")
    arn = pipeline_arn(found["account"], found["region"], found["name"])
    return f"{arn}/execution/{found['execution']}" if on_execution else arn


def check_definition(request: Mapping[str, Any]) -> None:
    """Refuse a pipeline whose definition could not be run."""
    if "PipelineDefinition" not in request:
        raise ApiError(
            "ValidationException",
            "Either Pipeline Definition or Pipeline Definition S3 location should be provided",
        )
    for name in pipelines.parse(request["PipelineDefinition"]).arguments:
        if name not in MODELLED or name == "TrainingJobName":
            raise not_modelled(f"{name} of a pipeline's training step")


def identity(caller: Caller) -> dict[str, str]:
    """IamIdentity: who made or began something."""
    found = {"Arn": caller.principal.arn, "PrincipalId": caller.user_id}
    source = caller.session.source_identity if caller.session else None
    return found if source is None else found | {"SourceIdentity": source}


def within(created: float, body: Mapping[str, Any]) -> bool:
    """Whether a time lies between a List request's ``CreatedAfter`` and ``CreatedBefore``."""
    return bool(body.get("CreatedAfter", 0) <= created <= body.get("CreatedBefore", created))
