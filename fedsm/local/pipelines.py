"""A pipeline's definition: read it, check the parameters of an execution, put them in. Pure.

Source: SageMaker Developer Guide, "Pipelines overview" and "Pipeline parameters", and the JSON
schema of pipeline definitions that AWS publishes. Modelled is one step of type Training whose
arguments take parameters by ``{"Get": "Parameters.<name>"}``; all else is refused by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedsm.local.protocol import ApiError, not_modelled

VERSION = "2020-12-01"
MAX_JOB_NAME = 63

Value = str | int | float | bool

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_KINDS: dict[str, tuple[type, ...]] = {
    "String": (str,),
    "Integer": (int,),
    "Float": (int, float),
    "Boolean": (bool,),
}
_SAID = {
    "Integer": re.compile(r"[+-]?\d+"),
    "Float": re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"),
    "Boolean": re.compile(r"true|false", re.IGNORECASE),
}
_TOP = {"Version", "Metadata", "Parameters", "PipelineExperimentConfig", "Steps"}
_PARAMETER = {"Name", "Type", "DefaultValue", "EnumValues", "Description"}
_STEP = {"Name", "Type", "Arguments", "DisplayName", "Description"}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a pipeline; without ``default`` each execution must give it."""

    name: str
    kind: str
    default: Value | None
    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Definition:
    """A pipeline of one training step.

    Attributes
    ----------
    arguments : Mapping
        The step's CreateTrainingJob request, with its references to parameters.
    shown : Mapping[str, str]
        ``StepDisplayName`` and ``StepDescription``, where the step has them.
    """

    parameters: Mapping[str, Parameter]
    step: str
    arguments: Mapping[str, Any]
    shown: Mapping[str, str]


def parse(text: str) -> Definition:
    """Read a definition.

    Raises
    ------
    ApiError
        ValidationException for one that SageMaker would not take; what is not modelled, by name.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise _unreadable(f"Not valid JSON: {error}") from None
    document = _object(document, "the definition", _TOP)
    if document.get("Version", VERSION) != VERSION:
        raise _unreadable(f"Unknown version {document['Version']!r}")
    if document.get("PipelineExperimentConfig") is not None:
        raise not_modelled("PipelineExperimentConfig of a pipeline's definition")
    parameters: dict[str, Parameter] = {}
    for item in _list(document.get("Parameters", []), "Parameters"):
        parameter = _parameter(item)
        if parameter.name in parameters:
            raise _unreadable(f"The parameter {parameter.name} is there more than once")
        parameters[parameter.name] = parameter
    steps = _list(document.get("Steps"), "Steps")
    if len(steps) != 1:
        raise not_modelled(f"a pipeline of {len(steps)} steps")
    return _step(steps[0], parameters)


def _step(value: Any, parameters: Mapping[str, Parameter]) -> Definition:
    if isinstance(value, dict) and value.get("Type") != "Training":
        raise not_modelled(f"a pipeline's step of type {value.get('Type')}")
    step = _object(value, "a step", _STEP)
    name = step.get("Name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _unreadable(f"{name!r} is no name of a step")
    arguments = step.get("Arguments")
    if not isinstance(arguments, dict):
        raise _unreadable("A step's Arguments are no object")
    for reference in _references(arguments):
        if reference not in parameters:
            raise _unreadable(f"The parameter {reference} is not defined")
    said = [field for field in ("DisplayName", "Description") if field in step]
    shown = {f"Step{field}": str(step[field]) for field in said}
    return Definition(parameters, name, arguments, shown)


def _parameter(value: Any) -> Parameter:
    found: dict[str, Any] = _object(value, "a parameter", _PARAMETER)
    name, kind = found.get("Name"), found.get("Type", "String")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _unreadable(f"{name!r} is no name of a parameter: it has 1 to 64 of A-Z a-z 0-9 _ -")
    if kind not in _KINDS:
        raise _unreadable(f"The parameter {name} has the unknown type {kind!r}")
    choices = found.get("EnumValues") or []
    if choices and kind != "String":
        raise not_modelled(f"EnumValues of the {kind} parameter {name}")
    if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
        raise _unreadable(f"EnumValues of the parameter {name} is no list of strings")
    default = found.get("DefaultValue")
    fits = isinstance(default, _KINDS[kind]) and isinstance(default, bool) == (kind == "Boolean")
    if default is not None and (not fits or (choices and default not in choices)):
        raise _unreadable(f"The parameter {name} cannot have the default {default!r}")
    return Parameter(name, kind, default, tuple(choices))


def resolve(definition: Definition, given: Sequence[Mapping[str, str]]) -> dict[str, Value]:
    """The value of every parameter for one execution.

    Parameters
    ----------
    given : sequence of Mapping
        ``PipelineParameters`` of StartPipelineExecution: ``Name`` and ``Value``, a string.

    Raises
    ------
    ApiError
        ValidationException: a parameter is unknown, repeated, missing, empty, of another type or
        none of its enumerated values.
    """
    values: dict[str, Value] = {}
    for item in given:
        name = item["Name"]
        if name not in definition.parameters:
            raise _invalid(f"Unknown parameter '{name}'.")
        if name in values:
            raise _invalid(f"The parameter '{name}' is there more than once.")
        values[name] = _value(definition.parameters[name], item["Value"])
    for name, parameter in definition.parameters.items():
        if name not in values:
            if parameter.default is None:
                raise _invalid(f"Parameter '{name}' is undefined.")
            values[name] = parameter.default
    return values


def _value(parameter: Parameter, text: str) -> Value:
    if not text:
        raise _invalid('[string "" is too short (length: 0, required minimum: 1)]')
    if parameter.choices and text not in parameter.choices:
        raise _invalid(
            f"The value '{text}' of the parameter '{parameter.name}' is not one of "
            f"{list(parameter.choices)}."
        )
    if parameter.kind == "String":
        return text
    if not _SAID[parameter.kind].fullmatch(text):
        raise _invalid(
            f"Unexpected type for parameter '{parameter.name}': '{text}' is no {parameter.kind}."
        )
    if parameter.kind == "Boolean":
        return text.lower() == "true"
    return int(text) if parameter.kind == "Integer" else float(text)


def substitute(value: Any, values: Mapping[str, Value]) -> Any:
    """The arguments of a step, with the values of the parameters in the place of references."""
    if isinstance(value, dict):
        if set(value) == {"Get"}:
            return values[_reference(value["Get"])]
        return {name: substitute(member, values) for name, member in value.items()}
    return [substitute(item, values) for item in value] if isinstance(value, list) else value


def texts(values: Mapping[str, Value]) -> list[dict[str, str]]:
    """Parameters as ListPipelineParametersForExecution shows them."""
    return [
        {"Name": name, "Value": str(value).lower() if isinstance(value, bool) else str(value)}
        for name, value in values.items()
    ]


def job_name(execution: str, step: str, suffix: str) -> str:
    """Name of a step's job; a step's name that is too long is cut."""
    room = MAX_JOB_NAME - len(f"pipelines-{execution}--{suffix}")
    return f"pipelines-{execution}-{step[:room].rstrip('-')}-{suffix}"


def _references(value: Any) -> Iterator[str]:
    """Names of the parameters that arguments refer to."""
    if isinstance(value, list):
        for item in value:
            yield from _references(item)
    elif isinstance(value, dict):
        for name, member in value.items():
            if name.startswith("Std:"):
                raise not_modelled(f"the function {name} of a pipeline's definition")
            if name == "Get":
                if len(value) > 1:
                    raise _unreadable("A Get stands beside other fields")
                yield _reference(member)
            else:
                yield from _references(member)


def _reference(value: Any) -> str:
    kind, _, name = str(value).partition(".")
    if kind != "Parameters" or not _NAME.fullmatch(name):
        raise not_modelled(f"the reference {value} of a pipeline's definition")
    return name


def _object(value: Any, what: str, known: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _unreadable(f"{what.capitalize()} is no object")
    for name in value:
        if name not in known:
            raise not_modelled(f"{name} of {what} of a pipeline")
    return value


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise _unreadable(f"Expecting start of Json Array for {what}")
    return value


def _unreadable(what: str) -> ApiError:
    return _invalid(f"Unable to parse pipeline definition. {what}.")


def _invalid(what: str) -> ApiError:
    return ApiError("ValidationException", what)
