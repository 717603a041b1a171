"""What is created in an owner's account, from the invitation and the owner's terms. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from fedsm import policies
from fedsm.agreement import Invitation, Terms, account_of, partition_of, site_of
from fedsm.config import Site
from fedsm.errors import ConfigError
from fedsm.names import Launch, RoleKind, approved_name, boundary_arn, role_arn
from fedsm.policies import Document

BASE_POLICY = "fedsm"
"""Name of the inline policy that a role has from the start."""

# Characters without white space. Source: IAM User Guide, "IAM and AWS STS quotas"; S3 User Guide,
# "Policies and permissions in Amazon S3".
LIMITS = {"inline": 10_240, "managed": 6_144, "trust": 2_048, "bucket": 20_480, "key": 32_768}


@dataclass(frozen=True, slots=True)
class Role:
    """One role.

    Attributes
    ----------
    policies : mapping of str to Document
        Inline policies by name.
    boundary : str, optional
        ARN of the managed policy that bounds it.
    """

    kind: RoleKind
    arn: str
    trust: Document
    policies: Mapping[str, Document]
    boundary: str | None

    @property
    def name(self) -> str:
        """Its name, without a path."""
        return self.arn.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Boundary:
    """A managed policy that bounds a role."""

    arn: str
    document: Document

    @property
    def name(self) -> str:
        """Its name, without a path."""
        return self.arn.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class BucketRules:
    """What a bucket must be.

    Attributes
    ----------
    statements : tuple of Document
        Statements of its policy, to be merged by Sid into what it has.
    versioned : bool
        Whether versioning must be on.
    create : bool
        Whether it is made where it is missing.
    """

    bucket: str
    statements: tuple[Document, ...]
    versioned: bool
    create: bool
    region: str


@dataclass(frozen=True, slots=True)
class KeyRules:
    """Statements to be merged by Sid into a key's policy."""

    key_arn: str
    statements: tuple[Document, ...]


@dataclass(frozen=True, slots=True)
class Account:
    """All that one site needs in its owner's account.

    Attributes
    ----------
    endpoint_policy : Document, optional
        Policy for the S3 endpoint of the jobs' VPC; ``None`` without subnets.
    vpc_id : str, optional
        The jobs' VPC, where the terms name it.
    """

    federation: str
    launch: Launch
    site: Site
    roles: tuple[Role, ...]
    boundaries: tuple[Boundary, ...]
    buckets: tuple[BucketRules, ...]
    keys: tuple[KeyRules, ...]
    endpoint_policy: Document | None
    vpc_id: str | None = None

    def role(self, kind: RoleKind) -> Role:
        """The role of a kind.

        Raises
        ------
        KeyError
            The launch has no such role.
        """
        for role in self.roles:
            if role.kind == kind:
                return role
        raise KeyError(kind)


def account(invitation: Invitation, terms: Terms) -> Account:
    """The account's part of the agreement of the two parties.

    Raises
    ------
    ConfigError
        The terms contradict themselves, there is no image, or a document is longer than AWS takes.
    """
    _check_terms(invitation, terms)
    site, federation, launch = site_of(invitation, terms), invitation.federation, invitation.launch
    logs, vpc = terms.server_reads_logs, terms.vpc_id
    place, aws = (site.account_id, federation, site.name), partition_of(site.role_arn)
    direct = policies.kickoff_policy(site, federation, logs=logs)
    watcher = policies.watcher_policy(site, federation, logs=logs)
    documents: dict[RoleKind, tuple[Document, Document]] = {
        "kickoff": (
            policies.kickoff_trust(invitation.server_role_arn, invitation.external_id),
            direct if launch == "direct" else watcher,
        ),
        "execution": (
            policies.execution_trust(site, federation, launch),
            policies.execution_policy(site, federation, launch, vpc),
        ),
        "publisher": (
            policies.person_trust("Publisher", terms.publisher or site.account_id),
            policies.publisher_policy(site),
        ),
    }
    bounds: dict[RoleKind, Document] = {
        "kickoff": direct,
        "execution": policies.execution_boundary(site, federation, launch, vpc),
    }
    if launch == "pipeline":
        documents["pipeline"] = (
            policies.pipeline_trust(site, federation),
            policies.pipeline_policy(site, federation),
        )
        documents["approver"] = (
            policies.person_trust("Approver", terms.approver or site.account_id),
            policies.approver_policy(site, federation),
        )
        bounds["kickoff"] = policies.kickoff_boundary(site, federation, logs=logs)
    key = policies.key_statements(site, federation)
    publisher = role_arn(*place, "publisher", aws)
    found = Account(
        federation=federation,
        launch=launch,
        site=site,
        roles=tuple(
            Role(
                kind,
                role_arn(*place, kind, aws),
                trust,
                {BASE_POLICY: rights},
                boundary_arn(*place, kind, aws) if kind in bounds else None,
            )
            for kind, (trust, rights) in documents.items()
        ),
        boundaries=tuple(
            Boundary(boundary_arn(*place, kind, aws), bound) for kind, bound in bounds.items()
        ),
        buckets=tuple(_buckets(site, federation, publisher, terms.create_buckets)),
        keys=(KeyRules(site.kms_key_arn, key),) if site.kms_key_arn else (),
        endpoint_policy=policies.endpoint_policy(site) if site.subnets else None,
        vpc_id=vpc,
    )
    _check_sizes(found)
    return found


def approval(
    invitation: Invitation, terms: Terms, digest: str, until: datetime | None
) -> Mapping[RoleKind, tuple[str, Document]]:
    """The rights that approve one bundle: name and document of an inline policy, by role.

    Raises
    ------
    ConfigError
        In the direct launch nothing is approved.
    """
    if invitation.launch == "direct":
        raise ConfigError(
            "is in the direct launch, in which the server chooses the code",
            where=invitation.site,
            action="ask the server for an invitation with launch: pipeline",
        )
    site, federation = site_of(invitation, terms), invitation.federation
    date = None if until is None else until.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    name = approved_name(digest)
    return {
        "kickoff": (name, policies.kickoff_approval(site, federation, digest, date)),
        "execution": (name, policies.execution_approval(site, digest, date)),
    }


def _buckets(
    site: Site, federation: str, publisher_arn: str, create: bool
) -> Iterator[BucketRules]:
    code = _bucket(site.code)
    names = {code, _bucket(site.output), *map(_bucket, site.channels.values())}
    for name in sorted(names):
        statements = (
            policies.code_statements(site, federation, publisher_arn) if name == code else ()
        )
        yield BucketRules(name, statements, name == code, create, site.region)


def _bucket(uri: str) -> str:
    return uri.removeprefix("s3://").partition("/")[0]


def _check_terms(invitation: Invitation, terms: Terms) -> None:
    site = invitation.site
    if bool(terms.subnets) != bool(terms.security_groups):
        raise ConfigError(
            "subnets and security groups go together, the terms name only one of them",
            where=site,
            action="give both, or neither",
        )
    if _overlap(terms.code, terms.output):
        raise ConfigError(
            f"code and output overlap at {terms.code}, where only the publisher may write",
            where=site,
            action="give the output a prefix of its own",
        )
    for who, arn in (("publisher", terms.publisher), ("approver", terms.approver)):
        if arn is not None and account_of(arn) != terms.account_id:
            raise ConfigError(
                f"the {who} {arn} is of account {account_of(arn)}, not {terms.account_id}",
                where=site,
                action="name a role or user of your own account",
            )
    for name, uri in terms.channels.items():
        if _overlap(terms.output, uri):
            raise ConfigError(
                f"channel {name} overlaps with the output at {terms.output}, so that jobs could "
                "overwrite data",
                where=site,
                action="give the output a prefix of its own",
            )
        if invitation.launch == "pipeline" and _overlap(terms.code, uri):
            raise ConfigError(
                f"channel {name} overlaps with the code at {terms.code}, so that jobs could read "
                "what nobody approved",
                where=site,
                action="give the code a prefix of its own",
            )


def _overlap(one: str, other: str) -> bool:
    """Whether one S3 prefix lies within the other."""
    ends = [f"{uri.rstrip('/')}/" for uri in (one, other)]
    return ends[0].startswith(ends[1]) or ends[1].startswith(ends[0])


def _check_sizes(found: Account) -> None:
    held: list[tuple[str, str, object]] = []
    for role in found.roles:
        held.append(("trust", f"trust of {role.name}", role.trust))
        held.append(("inline", f"policy of {role.name}", list(role.policies.values())))
    held += [("managed", bound.name, bound.document) for bound in found.boundaries]
    held += [("bucket", rule.bucket, rule.statements) for rule in found.buckets]
    held += [("key", rule.key_arn, rule.statements) for rule in found.keys]
    for kind, name, what in held:
        size = len(json.dumps(what, separators=(",", ":")))
        if size > LIMITS[kind]:
            raise ConfigError(
                f"{name} would have {size} characters, AWS takes {LIMITS[kind]}",
                where=found.site.name,
                action="name fewer or shorter channels, subnets or security groups in the terms",
            )
