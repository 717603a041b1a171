"""The kinds of value that ``federation.yaml`` and the parties' agreements hold.

Each fault of a field is one sentence for people, not a pattern.
"""

from __future__ import annotations

import ipaddress
import json
import re
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)


class Model(BaseModel):
    """A typed part of a file: unknown fields are faults."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _text(pattern: str, sentence: str, longest: int = 2048) -> AfterValidator:
    """A check of a whole text whose fault is ``sentence``, not the pattern."""
    compiled = re.compile(pattern, re.ASCII | re.DOTALL)

    def check(text: str) -> str:
        if len(text) > longest or not compiled.fullmatch(text):
            raise ValueError(sentence)
        return text

    return AfterValidator(check)


def _line(text: str) -> str:
    """Text that stays in one line wherever it is put: no control or format characters."""
    if len(text) > 256 or not text.isprintable():
        raise ValueError("must be one line of at most 256 printable characters")
    return text


def _range(text: str) -> str:
    if "/" in text or ":" in text:
        ipaddress.ip_network(text)
    return text


def _account_text(value: Any) -> Any:
    """YAML reads an unquoted account id as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


AccountId = Annotated[
    str,
    BeforeValidator(_account_text),
    _text(r"\d{12}", "must be an account id of twelve digits, quoted if it starts with 0"),
]
Region = Annotated[str, _text(r"[a-z]{2}(-[a-z]+)+-\d", "must be a Region, such as us-east-1")]
RoleArn = Annotated[
    str,
    _text(
        r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+",
        "must be a role's ARN, such as arn:aws:iam::111122223333:role/NAME",
    ),
]
Name = Annotated[
    str,
    _text(
        r"[a-z0-9](-?[a-z0-9])*",
        "must be lower-case letters and digits joined by single hyphens, at most 24 characters",
        24,
    ),
]
SubnetId = Annotated[str, _text(r"subnet-[0-9a-f]+", "must be a subnet's id, subnet-...")]
SecurityGroupId = Annotated[str, _text(r"sg-[0-9a-f]+", "must be a security group's id, sg-...")]
Sha256 = Annotated[
    str, _text(r"[0-9a-f]{64}", "must be a SHA-256 digest of 64 lower-case hexadecimal digits")
]
S3Uri = Annotated[
    str,
    _text(
        r"s3://[a-z0-9][a-z0-9.-]+[a-z0-9](/.*)?",
        "must be an S3 URI, such as s3://bucket/prefix/",
    ),
]
S3Prefix = Annotated[S3Uri, AfterValidator(lambda uri: uri.rstrip("/"))]
ChannelName = Annotated[
    str,
    _text(
        r"[A-Za-z0-9._-]+",
        "a channel's name has letters, digits, dots, hyphens and underscores, at most 64",
        64,
    ),
]
Hyperparameter = Annotated[
    str,
    _text(
        r"[a-z0-9]+(-[a-z0-9]+)*",
        "a hyperparameter's name is in kebab-case, such as learning-rate, at most 64 characters",
        64,
    ),
]
ExternalId = Annotated[
    str,
    _text(
        r"[\w+=,.@:/-]{2,}",
        "must be 2 to 1224 letters, digits and any of _+=,.@:/-",
        1224,
    ),
]
InstanceType = Annotated[
    str, _text(r"ml\.[a-z0-9-]+\.[a-z0-9]+", "must be an instance type, such as ml.m5.xlarge")
]
Initial = Annotated[
    str, _text(r"server|site|.+\.npz", "must be server, site, or the path of an .npz file", 4096)
]
Prefix = Annotated[
    str,
    _text(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*", "must be letters and digits joined by hyphens"),
]
Seconds = Annotated[float, Field(gt=0, le=28 * 86400)]
KmsKeyArn = Annotated[
    str,
    _text(
        r"arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key/[\w-]+",
        "must be a KMS key's ARN, such as arn:aws:kms:us-east-1:111122223333:key/ID",
    ),
]
PrincipalArn = Annotated[
    str,
    _text(
        r"arn:aws[a-z-]*:iam::\d{12}:(role|user)/[\w+=,.@/-]+",
        "must be the ARN of a role or user, such as arn:aws:iam::111122223333:role/NAME",
    ),
]
Line = Annotated[str, AfterValidator(_line)]
Host = Annotated[
    str,
    _text(
        r"[A-Za-z0-9.-]+|[A-Fa-f0-9.:]+(/\d{1,3})?",
        "must be a range of addresses, an address, or a host's name",
        253,
    ),
    AfterValidator(_range),
]
"""Where jobs dial."""

Moment = AwareDatetime
"""A date and time with its zone."""

Scalar = bool | int | float | str


class Limit(Model):
    """What a hyperparameter may be: one of ``choices``, or a number from ``low`` to ``high``.

    Without a limit a hyperparameter is fixed at its value. Choices are checked by the pipeline that
    starts the job, ranges by the job.
    """

    choices: Annotated[tuple[Scalar, ...], Field(max_length=100)] | None = None
    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Limit:
        number = self.low is not None and self.high is not None
        if number == bool(self.choices) or (self.low is None) != (self.high is None):
            raise ValueError("give either choices, or low and high")
        if number and not (self.low or 0) <= (self.high or 0):
            raise ValueError("low is above high")
        return self

    @property
    def texts(self) -> list[str] | None:
        """The choices as SageMaker gets them: JSON; ``None`` for a range."""
        return None if self.choices is None else [json.dumps(value) for value in self.choices]

    def allows(self, value: Scalar) -> bool:
        """Whether a value is within the limit."""
        if self.choices is not None:
            return json.dumps(value) in (self.texts or ())
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and self.low <= float(value) <= self.high  # type: ignore[operator]
