"""The SageMaker Pipelines actions: authorisation and answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from fedsm.local import pipelines, validation
from fedsm.local.authorise import SAGEMAKER, Ask, allow, resource_tags, tag_context
from fedsm.local.execution_role import enter
from fedsm.local.listing import ordered, page
from fedsm.local.pipeline_records import (
    Execution,
    ExecutionRecord,
    Executions,
    Pipeline,
    StepRecord,
    pipeline_arn,
    random_name,
)
from fedsm.local.pipeline_request import (
    FIELDS,
    REFUSED,
    TAGS,
    check_definition,
    check_fields,
    identity,
    resolve,
    within,
)
from fedsm.local.principals import Caller, Directory
from fedsm.local.protocol import ApiError, Call, Reply, json_reply
from fedsm.local.step_runner import StepRunner


class PipelinesApi:
    """Answers the actions on pipelines and their executions.

    Pipelines live in memory, as roles do; executions are kept, as training jobs are.
    """

    def __init__(self, executions: Executions, directory: Directory, steps: StepRunner) -> None:
        self._executions, self._directory, self._steps = executions, directory, steps
        self._pipelines: dict[str, Pipeline] = {}
        self._lock = threading.RLock()

    def owns(self, call: Call) -> bool:
        """Whether a SageMaker call is about pipelines."""
        action = call.headers.get("x-amz-target", "").rpartition(".")[2]
        if action in TAGS:
            return ":pipeline/" in str(call.json().get("ResourceArn", ""))
        return action in FIELDS or action in REFUSED

    def answer(self, call: Call, caller: Caller) -> Reply:
        """Validate, authorise and carry out one action.

        Raises
        ------
        ApiError
            In SageMaker's codes and words.
        """
        action = call.headers["x-amz-target"].rpartition(".")[2]
        body = call.json()
        validation.check(action, body)
        with self._lock:
            if action in TAGS:
                return json_reply(self._tag(call, caller, action, body))
            arn = "*" if action == "ListPipelines" else resolve(call, caller, body)
            self._judge(call, caller, action, arn, tag_context(body.get("Tags", [])))
            check_fields(action, body)
            if "/execution/" in arn:
                return json_reply(self._on_execution(action, arn, body))
            if action == "CreatePipeline":
                return json_reply(self._create(call, caller, arn, body))
            if action == "ListPipelines":
                return json_reply(self._list(call, caller, body))
            return json_reply(self._on_pipeline(call, caller, action, self._find(arn), body))

    def _judge(
        self,
        call: Call,
        caller: Caller,
        action: str,
        arn: str,
        context: Mapping[str, Sequence[str]],
    ) -> None:
        owner = caller.principal.account if arn == "*" else arn.split(":")[4]
        pipeline = self._pipelines.get(arn)
        tags = {} if pipeline is None else resource_tags(pipeline.tags, "sagemaker")
        allow(call, caller, Ask(f"sagemaker:{action}", arn, owner, {**context, **tags}))

    def _find(self, arn: str) -> Pipeline:
        if arn not in self._pipelines:
            raise ApiError("ResourceNotFound", f"Pipeline '{arn}' does not exist.")
        return self._pipelines[arn]

    # Pipelines ------------------------------------------------------------------------------

    def _on_pipeline(
        self, call: Call, caller: Caller, action: str, pipeline: Pipeline, body: dict[str, Any]
    ) -> dict[str, Any]:
        if action == "DescribePipeline":
            return pipeline.describe()
        if action == "UpdatePipeline":
            self._update(call, caller, pipeline, body)
        elif action == "DeletePipeline":
            self._delete(pipeline)
        elif action == "StartPipelineExecution":
            return {"PipelineExecutionArn": self._begin(caller, pipeline, body).arn}
        else:
            keys = {
                "CreationTime": lambda found: found.record.created,
                "PipelineExecutionArn": lambda found: found.arn,
            }
            among = self._executions.of(pipeline.arn)
            found = [e for e in among if within(e.record.created, body)]
            shown, more = page(ordered(found, body, keys), body)
            return {"PipelineExecutionSummaries": [e.summary() for e in shown], **more}
        return {"PipelineArn": pipeline.arn}

    def _create(self, call: Call, caller: Caller, arn: str, body: dict[str, Any]) -> dict[str, Any]:
        if body.get("Tags"):
            tagging = {"sagemaker:taggingaction": ["CreatePipeline"]}
            self._judge(call, caller, "AddTags", arn, tag_context(body["Tags"]) | tagging)
        self._check_role(call, caller, arn, body["RoleArn"])
        check_definition(body)
        found = self._pipelines.get(arn)
        if found is not None and found.created_with != body:
            raise ApiError(
                "ValidationException",
                "Pipeline names must be unique within an AWS account and region. Pipeline with "
                f"name ({body['PipelineName']}) already exists.",
            )
        now = time.time()
        tags = {tag["Key"]: tag["Value"] for tag in body.get("Tags", [])}
        request = {name: value for name, value in body.items() if name != "Tags"}
        by = identity(caller)
        if found is None:
            self._pipelines[arn] = Pipeline(arn, request, body, by, by, now, now, tags)
        return {"PipelineArn": arn}

    def _update(self, call: Call, caller: Caller, pipeline: Pipeline, body: dict[str, Any]) -> None:
        changed = pipeline.request | body
        if "RoleArn" in body:
            self._check_role(call, caller, pipeline.arn, body["RoleArn"])
        check_definition(changed)
        pipeline.request, pipeline.modified = changed, time.time()
        pipeline.changed_by = identity(caller)

    def _check_role(self, call: Call, caller: Caller, arn: str, role: str) -> None:
        account = caller.principal.account
        if role.split(":")[4] != account:
            raise ApiError(
                "ValidationException", "RoleArn: Cross-account pass role is not allowed."
            )
        passed = {"iam:passedtoservice": [SAGEMAKER], "iam:associatedresourcearn": [arn]}
        allow(call, caller, Ask("iam:PassRole", role, account, passed))
        enter(call, self._directory, role, account, source=arn)

    def _delete(self, pipeline: Pipeline) -> None:
        if any(not execution.done.is_set() for execution in self._executions.of(pipeline.arn)):
            raise ApiError(
                "ConflictException",
                f"The pipeline {pipeline.arn} has executions that run: stop them first.",
            )
        del self._pipelines[pipeline.arn]
        self._executions.forget(pipeline.arn)

    def _list(self, call: Call, caller: Caller, body: dict[str, Any]) -> dict[str, Any]:
        prefix = pipeline_arn(caller.principal.account, call.region, "")
        begins = body.get("PipelineNamePrefix", "")
        found = [
            pipeline
            for arn, pipeline in self._pipelines.items()
            if arn.startswith(prefix)
            and pipeline.request["PipelineName"].startswith(begins)
            and within(pipeline.created, body)
        ]
        keys = {
            "CreationTime": lambda pipeline: pipeline.created,
            "Name": lambda pipeline: pipeline.request["PipelineName"],
        }
        shown, more = page(ordered(found, body, keys), body)
        return {"PipelineSummaries": [pipeline.summary() for pipeline in shown], **more}

    def _tag(self, call: Call, caller: Caller, action: str, body: dict[str, Any]) -> dict[str, Any]:
        arn = resolve(call, caller, {"PipelineArn": body["ResourceArn"]})
        context = tag_context(body.get("Tags", []))
        if "TagKeys" in body:
            context["aws:tagkeys"] = body["TagKeys"]
        self._judge(call, caller, action, arn, context)
        tags = self._find(arn).tags
        tags.update({tag["Key"]: tag["Value"] for tag in body.get("Tags", [])})
        for key in body.get("TagKeys", []):
            tags.pop(key, None)
        listed = [{"Key": key, "Value": value} for key, value in tags.items()]
        return {} if action == "DeleteTags" else {"Tags": listed}

    # Executions -----------------------------------------------------------------------------

    def _begin(self, caller: Caller, pipeline: Pipeline, body: dict[str, Any]) -> Execution:
        """Start an execution, or find the one that this very request started."""
        begun = self._executions.begun_by(pipeline.arn, body["ClientRequestToken"])
        if begun is not None:
            if begun.record.request != {**body, "PipelineName": pipeline.arn}:
                raise ApiError(
                    "ConflictException",
                    "The ClientRequestToken was used before, with other parameters.",
                )
            return begun
        definition = pipelines.parse(pipeline.request["PipelineDefinition"])
        now = time.time()
        account = caller.principal.account
        record = ExecutionRecord(
            account=account,
            region=pipeline.arn.split(":")[3],
            pipeline=pipeline.request["PipelineName"],
            execution=random_name(12),
            request={**body, "PipelineName": pipeline.arn},
            definition=pipeline.request["PipelineDefinition"],
            role_arn=pipeline.request["RoleArn"],
            parameters=pipelines.resolve(definition, body.get("PipelineParameters", [])),
            by=identity(caller),
            step=StepRecord(definition.step, dict(definition.shown), started=now),
            created=now,
            modified=now,
        )
        execution = self._executions.add(record)
        pipeline.last_run = now
        self._steps.start(execution)
        return execution

    def _on_execution(self, action: str, arn: str, body: dict[str, Any]) -> dict[str, Any]:
        execution = self._executions.get(arn)
        if execution is None:
            raise ApiError("ResourceNotFound", f"Pipeline execution '{arn}' does not exist.")
        if action == "DescribePipelineExecution":
            return execution.describe()
        if action == "ListPipelineExecutionSteps":
            return {"PipelineExecutionSteps": execution.steps()}
        record = execution.record
        if action == "ListPipelineParametersForExecution":
            shown, more = page(pipelines.texts(record.parameters), body)
            return {"PipelineParameters": shown, **more}
        if action == "DescribePipelineDefinitionForExecution":
            return {"PipelineDefinition": record.definition, "CreationTime": record.created}
        if not execution.begin_stop(body["ClientRequestToken"]):
            raise ApiError(
                "ValidationException",
                f"Pipeline execution with ARN {arn} status '{record.status}'. Only pipelines with "
                "'Executing' status can be stopped.",
            )
        return {"PipelineExecutionArn": arn}
