"""Check a request against botocore's model of the operation: types, lengths, patterns, enums."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import botocore.session
from botocore.validate import ParamValidator

from fedsm.local.protocol import ApiError


@cache
def _model(service: str) -> Any:
    return botocore.session.Session().get_service_model(service)


def load() -> None:
    """Read the largest service model ahead of the first request."""
    _model("sagemaker").operation_model("CreateTrainingJob").input_shape  # noqa: B018


@cache
def fields(service: str, operation: str) -> tuple[str, ...] | None:
    """Names of an operation's parameters; None for no operation of the service."""
    model = _model(service)
    if operation not in model.operation_names:
        return None
    shape = model.operation_model(operation).input_shape
    return () if shape is None else tuple(shape.members)


def check(operation: str, body: dict[str, Any]) -> None:
    """Refuse a SageMaker request that AWS's own validation would refuse.

    Raises
    ------
    ApiError
        ValidationException that lists every fault.
    """
    shape = _model("sagemaker").operation_model(operation).input_shape
    report = ParamValidator().validate(body, shape)
    faults = [report.generate_report()] if report.has_errors() else list(_faults(shape, body, ""))
    if faults:
        count = f"{len(faults)} validation error{'s' if len(faults) > 1 else ''} detected"
        raise ApiError("ValidationException", f"{count}: {'; '.join(faults)}")


def _faults(shape: Any, value: Any, where: str) -> Iterator[str]:
    limits = shape.metadata
    size = value if shape.type_name in ("integer", "long", "float", "double") else None
    if shape.type_name in ("string", "list", "map"):
        size = len(value)
    unit = "value" if not isinstance(value, str | list | dict) else "length"
    if size is not None and "min" in limits and size < limits["min"]:
        yield _fault(value, where, f"{unit} greater than or equal to {limits['min']}")
    if size is not None and "max" in limits and size > limits["max"]:
        yield _fault(value, where, f"{unit} less than or equal to {limits['max']}")
    if shape.type_name == "string":
        if "enum" in limits and value not in limits["enum"]:
            yield _fault(value, where, f"enum value set: [{', '.join(limits['enum'])}]")
        if "pattern" in limits and not _pattern(limits["pattern"]).fullmatch(value):
            yield _fault(value, where, f"regular expression pattern: {limits['pattern']}")
    elif shape.type_name == "structure":
        for name, member in shape.members.items():
            if name in value:
                yield from _faults(member, value[name], f"{where}.{name}" if where else name)
    elif shape.type_name == "list":
        for index, item in enumerate(value, 1):
            yield from _faults(shape.member, item, f"{where}.{index}.member")
    elif shape.type_name == "map":
        for key, item in value.items():
            yield from _faults(shape.key, key, f"{where}.key")
            yield from _faults(shape.value, item, f"{where}.{key}")


def _fault(value: Any, where: str, constraint: str) -> str:
    shown = value if isinstance(value, str | int | float) else f"{len(value)} members"
    field = where[:1].lower() + where[1:]
    return (
        f"Value '{str(shown)[:200]}' at '{field}' failed to satisfy constraint: "
        f"Member must satisfy {constraint}"
    )


@cache
def _pattern(pattern: str) -> re.Pattern[str]:
    # The model's patterns are Java's: Python's re has no Unicode classes by name.
    for java, python in (("\\p{L}", "\\w"), ("\\p{Z}", "\\s"), ("\\p{N}", "\\d")):
        pattern = pattern.replace(java, python)
    return re.compile(pattern, re.DOTALL)
