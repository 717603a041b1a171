"""What the use of a key needs: by a request to AWS KMS, by S3 for an object, by SageMaker.

A key's policy must let the caller in; it may hand the decision to the account's IAM policies. A
grant counts as a statement of the key's policy that names its grantee.

Source: AWS KMS Developer Guide, "Troubleshooting key access", "Grants in AWS KMS" and "Condition
keys for AWS KMS"; S3 User Guide, "Using server-side encryption with AWS KMS keys".
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fedsm.local import stores
from fedsm.local.authorise import Ask, resource_tags
from fedsm.local.principals import Caller
from fedsm.local.protocol import ApiError, Call, not_modelled

_ANYWHERE = {"CreateKey", "ListAliases", "ListKeys"}
_ON_ALIAS = {"CreateAlias", "DeleteAlias"}
_USES = {"Decrypt", "Encrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext"}
_ACROSS_ACCOUNTS = {*_USES, "CreateGrant", "DescribeKey", "ListGrants", "RevokeGrant"}
_ON_KEY = _ACROSS_ACCOUNTS | {
    "CancelKeyDeletion",
    "DisableKey",
    "DisableKeyRotation",
    "EnableKey",
    "EnableKeyRotation",
    "GetKeyPolicy",
    "GetKeyRotationStatus",
    "ListKeyPolicies",
    "ListResourceTags",
    "PutKeyPolicy",
    "ScheduleKeyDeletion",
    "TagResource",
    "UntagResource",
    "UpdateKeyDescription",
}
_GRANTS = {"CreateGrant", "ListGrants", "RevokeGrant"}


def kms_asks(call: Call, caller: Caller) -> Iterator[Ask]:
    """Everything that must be allowed for a request to AWS KMS.

    Raises
    ------
    ApiError
        The key is not there or disabled, the policy is none, the action is not modelled.
    """
    action = call.headers.get("x-amz-target", "").rpartition(".")[2]
    body, account = call.json(), caller.principal.account
    tags = [tag.get("TagKey", "") for tag in body.get("Tags", [])] + body.get("TagKeys", [])
    context: dict[str, Sequence[str]] = {"aws:tagkeys": tags} if tags else {}
    for tag in body.get("Tags", []):
        context[f"aws:requesttag/{tag.get('TagKey', '').lower()}"] = [tag.get("TagValue", "")]
    if action in _ANYWHERE:
        own = {**context, "kms:calleraccount": [account]}
        yield Ask(f"kms:{action}", "*", account, own)
        return
    if action in _ON_ALIAS:
        arn = f"arn:aws:kms:{call.region}:{account}:{body.get('AliasName', '')}"
        yield Ask(f"kms:{action}", arn, account, {"kms:calleraccount": [account]})
    elif action not in _ON_KEY:
        raise not_modelled(f"kms:{action}")
    if body.get("GrantTokens") or body.get("DryRun"):
        raise not_modelled(f"GrantTokens and DryRun of kms:{action}")
    key = _named(call, caller, action, body)
    if action in _USES:
        context |= _encrypting(body.get("EncryptionContext", {}))
    elif action in _GRANTS:
        context["kms:grantisforawsresource"] = ["false"]
    if str(body.get("KeyId", "")).rpartition(":")[2].startswith("alias/"):
        context["kms:requestalias"] = [body["KeyId"].rpartition(":")[2]]
    yield use(caller, action, key, context)
    _check_state(action, key, "DisabledException")


def complete(call: Call, account: str) -> None:
    """Write an authorised request as moto reads it: a key by its id, a key's policy by its name.

    Parameters
    ----------
    account : str
        The key's account.
    """
    body = call.json()
    for name in ("KeyId", "TargetKeyId"):
        key = stores.kms_key(str(body.get(name, "")), account, call.region)
        if key is not None:
            body[name] = key.id
    if call.headers.get("x-amz-target", "").endswith(("GetKeyPolicy", "PutKeyPolicy")):
        body.setdefault("PolicyName", "default")
    call.body = json.dumps(body).encode()


def _named(call: Call, caller: Caller, action: str, body: Mapping[str, Any]) -> Any:
    """The key that a request is about."""
    account, identifier = caller.principal.account, body.get("KeyId", body.get("TargetKeyId", ""))
    if action == "DeleteAlias":
        identifier = body.get("AliasName", "")
    key = stores.kms_key(str(identifier), account, call.region)
    if action == "Decrypt" and not identifier:
        try:
            ciphertext = base64.b64decode(body.get("CiphertextBlob", ""), validate=True)
        except binascii.Error as error:
            raise ApiError("InvalidCiphertextException", "the ciphertext is none") from error
        key = stores.key_of_ciphertext(ciphertext, account, call.region)
    if key is None or key.region != call.region:
        raise ApiError("NotFoundException", f"Key '{identifier}' does not exist")
    return key


def use(
    caller: Caller, action: str, key: Any, context: Mapping[str, Sequence[str]], via: str = ""
) -> Ask:
    """What one action on a key needs; ``via`` is the service that takes it for the caller."""
    known: dict[str, Sequence[str]] = {
        "kms:calleraccount": [caller.principal.account],
        **resource_tags(stores.key_tags(key), "kms"),
        **context,
    }
    if via:
        known["kms:viaservice"] = [via]
    closed = action not in _ACROSS_ACCOUNTS and caller.principal.account != key.account_id
    policy = {"Statement": [] if closed else [*_statements(key.policy), *_granted(key)]}
    return Ask(f"kms:{action}", key.arn, key.account_id, known, policy, resource_must_allow=True)


def _statements(policy: str) -> list[Any]:
    try:
        statements = json.loads(policy)["Statement"]
    except (ValueError, KeyError, TypeError) as error:
        raise ApiError("MalformedPolicyDocumentException", "a key's policy is none") from error
    return list(statements) if isinstance(statements, list) else [statements]


def _granted(key: Any) -> Iterator[dict[str, Any]]:
    for grant in list(key.grants.values()):
        statement: dict[str, Any] = {
            "Effect": "Allow",
            "Principal": {"AWS": grant.grantee_principal},
            "Action": [f"kms:{operation}" for operation in grant.operations],
            "Resource": "*",
        }
        constraints = grant.constraints or {}
        exact = constraints.get("EncryptionContextEquals")
        wanted = exact or constraints.get("EncryptionContextSubset") or {}
        if wanted:
            pairs = {f"kms:EncryptionContext:{name}": value for name, value in wanted.items()}
            statement["Condition"] = {"StringEquals": pairs}
        if exact:
            names = {"kms:EncryptionContextKeys": list(exact)}
            statement["Condition"]["ForAllValues:StringEquals"] = names
        yield statement


def _encrypting(context: Mapping[str, str]) -> dict[str, Sequence[str]]:
    keys: dict[str, Sequence[str]] = {
        f"kms:encryptioncontext:{name.lower()}": [value] for name, value in context.items()
    }
    return keys | ({"kms:encryptioncontextkeys": list(context)} if context else {})


def _check_state(action: str, key: Any, code: str) -> None:
    if action in {*_USES, "CreateGrant"} and key.key_state != "Enabled":
        raise ApiError(code, f"{key.arn} is {key.key_state.lower()}.")


# S3 -----------------------------------------------------------------------------------------


def object_asks(call: Call, caller: Caller, bucket: str, key: str) -> Iterator[Ask]:
    """What S3 needs of a key to read or write an object for the caller.

    Objects under the account's key of S3 itself, which has no policy to write, need nothing more.
    """
    query = call.query
    plain = not {"acl", "tagging", "attributes", "uploadId"} & set(query)
    reads = call.method == "GET" or "x-amz-checksum-mode" in call.headers
    if call.method in ("GET", "HEAD"):
        if plain and reads:
            stored = stores.encryption(bucket, key, query.get("versionId"))
            yield from _of_object(caller, call, ("Decrypt",), stored, f"{bucket}/{key}")
        return
    if any("server-side-encryption-customer" in name for name in call.headers):
        raise not_modelled("S3: encryption with a key of the customer's own")
    if (call.method == "PUT" and plain) or (call.method == "POST" and "uploads" in query):
        algorithm = call.headers.get("x-amz-server-side-encryption", "")
        chosen = call.headers.get("x-amz-server-side-encryption-aws-kms-key-id", "")
        wanted = (algorithm, chosen) if algorithm else stores.encryption(bucket)
        # A multipart upload is read again when it is completed.
        actions = ("GenerateDataKey", "Decrypt") if "uploads" in query else ("GenerateDataKey",)
        yield from _of_object(caller, call, actions, wanted, f"{bucket}/{key}")


def copied_asks(call: Call, caller: Caller, bucket: str, key: str, version: str) -> Iterator[Ask]:
    """What S3 needs of a key to read the source of a copy."""
    stored = stores.encryption(bucket, key, version or None)
    yield from _of_object(caller, call, ("Decrypt",), stored, f"{bucket}/{key}")


def _of_object(
    caller: Caller, call: Call, actions: Sequence[str], stored: tuple[str, str], path: str
) -> Iterator[Ask]:
    algorithm, identifier = stored
    if algorithm not in ("", "AES256", "aws:kms"):
        raise not_modelled(f"S3: the encryption {algorithm}")
    if algorithm != "aws:kms" or not identifier:
        return
    key = stores.kms_key(identifier, caller.principal.account, call.region)
    if key is None or key.region != call.region:
        raise ApiError("KMS.NotFoundException", f"Key '{identifier}' does not exist")
    context = _encrypting({"aws:s3:arn": f"arn:aws:s3:::{path}"})
    for action in actions:
        yield use(caller, action, key, context, f"s3.{call.region}.amazonaws.com")
        _check_state(action, key, "KMS.DisabledException")
