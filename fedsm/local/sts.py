"""AssumeRole and GetCallerIdentity, with the checks that AWS makes."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from datetime import timedelta
from xml.sax.saxutils import escape

from fedsm.local import backends
from fedsm.local.authorise import SAGEMAKER, Ask, denied, judge, service_caller, tag_context
from fedsm.local.iam import Decision, MalformedPolicy, Policy, parse
from fedsm.local.principals import Caller, Directory, Session
from fedsm.local.protocol import ApiError, Call, Reply, members, not_modelled

CHAINED_LIMIT = 3600
_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_EXTERNAL_ID = re.compile(r"[\w+=,.@:/-]{2,1224}", re.ASCII)


def answer(call: Call, caller: Caller, directory: Directory) -> Reply:
    """Answer a call to STS.

    Raises
    ------
    ApiError
        AccessDenied, ValidationError or an action that is not modelled.
    """
    action = call.form.get("Action", "")
    if action == "GetCallerIdentity":
        return _reply(
            action,
            f"<Arn>{escape(caller.principal.arn)}</Arn><UserId>{escape(caller.user_id)}</UserId>"
            f"<Account>{caller.principal.account}</Account>",
        )
    if action == "AssumeRole":
        return _assumed(assume_role(call, caller, directory))
    raise not_modelled(f"sts:{action}")


def assume_role(call: Call, caller: Caller, directory: Directory) -> Session:
    """Check an AssumeRole request and open the session."""
    form = call.form
    arn, name = form.get("RoleArn", ""), form.get("RoleSessionName", "")
    _require(_NAME, name, "roleSessionName")
    if "ExternalId" in form:
        _require(_EXTERNAL_ID, form["ExternalId"], "externalId")
    identity = _source_identity(form, caller)
    tags = members(form, "Tags")
    keys: dict[str, Sequence[str]] = {"sts:rolesessionname": [name], **tag_context(tags)}
    if "ExternalId" in form:
        keys["sts:externalid"] = [form["ExternalId"]]
    if identity:
        keys["sts:sourceidentity"] = [identity]
    role = backends.find_role(arn)
    actions = ["sts:AssumeRole"]
    actions += ["sts:SetSourceIdentity"] if identity else []
    actions += ["sts:TagSession"] if tags else []
    for action in actions:
        if role is None or role.account_id not in directory.accounts:
            raise _refused(caller, action, arn)
        context = keys | {
            f"aws:resourcetag/{tag['Key'].lower()}": [tag["Value"]] for tag in role.tags or []
        }
        trust = role.assume_role_policy_document
        ask = Ask(action, arn, role.account_id, context, trust, resource_must_allow=True)
        decision = judge(call, caller, ask)
        if not decision.allowed:
            raise _refused(caller, action, arn)
    return directory.open_session(
        role,
        name,
        timedelta(seconds=_duration(form, caller, role)),
        policies=_session_policies(form, caller),
        source_identity=identity,
        tags={tag["Key"]: tag["Value"] for tag in tags},
    )


def service_session(
    call: Call,
    directory: Directory,
    role_arn: str,
    account: str,
    lifetime: timedelta,
    *,
    source: str = "",
    name: str = "SageMaker",
) -> Session | None:
    """A session of a role for SageMaker, None when the role does not trust it.

    Parameters
    ----------
    account, source : str
        The account, and the ARN of the resource, for which SageMaker acts.
    """
    role = backends.find_role(role_arn)
    if role is None or role.account_id != account:
        return None
    trust = role.assume_role_policy_document
    ask = Ask("sts:AssumeRole", role_arn, account, {}, trust, resource_must_allow=True)
    if not judge(call, service_caller(SAGEMAKER, account, source), ask).allowed:
        return None
    return directory.open_session(role, name, lifetime)


def _refused(caller: Caller, action: str, arn: str) -> ApiError:
    # AWS says the same for a missing role, a trust policy and an external id: it tells no more.
    error = denied(caller, action, arn, Decision(False))
    return ApiError(error.code, error.message.rstrip(), error.status)


def _source_identity(form: dict[str, str], caller: Caller) -> str | None:
    asked = form.get("SourceIdentity")
    if asked is not None:
        _require(_NAME, asked, "sourceIdentity")
    inherited = caller.session.source_identity if caller.session else None
    if inherited and asked and asked != inherited:
        raise ApiError(
            "AccessDenied", f"SourceIdentity is already set to {inherited} and cannot change", 403
        )
    return inherited or asked


def _duration(form: dict[str, str], caller: Caller, role: object) -> int:
    text = form.get("DurationSeconds", "3600")
    if not text.isdigit() or int(text) < 900:
        raise ApiError("ValidationError", "DurationSeconds must be at least 900")
    seconds = int(text)
    if caller.session is not None and seconds > CHAINED_LIMIT:
        raise ApiError(
            "ValidationError",
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by "
            "role chaining",
        )
    if seconds > int(getattr(role, "max_session_duration", None) or 3600):
        raise ApiError(
            "ValidationError",
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
        )
    return seconds


def _session_policies(form: dict[str, str], caller: Caller) -> list[Policy] | None:
    documents = [form["Policy"]] if "Policy" in form else []
    for member in members(form, "PolicyArns"):
        account = member.get("arn", "").split(":")[4:5]
        document = backends.managed_document(member["arn"], account[0]) if account else None
        if document is None:
            raise ApiError("ValidationError", f"the policy {member.get('arn')} does not exist")
        documents.append(document)
    if len(form.get("Policy", "")) > 2048:
        raise ApiError("PackedPolicyTooLarge", "the session policy is longer than 2,048 characters")
    try:
        return [parse(document) for document in documents] or None
    except MalformedPolicy as error:
        raise ApiError("MalformedPolicyDocument", f"the session policy: {error}") from error


def _require(pattern: re.Pattern[str], value: str, field: str) -> None:
    if not pattern.fullmatch(value):
        raise ApiError(
            "ValidationError",
            f"1 validation error detected: Value '{value}' at '{field}' failed to satisfy "
            f"constraint: Member must satisfy regular expression pattern: {pattern.pattern}",
        )


def _assumed(session: Session) -> Reply:
    source = f"<SourceIdentity>{escape(session.source_identity or '')}</SourceIdentity>"
    return _reply(
        "AssumeRole",
        f"<AssumedRoleUser><AssumedRoleId>{session.role_id}:{escape(session.name)}</AssumedRoleId>"
        f"<Arn>{escape(session.arn)}</Arn></AssumedRoleUser>"
        f"<Credentials><AccessKeyId>{session.access_key_id}</AccessKeyId>"
        f"<SecretAccessKey>{session.secret_key}</SecretAccessKey>"
        f"<SessionToken>{session.token}</SessionToken>"
        f"<Expiration>{session.expires:%Y-%m-%dT%H:%M:%SZ}</Expiration></Credentials>"
        f"<PackedPolicySize>0</PackedPolicySize>{source if session.source_identity else ''}",
    )


def _reply(action: str, result: str) -> Reply:
    body = (
        f'<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
        f"<{action}Result>{result}</{action}Result><ResponseMetadata>"
        f"<RequestId>{uuid.uuid4()}</RequestId></ResponseMetadata></{action}Response>"
    )
    return Reply(200, body.encode(), {"Content-Type": "text/xml"})
