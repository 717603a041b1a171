"""IAM condition operators: pure functions over strings.

Source: IAM User Guide, "IAM JSON policy elements: Condition operators", "Conditions with multiple
context keys or values" and "Variables and tags".
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache

Context = Mapping[str, Sequence[str]]
"""Context key in lower case -> its values; an absent key is not in the mapping."""


UNKNOWN: tuple[str, ...] = ("unknown",)
"""In the place of a key's values: AWS would know them in this request, the cloud does not."""


class UnmodelledPolicy(Exception):  # noqa: N818
    """A policy uses an operator, key or element that the evaluator does not model."""


class MalformedPolicy(Exception):  # noqa: N818
    """A policy document is not one."""


MODELLED_KEYS = frozenset(
    {
        "aws:currenttime",
        "aws:epochtime",
        "aws:principalaccount",
        "aws:principalarn",
        "aws:principalisawsservice",
        "aws:principaltype",
        "aws:requestedregion",
        "aws:resourceaccount",
        "aws:securetransport",
        "aws:sourceaccount",
        "aws:sourcearn",
        "aws:sourceidentity",
        "aws:sourceip",
        "aws:tagkeys",
        "aws:tokenissuetime",
        "aws:useragent",
        "aws:userid",
        "aws:username",
        "aws:viaawsservice",
        "ec2:region",
        "ec2:securitygroupid",
        "ec2:subnet",
        "ec2:subnetid",
        "ec2:vpc",
        "iam:associatedresourcearn",
        "iam:passedtoservice",
        "iam:permissionsboundary",
        "iam:policyarn",
        "kms:calleraccount",
        "kms:encryptioncontextkeys",
        "kms:grantisforawsresource",
        "kms:requestalias",
        "kms:viaservice",
        "s3:authtype",
        "s3:delimiter",
        "s3:if-match",
        "s3:if-none-match",
        "s3:max-keys",
        "s3:objectcreationoperation",
        "s3:prefix",
        "s3:resourceaccount",
        "s3:signatureversion",
        "s3:versionid",
        "s3:x-amz-acl",
        "s3:x-amz-content-sha256",
        "s3:x-amz-server-side-encryption",
        "s3:x-amz-server-side-encryption-aws-kms-key-id",
        "s3:x-amz-storage-class",
        "sagemaker:enableremotedebug",
        "sagemaker:filesystemaccessmode",
        "sagemaker:filesystemdirectorypath",
        "sagemaker:filesystemid",
        "sagemaker:filesystemtype",
        "sagemaker:instancetypes",
        "sagemaker:intercontainertrafficencryption",
        "sagemaker:keepaliveperiod",
        "sagemaker:maxruntimeinseconds",
        "sagemaker:networkisolation",
        "sagemaker:outputkmskey",
        "sagemaker:taggingaction",
        "sagemaker:volumekmskey",
        "sagemaker:vpcsecuritygroupids",
        "sagemaker:vpcsubnets",
        "sts:externalid",
        "sts:rolesessionname",
        "sts:sourceidentity",
        "sts:transitivetagkeys",
    }
)
MODELLED_PREFIXES = (
    "aws:principaltag/",
    "aws:requesttag/",
    "aws:resourcetag/",
    "kms:encryptioncontext:",
    "sagemaker:resourcetag/",
    "iam:resourcetag/",
)
"""Keys for which the cloud fills the context; a policy on any other key cannot be judged."""

_VARIABLE = re.compile(r"\$\{([^},]+)(?:,\s*'([^']*)')?\}")


def modelled(key: str) -> bool:
    """Whether the cloud knows the value of a condition key."""
    lowered = key.lower()
    return lowered in MODELLED_KEYS or lowered.startswith(MODELLED_PREFIXES)


def matches(pattern: str, value: str, context: Context | None = None) -> bool:
    """Case-sensitive match with ``*`` and ``?``; variables are replaced when ``context`` is given.

    A variable whose key is absent or has several values matches nothing. What a variable stands
    for is literal: a ``*`` in it is no wildcard.
    """
    if context is not None and "${" in pattern:
        parts, position = [], 0
        for found in _VARIABLE.finditer(pattern):
            replacement = _variable(found, context)
            if replacement is None:
                return False
            parts += [_wildcards(pattern[position : found.start()]), re.escape(replacement)]
            position = found.end()
        parts.append(_wildcards(pattern[position:]))
        return re.fullmatch("".join(parts), value, re.DOTALL) is not None
    return _compiled(pattern).fullmatch(value) is not None


def _variable(found: re.Match[str], context: Context) -> str | None:
    name, default = found.group(1).strip(), found.group(2)
    if name in ("*", "?", "$"):
        return name
    if not modelled(name):
        raise UnmodelledPolicy(f"the policy variable ${{{name}}}")
    values = _values(name, context)
    return values[0] if len(values) == 1 else default


def _values(key: str, context: Context) -> Sequence[str]:
    values = context.get(key.lower(), ())
    if values is UNKNOWN:
        raise UnmodelledPolicy(f"the condition key {key} of this request")
    return values


def _wildcards(pattern: str) -> str:
    return "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern)


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(_wildcards(pattern), re.DOTALL)


def arn_matches(pattern: str, value: str, context: Context | None = None) -> bool:
    """Each of an ARN's six parts matches by itself, so ``*`` does not reach over a colon."""
    patterns, values = pattern.split(":", 5), value.split(":", 5)
    if pattern == "*":
        return True
    if len(patterns) != 6 or len(values) != 6:
        return False
    return all(matches(p, v, context) for p, v in zip(patterns, values, strict=True))


def _substitute(text: str, context: Context) -> str | None:
    """``text`` with its variables replaced; None when one has no single value."""
    pieces, position = [], 0
    for found in _VARIABLE.finditer(text):
        replacement = _variable(found, context)
        if replacement is None:
            return None
        pieces += [text[position : found.start()], replacement]
        position = found.end()
    return "".join([*pieces, text[position:]])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise MalformedPolicy(f"{text!r} is not a number") from None


def _date(text: str) -> datetime:
    try:
        if re.fullmatch(r"\d+(\.\d+)?", text) and len(text) > 4:
            return datetime.fromtimestamp(float(text), UTC)
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise MalformedPolicy(f"{text!r} is not a date") from None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _in_network(have: str, want: str) -> bool:
    try:
        return ipaddress.ip_address(have) in ipaddress.ip_network(want, strict=False)
    except ValueError:
        raise MalformedPolicy(f"{want!r} is not an address range") from None


Test = Callable[[str, str, Context], bool]


def _literal(test: Callable[[str, str], bool]) -> Test:
    """A test on the value in the policy after its variables are replaced."""

    def run(have: str, want: str, context: Context) -> bool:
        replaced = _substitute(want, context) if "${" in want else want
        return replaced is not None and test(have, replaced)

    return run


_POSITIVE: dict[str, Test] = {
    "StringEquals": _literal(lambda have, want: have == want),
    "StringEqualsIgnoreCase": _literal(lambda have, want: have.lower() == want.lower()),
    "StringLike": lambda have, want, context: matches(want, have, context),
    "NumericEquals": _literal(lambda have, want: _number(have) == _number(want)),
    "NumericLessThan": _literal(lambda have, want: _number(have) < _number(want)),
    "NumericLessThanEquals": _literal(lambda have, want: _number(have) <= _number(want)),
    "NumericGreaterThan": _literal(lambda have, want: _number(have) > _number(want)),
    "NumericGreaterThanEquals": _literal(lambda have, want: _number(have) >= _number(want)),
    "DateEquals": _literal(lambda have, want: _date(have) == _date(want)),
    "DateLessThan": _literal(lambda have, want: _date(have) < _date(want)),
    "DateLessThanEquals": _literal(lambda have, want: _date(have) <= _date(want)),
    "DateGreaterThan": _literal(lambda have, want: _date(have) > _date(want)),
    "DateGreaterThanEquals": _literal(lambda have, want: _date(have) >= _date(want)),
    "Bool": _literal(lambda have, want: have.lower() == want.lower()),
    "IpAddress": _literal(_in_network),
    "ArnEquals": lambda have, want, context: arn_matches(want, have, context),
    "ArnLike": lambda have, want, context: arn_matches(want, have, context),
}
_NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "NumericNotEquals": "NumericEquals",
    "DateNotEquals": "DateEquals",
    "NotIpAddress": "IpAddress",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
}


def holds(operator: str, key: str, wanted: Sequence[str], context: Context) -> bool:
    """Whether one condition is true.

    Parameters
    ----------
    operator : str
        As in the policy, with ``ForAnyValue:``/``ForAllValues:`` and ``IfExists``.
    key : str
        Condition key, in any case.
    wanted : sequence of str
        The policy's values; one of them must match (for a negated operator: none may).

    Raises
    ------
    UnmodelledPolicy
        Names the operator or key.
    """
    quantifier, _, name = operator.rpartition(":")
    if quantifier not in ("", "ForAnyValue", "ForAllValues"):
        raise UnmodelledPolicy(f"the condition operator {operator}")
    if not modelled(key):
        raise UnmodelledPolicy(f"the condition key {key}")
    have = list(_values(key, context))
    if name == "Null":
        return any((value.lower() == "true") == (not have) for value in wanted)
    optional = name.endswith("IfExists")
    name = name.removesuffix("IfExists")
    negated = name in _NEGATED
    test = _POSITIVE.get(_NEGATED.get(name, name))
    if test is None:
        raise UnmodelledPolicy(f"the condition operator {operator}")
    if not have:
        if quantifier:
            return quantifier == "ForAllValues" or optional
        return optional or negated
    verdicts = [any(test(value, want, context) for want in wanted) != negated for value in have]
    if quantifier == "ForAnyValue":
        return any(verdicts)
    if quantifier == "ForAllValues" or negated:
        return all(verdicts)
    return any(verdicts)
