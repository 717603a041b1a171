"""``federation.yaml``: coordinator, sites and training in one typed file.

All faults of a file are reported at once, each with its field. Values can be overridden by dotted
paths: ``training.rounds=5``, ``sites.north.instance_type=ml.m5.large``.
"""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from fedsm.config_checks import cross_faults
from fedsm.errors import ConfigError
from fedsm.fields import (
    AccountId,
    ChannelName,
    ExternalId,
    InstanceType,
    KmsKeyArn,
    Model,
    Moment,
    Name,
    Prefix,
    Region,
    RoleArn,
    S3Prefix,
    S3Uri,
    SecurityGroupId,
    Sha256,
    SubnetId,
)
from fedsm.training_config import Best, Prepare, Report, Training


class Coordinator(Model):
    """The server account's side.

    Attributes
    ----------
    role_arn
        Role the coordinator works from; without it the ambient credentials are used as they are.
    address
        Host that the jobs dial. ``auto`` is this machine's address inside ``vpc_cidrs``.
    port
        TCP port that the coordinator listens on; 0 lets the operating system choose (local only).
    """

    account_id: AccountId
    region: Region
    role_arn: RoleArn | None = None
    address: str = "auto"
    port: int = Field(default=8443, ge=0, le=65535)
    vpc_cidrs: tuple[str, ...] = ()
    bucket: str | None = None

    @field_validator("vpc_cidrs")
    @classmethod
    def _cidrs(cls, cidrs: tuple[str, ...]) -> tuple[str, ...]:
        for cidr in cidrs:
            ipaddress.ip_network(cidr)
        return cidrs


class Framework(Model):
    """An AWS-managed image by framework and version, such as scikit-learn ``1.4-2-py312``."""

    name: Literal["sklearn"]
    version: str


class Site(Model):
    """One data owner's account, and the job that runs there.

    Attributes
    ----------
    channels
        Channel name to the S3 prefix that SageMaker copies into the job.
    code
        S3 prefix of the published bundles; a bundle lies at ``<code>/<sha256>/source.tar.gz``.
    bundle, bundle_until
        Digest of the bundle to run, and until when its owner approved it; without a digest, that of
        the local ``client_code``.
    kms_key_arn
        The owner's key for the job's volume and its output.
    output
        S3 prefix for ``model.tar.gz``.
    max_runtime, volume_gb
        Seconds, gigabytes.
    """

    name: Name
    account_id: AccountId
    region: Region
    role_arn: RoleArn
    external_id: ExternalId
    execution_role_arn: RoleArn
    channels: Annotated[dict[ChannelName, S3Uri], Field(min_length=1, max_length=19)]
    output: S3Prefix
    code: S3Prefix
    bundle: Sha256 | None = None
    bundle_until: Moment | None = None
    kms_key_arn: KmsKeyArn | None = None
    image: str | None = None
    framework: Framework | None = None
    instance_type: InstanceType = "ml.m5.xlarge"
    instance_count: Literal[1] = 1
    volume_gb: int = Field(default=10, ge=1, le=16384)
    subnets: Annotated[tuple[SubnetId, ...], Field(max_length=16)] = ()
    security_groups: Annotated[tuple[SecurityGroupId, ...], Field(max_length=5)] = ()
    max_runtime: int = Field(default=86400, ge=60, le=28 * 86400)
    tags: dict[str, str] = {}
    environment: dict[str, str] = {}


class Tracking(Model):
    """Experiment tracking in the server account; the journal is always kept."""

    experiments: bool = True
    prefix: Prefix = "fedsm"


class FederationConfig(Model):
    """A whole ``federation.yaml``.

    Attributes
    ----------
    launch
        ``pipeline``: the server starts a pipeline that the site's owner made for one approved
        bundle, the default on AWS. ``direct``: the server creates the job and chooses all of it,
        the default on the local cloud.
    sites
        None before the first owner has accepted; a run needs one.
    """

    cloud: Literal["aws", "local"]
    name: Name
    launch: Literal["pipeline", "direct"] | None = None
    coordinator: Coordinator
    sites: tuple[Site, ...] = ()
    training: Training = Training()
    tracking: Tracking = Tracking()

    @model_validator(mode="wrap")
    @classmethod
    def _all_faults(
        cls, raw: Any, handler: ModelWrapValidatorHandler[FederationConfig]
    ) -> FederationConfig:
        faults: list[InitErrorDetails] = []
        config = None
        try:
            config = handler(raw)
        except ValidationError as error:
            faults += [
                _fault(tuple(f["loc"]), _sentence(f))
                for f in error.errors(include_url=False, include_context=False, include_input=False)
            ]
        if isinstance(raw, Mapping):
            faults += [_fault(loc, text) for loc, text in cross_faults(raw)]
        if faults or config is None:
            raise ValidationError.from_exception_data(cls.__name__, faults)
        return config

    @property
    def mode(self) -> Literal["pipeline", "direct"]:
        """How jobs are started."""
        return self.launch or ("pipeline" if self.cloud == "aws" else "direct")

    @property
    def min_sites(self) -> int:
        """Fewest sites a round may have."""
        return self.training.min_sites or min(2, len(self.sites))

    def subset(self, names: Iterable[str]) -> FederationConfig:
        """The same federation with only the named sites.

        Raises
        ------
        ConfigError
            A name is not a site of this federation.
        """
        wanted = [names] if isinstance(names, str) else list(names)
        known = [site.name for site in self.sites]
        unknown = sorted(set(wanted) - set(known))
        if unknown or not wanted:
            raise ConfigError(
                f"no such site: {', '.join(unknown)}" if unknown else "no site is chosen",
                where="sites",
                action=f"choose from {', '.join(known)}",
            )
        values = self.model_dump()
        values["sites"] = [s for s in values["sites"] if s["name"] in wanted]
        least = values["training"]["min_sites"]
        if least is not None:
            values["training"]["min_sites"] = min(least, len(values["sites"]))
        return _validate(values, "sites")


_SECTIONS: dict[str, type[Model]] = {
    "coordinator": Coordinator,
    "sites": Site,
    "framework": Framework,
    "training": Training,
    "prepare": Prepare,
    "best": Best,
    "report": Report,
    "tracking": Tracking,
}


def load(path: Path, overrides: Mapping[str, Any] | None = None) -> FederationConfig:
    """Read and check a ``federation.yaml``.

    Parameters
    ----------
    path : Path
        The file.
    overrides : mapping, optional
        Dotted path to value, such as ``{"training.rounds": 5}``; sites are addressed by name.

    Raises
    ------
    ConfigError
        The file cannot be read, or holds faults; all are listed, each with its field.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot be read: {error.strerror}",
            where=str(path),
            action="give the path of a federation.yaml, or make one with `fedsm init DIR`",
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        spot = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(
            f"is not valid YAML{spot}", where=str(path), action="mend the file's syntax"
        ) from error
    if not isinstance(raw, dict):
        raise ConfigError(
            "holds no mapping", where=str(path), action="see docs/federation.md for the fields"
        )
    for dotted, value in (overrides or {}).items():
        _override(raw, dotted, value)
    return _validate(raw, str(path))


def parse_override(text: str) -> tuple[str, Any]:
    """Split ``training.rounds=5`` into its dotted path and its YAML value.

    Raises
    ------
    ConfigError
        There is no ``=`` or no path before it.
    """
    dotted, equals, value = text.partition("=")
    if not equals or not dotted:
        raise ConfigError(
            f"cannot read the override {text!r}",
            action="write it as section.field=value, such as training.rounds=5",
        )
    try:
        return dotted, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"cannot read the value of the override {dotted}", action="quote the value"
        ) from error


def _override(raw: dict[str, Any], dotted: str, value: Any) -> None:
    node: Any = raw
    keys = dotted.split(".")
    for i, key in enumerate(keys):
        last = i == len(keys) - 1
        if isinstance(node, list):
            named = [item for item in node if isinstance(item, dict) and item.get("name") == key]
            if last or not named:
                raise ConfigError(
                    f"cannot override {dotted}: no site named {key}",
                    action="address a site's field as sites.NAME.field",
                )
            node = named[0]
        elif isinstance(node, dict):
            if last:
                node[key] = value
            else:
                node = node.setdefault(key, {})
        else:
            raise ConfigError(
                f"cannot override {dotted}: {'.'.join(keys[:i])} holds a value, not fields",
                action="check the path against docs/federation.md",
            )


def _validate(raw: Mapping[str, Any], where: str) -> FederationConfig:
    try:
        return FederationConfig.model_validate(raw)
    except ValidationError as error:
        faults = tuple(
            (_field(fault["loc"], raw), fault["msg"])
            for fault in error.errors(include_url=False, include_context=False, include_input=False)
        )
        raise ConfigError(
            f"{len(faults)} fault{'s' if len(faults) > 1 else ''}",
            where=where,
            action="mend the fields below and run again",
            faults=faults,
        ) from None


def _field(loc: tuple[int | str, ...], raw: Mapping[str, Any]) -> str:
    """Dotted name of a field; a site is named rather than numbered where it has a name."""
    parts: list[str] = []
    for i, part in enumerate(loc):
        if isinstance(part, int) and i == 1 and loc[0] == "sites":
            sites = raw.get("sites")
            site = sites[part] if isinstance(sites, list | tuple) else None
            name = site.get("name") if isinstance(site, dict) else None
            parts.append(str(name) if name else f"[{part}]")
        else:
            parts.append(str(part))
    return ".".join(parts)


def _sentence(fault: ErrorDetails) -> str:
    """A fault of one field in our words, where pydantic's are not for people."""
    if fault["type"] == "missing":
        return "is missing"
    if fault["type"] != "extra_forbidden":
        return fault["msg"]
    *above, name = (str(part) for part in fault["loc"] if isinstance(part, str))
    known = _SECTIONS.get(above[-1] if above else "", FederationConfig).model_fields
    near = difflib.get_close_matches(name, known, n=1)
    return f"there is no such field; did you mean {near[0]}?" if near else "there is no such field"


def _fault(loc: tuple[int | str, ...], text: str) -> InitErrorDetails:
    kind = PydanticCustomError("fedsm", "{text}", {"text": text.removeprefix("Value error, ")})
    return InitErrorDetails(type=kind, loc=loc, input=None)
