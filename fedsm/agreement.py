"""What the two parties hand each other: invitation, terms, acceptance, approval.

Pure; each is a small file that a person can read, and none holds a secret. The server writes the
*invitation*. The owner answers it with *terms* of his own: data, network, instance, limits. Both
together are all that the owner's account needs to be set up. The *acceptance* tells the server
what was set up; an *approval* tells it which bundle it may start, and until when.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import Field, ValidationError, ValidationInfo, field_validator

from fedsm import metric_names
from fedsm.config import FederationConfig, Framework, Site
from fedsm.config_checks import TREE_STRATEGIES
from fedsm.contract import EXACT_SUMS, MAX_ROUNDS, TREES
from fedsm.errors import ConfigError
from fedsm.fields import (
    AccountId,
    ChannelName,
    ExternalId,
    Host,
    Hyperparameter,
    InstanceType,
    KmsKeyArn,
    Limit,
    Line,
    Model,
    Moment,
    Name,
    PrincipalArn,
    Region,
    RoleArn,
    S3Prefix,
    S3Uri,
    SecurityGroupId,
    Sha256,
    SubnetId,
)
from fedsm.names import role_arn
from fedsm.training_config import Training

METRICS = tuple(
    dict.fromkeys(
        (
            *metric_names.ROUND,
            "train-loss",
            "eval_loss",
            "eval_acc",
            "train_loss",
            "num-positives",
            "seconds",
            *metric_names.REPORT,
        )
    )
)
"""Names of metrics that leave a job where the owner's terms name no others.

The first are a round's, the rest the final report's, see :mod:`fedsm.metric_names`.
"""


class Invitation(Model):
    """What the server asks of one owner; written by ``fedsm site invite``.

    Every text is of one line: the owner reads it among his own terms.

    Attributes
    ----------
    server_role_arn
        The role that will start jobs, and nobody else.
    external_id
        Unique to this site; AWS does not treat it as a secret.
    addresses, port
        Where the coordinator may be: ranges of its VPC, and its port, 0 for any. Jobs dial nowhere
        else.
    sts_region
        Region whose STS the jobs sign their identity proof for.
    rounds
        Most rounds of a run.
    hyperparameters
        What each may be; a name that is not here cannot be passed.
    asks
        What the strategy asks for beside arrays like the model's: sums over the site's rows, or
        trees. It leaves a job only where the terms name it among the metrics.
    """

    kind: Literal["invitation"] = "invitation"
    fedsm: Line
    federation: Name
    site: Name
    launch: Literal["pipeline", "direct"]
    server_account: AccountId
    server_role_arn: RoleArn
    external_id: ExternalId
    addresses: Annotated[tuple[Host, ...], Field(min_length=1, max_length=16)]
    port: int = Field(ge=0, le=65535)
    sts_region: Region
    rounds: int = Field(ge=1, le=MAX_ROUNDS)
    max_wait: float = Field(gt=0)
    model: Line = ""
    hyperparameters: Annotated[dict[Hyperparameter, Limit], Field(max_length=60)] = {}
    asks: Annotated[tuple[Line, ...], Field(max_length=60)] = ()

    @field_validator("server_role_arn")
    @classmethod
    def _of_the_server(cls, arn: str, info: ValidationInfo) -> str:
        if account_of(arn) != info.data.get("server_account"):
            raise ValueError("is not a role of server_account")
        return arn


class Terms(Model):
    """The owner's side; a YAML file of his own.

    Attributes
    ----------
    publisher, approver
        Principals of the owner's account that may take the publisher's and the approver's role.
        Only two different ones make a rule of two persons; without them any administrator of the
        account may take both, and an approval is a record.
    create_buckets
        Whether buckets that are missing are made.
    server_reads_logs
        Whether the server may read the jobs' logs.
    metrics
        Names of the metrics that may leave a job, and of the arrays that are not like the model's:
        what the invitation ``asks``.
    smallest_count
        Counts below this do not leave a job.
    """

    account_id: AccountId
    region: Region
    channels: Annotated[dict[ChannelName, S3Uri], Field(min_length=1, max_length=19)]
    output: S3Prefix
    code: S3Prefix
    image: str | None = None
    framework: Framework | None = None
    instance_type: InstanceType = "ml.m5.xlarge"
    volume_gb: int = Field(default=10, ge=1, le=16384)
    max_runtime: int = Field(default=86400, ge=60, le=28 * 86400)
    subnets: Annotated[tuple[SubnetId, ...], Field(max_length=16)] = ()
    security_groups: Annotated[tuple[SecurityGroupId, ...], Field(max_length=5)] = ()
    vpc_id: str | None = None
    kms_key_arn: KmsKeyArn | None = None
    environment: dict[str, str] = {}
    tags: dict[str, str] = {}
    publisher: PrincipalArn | None = None
    approver: PrincipalArn | None = None
    create_buckets: bool = True
    server_reads_logs: bool = False
    metrics: tuple[str, ...] = METRICS
    smallest_count: int = Field(default=10, ge=0, le=10_000)

    @property
    def two_persons(self) -> bool:
        """Whether IAM keeps publisher and approver apart."""
        return (
            self.publisher is not None
            and self.approver is not None
            and self.publisher != self.approver
        )


class Acceptance(Model):
    """What was set up in the owner's account; ``fedsm site add`` puts ``site`` into the file."""

    kind: Literal["acceptance"] = "acceptance"
    fedsm: str
    federation: Name
    launch: Literal["pipeline", "direct"]
    two_persons: bool
    hyperparameters: dict[Hyperparameter, Limit] = {}
    rounds: int
    site: Site


class Approval(Model):
    """One approved bundle; ``fedsm site add`` puts digest and expiry into the file.

    Attributes
    ----------
    definition_sha256
        Digest of the pipeline's definition.
    approved_by
        ARN of the session that approved.
    """

    kind: Literal["approval"] = "approval"
    fedsm: str
    federation: Name
    site: Name
    bundle: Sha256
    until: Moment | None = None
    pipeline_arn: str
    definition_sha256: Sha256
    approved_by: str
    approved_at: Moment
    two_persons: bool


def partition_of(arn: str) -> str:
    """Partition of an ARN, such as ``aws`` or ``aws-cn``."""
    return arn.split(":")[1]


def account_of(arn: str) -> str:
    """Account of an ARN."""
    return arn.split(":")[4]


def site_of(invitation: Invitation, terms: Terms) -> Site:
    """The site as ``federation.yaml`` will hold it, with the ARNs of the roles to be made."""
    aws = partition_of(invitation.server_role_arn)
    account, federation, site = terms.account_id, invitation.federation, invitation.site
    shared = set(Terms.model_fields) & set(Site.model_fields)
    return Site.model_validate(
        {
            **terms.model_dump(include=shared),
            "name": site,
            "role_arn": role_arn(account, federation, site, "kickoff", aws),
            "external_id": invitation.external_id,
            "execution_role_arn": role_arn(account, federation, site, "execution", aws),
        }
    )


def invitation_of(
    config: FederationConfig, site: str, external_id: str, version: str
) -> Invitation:
    """What the server of a federation asks of the owner of ``site``.

    Raises
    ------
    ConfigError
        The coordinator has no role of its own account, or no range of addresses: an owner could
        bind it to nothing.
    """
    coordinator, training = config.coordinator, config.training
    if coordinator.role_arn is None:
        raise ConfigError(
            "is missing",
            where="coordinator.role_arn",
            action="name the one role that owners shall trust",
        )
    if account_of(coordinator.role_arn) != coordinator.account_id:
        raise ConfigError(
            f"is not of the account {coordinator.account_id}",
            where="coordinator.role_arn",
            action="name a role of coordinator.account_id",
        )
    addresses = coordinator.vpc_cidrs or _single(coordinator.address, config.cloud)
    return Invitation(
        fedsm=version,
        federation=config.name,
        site=site,
        launch=config.mode,
        server_account=coordinator.account_id,
        server_role_arn=coordinator.role_arn,
        external_id=external_id,
        addresses=addresses,
        port=coordinator.port,
        sts_region=coordinator.region,
        rounds=training.rounds,
        max_wait=training.max_wait,
        model=training.model or "",
        hyperparameters={
            name: training.limits.get(name, Limit(choices=(value,)))
            for name, value in training.hyperparameters.items()
        },
        asks=asked_of_sites(training),
    )


def asked_of_sites(training: Training) -> tuple[str, ...]:
    """Names of what the strategy needs of a site beside arrays like the model's."""
    if training.strategy in TREE_STRATEGIES:
        return (TREES,)
    if training.strategy != "exact":
        return ()
    options = {key.replace("-", "_"): value for key, value in training.options.items()}
    solver = options.get("solver", "auto")
    kinds = [kind for kind in ("newton", "lbfgs") if solver in (kind, "auto")]
    if options.get("penalty", training.hyperparameters.get("penalty")) == "none":
        kinds.append("none")
    return tuple(dict.fromkeys(name for kind in kinds for name in EXACT_SUMS[kind]))


def _single(address: str, cloud: str) -> tuple[str, ...]:
    if cloud == "local":
        return ("127.0.0.0/8",)
    if address == "auto":
        raise ConfigError(
            "is empty, and the address is auto",
            where="coordinator.vpc_cidrs",
            action="give the ranges in which the coordinator may be",
        )
    return (address,)


Document = TypeVar("Document", Invitation, Acceptance, Approval, Terms)


def write(document: Model, path: Path) -> None:
    """Write a document as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document.model_dump_json(indent=1, exclude_none=True) + "\n", encoding="utf-8")


def read(kind: type[Document], path: Path) -> Document:
    """Read a document; JSON is YAML too.

    Raises
    ------
    ConfigError
        The file cannot be read, or holds faults; all are listed.
    """
    try:
        raw: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot be read: {error.strerror}", where=str(path), action="check the path"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError("is not valid YAML or JSON", where=str(path), action="mend it") from error
    try:
        # Strings of JSON mode: dates and tuples as they were written.
        return kind.model_validate_json(json.dumps(raw, default=str))
    except ValidationError as error:
        faults = tuple(
            (".".join(str(part) for part in fault["loc"]), _sentence(fault["type"], fault["msg"]))
            for fault in error.errors(include_url=False, include_context=False, include_input=False)
        )
        raise ConfigError(
            f"holds no valid {kind.__name__.lower()}: {len(faults)} "
            f"fault{'s' if len(faults) > 1 else ''}",
            where=str(path),
            action="mend the fields below, or ask the other party for the file again",
            faults=faults,
        ) from None


def _sentence(kind: str, message: str) -> str:
    """A fault of one field in our words, where pydantic's are not for people."""
    own = {"missing": "is missing", "extra_forbidden": "there is no such field"}
    return own.get(kind, message.removeprefix("Value error, "))
