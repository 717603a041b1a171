"""What an owner reads before it is created: a sentence per statement, and every document."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fedsm.onboarding.account import Account
from fedsm.onboarding.template import cloudformation, template_text
from fedsm.policies import Document, Statement, document


@dataclass(frozen=True, slots=True)
class Held:
    """A document, what bears it, and the file that shows it."""

    file: str
    holder: str
    document: Document


@dataclass(frozen=True, slots=True)
class Explained:
    """One statement: what bears it, its Sid, and what it allows, to whom and why."""

    holder: str
    sid: str
    sentence: str


def explained(holder: str, document: Document) -> list[Explained]:
    """The sentences of one document.

    Raises
    ------
    TypeError
        A statement has none.
    """
    found = []
    for statement in document["Statement"]:
        if not isinstance(statement, Statement):
            raise TypeError(f"a statement of the {holder} has no sentence")
        found.append(Explained(holder, statement["Sid"], statement.sentence))
    return found


def explain(account: Account) -> list[Explained]:
    """A sentence for every statement that the account would get."""
    return [line for held in documents(account) for line in explained(held.holder, held.document)]


def documents(account: Account) -> list[Held]:
    """Every document of the account."""
    return list(_documents(account))


def files(account: Account, approved: Iterable[Held] = ()) -> dict[str, str]:
    """All that would be created, as files by name: JSON, CloudFormation, and a text to read.

    Parameters
    ----------
    approved : iterable of Held, optional
        Approvals that are to be shown with it.
    """
    held = [*documents(account), *approved]
    title = f"Site {account.site.name} in account {account.site.account_id}"
    return {
        "README.md": readme(title, held),
        "cloudformation.yaml": template_text(cloudformation(account)),
        **json_files(held),
    }


def json_files(held: Iterable[Held]) -> dict[str, str]:
    """The documents as indented JSON."""
    return {each.file: json.dumps(each.document, indent=2) + "\n" for each in held}


def readme(title: str, held: Iterable[Held]) -> str:
    """A text that names each file, and says what each of its statements allows."""
    lines = [f"# {title}"]
    for each in held:
        lines += ["", f"## `{each.file}`: {each.holder}", ""]
        lines += [
            f"- **{line.sid}** {line.sentence}." for line in explained(each.holder, each.document)
        ]
    return "\n".join(lines) + "\n"


def _documents(account: Account) -> Iterator[Held]:
    bounded = {role.boundary: role.kind for role in account.roles}
    for role in account.roles:
        yield Held(f"{role.kind}-trust.json", f"trust of role {role.name}", role.trust)
        for rights in role.policies.values():
            yield Held(f"{role.kind}-policy.json", f"rights of role {role.name}", rights)
    for bound in account.boundaries:
        file = f"{bounded[bound.arn]}-boundary.json"
        holder = f"boundary {bound.name}, which gives nothing and says the most that may be given"
        yield Held(file, holder, bound.document)
    for rule in account.buckets:
        if rule.statements:
            holder = f"policy of bucket {rule.bucket}"
            yield Held("code-bucket-policy.json", holder, document(*rule.statements))
    for key in account.keys:
        holder = f"policy of key {key.key_arn}"
        yield Held("key-policy.json", holder, document(*key.statements))
    if account.endpoint_policy is not None:
        holder = "policy of the S3 endpoint of the jobs' VPC"
        yield Held("s3-endpoint-policy.json", holder, account.endpoint_policy)
