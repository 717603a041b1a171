"""Definitions of pipelines and parameters of executions: pure."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fedsm.local.pipelines import job_name, parse, resolve, substitute, texts
from fedsm.local.protocol import ApiError

STEP: dict[str, Any] = {"Name": "a", "Type": "Training", "Arguments": {}}
TWICE = [{"Name": "A", "Type": "String"}, {"Name": "A", "Type": "String"}]
LONG = "x" * 65


def get(name: str) -> dict[str, str]:
    return {"Get": f"Parameters.{name}"}


def text(**parts: Any) -> str:
    return json.dumps({"Version": "2020-12-01", "Steps": [STEP], **parts})


def parameter(**more: Any) -> dict[str, Any]:
    return {"Parameters": [{"Name": "A", "Type": "String", **more}]}


def step(**more: Any) -> dict[str, Any]:
    return {"Steps": [STEP | more]}


def role(value: Any) -> dict[str, Any]:
    return step(Arguments={"Deep": [{"RoleArn": value}]})


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"Version": "2019-01-01"}, "Unknown version '2019-01-01'"),
        ({"Steps": {}}, "Expecting start of Json Array for Steps"),
        ({"Steps": []}, "not model a pipeline of 0 steps"),
        ({"Steps": [STEP, STEP]}, "not model a pipeline of 2 steps"),
        ({"Callbacks": []}, "not model Callbacks of the definition"),
        ({"PipelineExperimentConfig": {}}, "not model PipelineExperimentConfig"),
        (step(Type="Processing"), "not model a pipeline's step of type Processing"),
        (step(RetryPolicies=[]), "not model RetryPolicies of a step"),
        (step(Name="a b"), "'a b' is no name of a step"),
        (step(Arguments=[]), "Arguments are no object"),
        ({"Parameters": TWICE}, "A is there more than once"),
        (parameter(Name=LONG), "is no name of a parameter"),
        (parameter(Type="Int"), "unknown type 'Int'"),
        (parameter(Minimum=1), "not model Minimum of a parameter"),
        (parameter(DefaultValue=1), "cannot have the default 1"),
        (parameter(Type="Integer", DefaultValue=True), "cannot have the default True"),
        (parameter(EnumValues=["x"], DefaultValue="y"), "cannot have the default 'y'"),
        (parameter(EnumValues=[1]), "no list of strings"),
        (parameter(Type="Float", EnumValues=["1"]), "not model EnumValues of the Float"),
        (role(get("Role")), "The parameter Role is not defined"),
        (role({"Get": "Steps.b.x"}), "not model the reference Steps.b.x"),
        (role({"Get": "Execution.PipelineName"}), "not model the reference Execution"),
        (role({"Std:Join": {"On": "", "Values": []}}), "not model the function Std:Join"),
        (role({"Get": "Parameters.A", "Other": 1}), "A Get stands beside other fields"),
    ],
)
def test_what_is_no_definition_or_not_modelled_is_named(parts: Any, words: str) -> None:
    with pytest.raises(ApiError) as refused:
        parse(text(**parts))
    assert words in refused.value.message
    modelled = refused.value.code == "ValidationException"
    assert modelled == refused.value.message.startswith("Unable to parse pipeline definition.")


def test_parameters_replace_their_references() -> None:
    arguments = {"E": {"RUN": get("Run"), "FIXED": "Run"}, "L": [get("Count"), {"x": get("Deep")}]}
    definition = parse(
        text(
            **step(Arguments=arguments, DisplayName="shown"),
            Parameters=[
                {"Name": "Run"},
                {"Name": "Count", "Type": "Integer", "DefaultValue": 1},
                {"Name": "Deep", "Type": "Boolean", "DefaultValue": False},
            ],
        )
    )
    given = [{"Name": "Run", "Value": "Parameters.Count"}, {"Name": "Count", "Value": "-7"}]
    values = resolve(definition, given)
    assert substitute(definition.arguments, values) == {
        "E": {"RUN": "Parameters.Count", "FIXED": "Run"},
        "L": [-7, {"x": False}],
    }
    assert definition.shown == {"StepDisplayName": "shown"}
    assert texts(values)[1:] == [
        {"Name": "Count", "Value": "-7"},
        {"Name": "Deep", "Value": "false"},
    ]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([("Run", "x"), ("Image", "y")], "Unknown parameter 'Image'"),
        ([], "Parameter 'Run' is undefined"),
        ([("Run", "x"), ("Run", "y")], "'Run' is there more than once"),
        ([("Run", "")], "too short"),
        ([("run", "x")], "Unknown parameter 'run'"),
        ([("Run", "x"), ("Kind", "c")], "'c' of the parameter 'Kind' is not one of"),
        ([("Run", "x"), ("Count", "1.5")], "'1.5' is no Integer"),
        ([("Run", "x"), ("Rate", "nan")], "'nan' is no Float"),
        ([("Run", "x"), ("Deep", "1")], "'1' is no Boolean"),
    ],
)
def test_parameters_are_checked(given: Any, words: str) -> None:
    definition = parse(
        text(
            Parameters=[
                {"Name": "Run", "Type": "String"},
                {"Name": "Kind", "DefaultValue": "a", "EnumValues": ["a", "b"]},
                {"Name": "Count", "Type": "Integer", "DefaultValue": 1},
                {"Name": "Rate", "Type": "Float", "DefaultValue": 0.5},
                {"Name": "Deep", "Type": "Boolean", "DefaultValue": False},
            ]
        )
    )
    with pytest.raises(ApiError, match="ValidationException") as refused:
        resolve(definition, [{"Name": name, "Value": value} for name, value in given])
    assert words in refused.value.message


def test_a_jobs_name_fits() -> None:
    assert (
        job_name("abcdefghijkl", "step", "0123456789") == "pipelines-abcdefghijkl-step-0123456789"
    )
    cut = job_name("abcdefghijkl", "s" * 28 + "-" * 36, "0123456789")
    assert cut == f"pipelines-abcdefghijkl-{'s' * 28}-0123456789"
