"""The data owner's folder of one site: what was agreed, and what is done with it in his account.

=========================  ==================================================================
invitation.json            from the server
terms.yaml                 the owner's own
review/                    every document that would be created, and a sentence per statement
acceptance.json            for the server, once the account is set up
approval-<digest>.json     for the server, once a bundle is approved
steps.jsonl                every change that was made in the account from here
client_code/, wheelhouse/  what to publish; the shipped code where there is none
=========================  ==================================================================
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import boto3
import yaml

from fedsm import __version__, onboarding
from fedsm.agreement import (
    METRICS,
    Acceptance,
    Approval,
    Invitation,
    Terms,
    read,
    site_of,
    write,
)
from fedsm.agreements import ACCEPTANCE, INVITATION, approval_name
from fedsm.assets import asset
from fedsm.aws import approvals, jobs, owner
from fedsm.aws.artifacts import publish
from fedsm.aws.steps import Step
from fedsm.bundle import Bundle, of_project
from fedsm.bundle_diff import contents, unhashed
from fedsm.clouds import owner_session, role_session
from fedsm.config import Site
from fedsm.errors import AccessError, ConfigError, JobError
from fedsm.images import image_uri
from fedsm.names import RoleKind, site_prefix, step_name
from fedsm.terms_template import terms_template

TERMS, REVIEW, STEPS = "terms.yaml", "review", "steps.jsonl"


class SiteFolder:
    """One site's folder, and the owner's credentials.

    Parameters
    ----------
    path : Path
        The folder.
    session : boto3.Session, optional
        The owner's credentials; without them those that boto3 finds, which must be of the account
        that the terms name.
    news : sequence of str
        What the server asks that it had not asked before.
    """

    def __init__(
        self, path: Path, session: boto3.Session | None = None, news: Sequence[str] = ()
    ) -> None:
        self.path = path
        self.news = tuple(news)
        self._session = session

    @classmethod
    def open(cls, path: Path) -> SiteFolder:
        """The folder that ``fedsm site accept`` made.

        Raises
        ------
        ConfigError
            It holds no invitation.
        """
        if not (path / INVITATION).is_file():
            raise ConfigError(
                f"there is no {INVITATION}",
                where=str(path),
                action="give the folder that `fedsm site accept INVITATION` made",
            )
        return cls(path)

    @classmethod
    def start(cls, invitation: Path, path: Path | None) -> SiteFolder:
        """A folder for an invitation, beside it where no path is given.

        Raises
        ------
        ConfigError
            The file is no invitation, or the folder is another site's or another server's.
        """
        asked = read(Invitation, invitation)
        place = path or Path(f"{asked.federation}-{asked.site}")
        there = place / INVITATION
        news: list[str] = []
        if there.exists():
            before = read(Invitation, there)
            news = _changes(before, asked)
            if (before.federation, before.site) != (asked.federation, asked.site):
                raise ConfigError(
                    f"is the folder of {before.site} in {before.federation}",
                    where=str(place),
                    action="choose another folder: --out",
                )
            if (before.server_role_arn, before.external_id) != (
                asked.server_role_arn,
                asked.external_id,
            ):
                raise ConfigError(
                    "answers another invitation: the server's role or the external id is not the "
                    "one you were invited with",
                    where=str(place),
                    action=f"if you mean to change the server, fedsm site revoke {place}, then "
                    "accept this invitation in another folder: --out",
                )
        place.mkdir(parents=True, exist_ok=True)
        if not (there.exists() and there.samefile(invitation)):
            shutil.copyfile(invitation, there)
        return cls(place, news=news)

    @cached_property
    def invitation(self) -> Invitation:
        """What the server asks."""
        return read(Invitation, self.path / INVITATION)

    @cached_property
    def terms(self) -> Terms:
        """What the owner answers."""
        return read(Terms, self.path / TERMS)

    @cached_property
    def account(self) -> onboarding.Account:
        """All that the two make of the owner's account."""
        return onboarding.account(self.invitation, self.terms)

    @cached_property
    def site(self) -> Site:
        """The site as ``federation.yaml`` will hold it."""
        return site_of(self.invitation, self.terms)

    @cached_property
    def session(self) -> boto3.Session:
        """The owner's credentials.

        Raises
        ------
        AccessError
            There are none, or they are of another account.
        """
        if self._session is not None:
            return self._session
        return owner_session(self.site.name, self.terms.account_id, self.terms.region)

    def agree(self, invitation: Invitation, site: Site) -> None:
        """Write an invitation, and terms that come to a site as it is given.

        Of terms that are there already, those that a site does not have are kept; what the
        invitation asks to leave a job is granted.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        write(invitation, self.path / INVITATION)
        file = self.path / TERMS
        shared = set(Terms.model_fields) & set(Site.model_fields)
        own = read(Terms, file).model_dump(exclude=shared) if file.exists() else {}
        granted = (*own.get("metrics", METRICS), *invitation.asks)
        own["metrics"] = tuple(dict.fromkeys(granted))
        terms = Terms.model_validate({**own, **site.model_dump(include=shared)})
        text = yaml.safe_dump(terms.model_dump(mode="json", exclude_defaults=True), sort_keys=False)
        file.write_text(text, encoding="utf-8")
        self.__dict__.update(invitation=invitation, terms=terms)

    def needs_terms(self) -> bool:
        """Write a file of terms to fill in, if there is none; whether it was written now."""
        file = self.path / TERMS
        if file.exists():
            return False
        file.write_text(terms_template(self.invitation), encoding="utf-8")
        return True

    def take_terms(self, file: Path) -> None:
        """Take a file of terms into the folder.

        Raises
        ------
        ConfigError
            It holds no terms.
        """
        read(Terms, file)
        there = self.path / TERMS
        if not (there.exists() and there.samefile(file)):
            shutil.copyfile(file, there)

    def review(self) -> list[onboarding.Explained]:
        """Write every document that would be created; returns a sentence for each statement."""
        place = self.path / REVIEW
        if place.is_dir():
            for stale in place.iterdir():
                stale.unlink()
        place.mkdir(exist_ok=True)
        for name, text in onboarding.files(self.account).items():
            (place / name).write_text(text, encoding="utf-8")
        return onboarding.explain(self.account)

    def apply(self) -> tuple[Acceptance, tuple[Step, ...]]:
        """Set up the account, and write the acceptance.

        Raises
        ------
        AccessError, ConfigError
            A call failed, and what had been done is undone; or the account was set up for the
            other way of launching.
        """
        file, before = self.path / ACCEPTANCE, self._accepted()
        if before is not None and before.launch != self.invitation.launch:
            raise ConfigError(
                f"the account is set up for another launch than {self.invitation.launch}",
                where=self.site.name,
                action="take that away first: fedsm site revoke",
            )
        earlier = None if before is None else before.site
        steps = owner.apply(self.session, self.account, self._record, earlier=earlier)
        acceptance = Acceptance(
            fedsm=__version__,
            federation=self.invitation.federation,
            launch=self.invitation.launch,
            two_persons=self.terms.two_persons,
            hyperparameters=self.invitation.hyperparameters,
            rounds=self.invitation.rounds,
            site=self.site,
        )
        write(acceptance, file)
        return acceptance, steps

    def withdraw_stale(self) -> list[str]:
        """Take away the right to start what was approved under other terms; returns the digests."""
        if self.invitation.launch == "direct":
            return []
        both = self.invitation, self.terms
        image = image_uri(self.site)
        return approvals.withdraw_stale(self.session, *both, image, _bootstrap(), self._record)

    def revoke(self) -> tuple[Step, ...]:
        """Take away all that :meth:`apply` and approvals made; never data, models or bundles."""
        before = self._accepted()
        earlier = None if before is None else before.site
        steps = owner.revoke(self.session, self.account, self._record, earlier=earlier)
        for file in (self.path / ACCEPTANCE, *self.path.glob(approval_name("*"))):
            file.unlink(missing_ok=True)
        return steps

    def bundle(self, code: Path | None = None) -> Bundle:
        """The owner's client code as a bundle: ``client_code/`` of the folder, or the shipped."""
        return of_project(self.path, code)

    def publish(self, bundle: Bundle) -> str:
        """Publish a bundle as the publisher; returns its S3 URI."""
        return publish(self.role("publisher").client("s3"), self.site, bundle)

    def approve(self, digest: str, until: datetime | None = None) -> Approval:
        """Approve a bundle as the approver, and write the approval."""
        approval = approvals.approve(
            self.role("approver"),
            self.invitation,
            self.terms,
            digest,
            until,
            image_uri(self.site),
            _bootstrap(),
            self._record,
        )
        write(approval, self.path / approval_name(digest))
        return approval

    def disapprove(self, digest: str) -> tuple[Step, ...]:
        """Take an approval away as the approver."""
        steps = approvals.disapprove(
            self.role("approver"), self.invitation, self.terms, digest, self._record
        )
        (self.path / approval_name(digest)).unlink(missing_ok=True)
        return steps

    def approvals(self) -> list[approvals.Approved]:
        """What is approved, and until when."""
        return approvals.approvals(self.role("approver"), self.invitation, self.terms)

    def published(self, digest: str) -> bytes:
        """A published bundle, as whoever of approver and publisher these credentials may be.

        Raises
        ------
        AccessError, BundleError
            It may not be read, is not there, or holds other bytes than its digest says.
        """
        try:
            session = self.role("publisher" if self.invitation.launch == "direct" else "approver")
        except AccessError:
            session = self.role("publisher")
        return approvals.read_bundle(session, self.site.name, self.terms, digest)

    def unpinned(self, digest: str) -> list[str]:
        """What a job of a published bundle takes that its digest does not pin."""
        files = contents(self.published(digest), digest)
        image = image_uri(self.site)
        found = [] if "@sha256:" in image else [f"the image {image}: name it by @sha256:..."]
        if names := unhashed(files):
            found.append(
                f"what pip's index serves as {', '.join(names)}: publish with a wheelhouse/"
            )
        return found

    def role(self, kind: RoleKind) -> boto3.Session:
        """A session of one of the site's roles.

        Raises
        ------
        AccessError
            These credentials may not take it.
        """
        try:
            arn = self.account.role(kind).arn
        except KeyError:
            raise ConfigError(
                "the server creates the jobs itself here (launch: direct): no approval binds it",
                where=self.site.name,
                action="ask the server for an invitation with launch: pipeline",
            ) from None
        who = {"publisher": self.terms.publisher, "approver": self.terms.approver}.get(kind)
        return role_session(self.session, self.site.name, arn, self.terms.region, who=who)

    def logs(self, job: str | None = None) -> tuple[str, Iterator[tuple[int, str]]]:
        """A job's log with the owner's credentials; without a name, of the site's latest job."""
        if job is None:
            job = self._latest_job()
        return job, jobs.logs(self.session.client("logs"), self.site.name, job)

    def _latest_job(self) -> str:
        place = self.invitation.federation, self.invitation.site
        mark = site_prefix(*place) if self.invitation.launch == "direct" else step_name(*place)
        found = owner.latest_job(self.session, self.site.name, mark)
        if found is None:
            raise JobError(
                "there has been no job yet", where=self.site.name, action="wait for a run"
            )
        return found

    def _accepted(self) -> Acceptance | None:
        file = self.path / ACCEPTANCE
        return read(Acceptance, file) if file.exists() else None

    def _record(self, step: Step) -> None:
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "action": step.action,
            "target": step.target,
            "change": step.change,
        }
        with (self.path / STEPS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _changes(before: Invitation, after: Invitation) -> list[str]:
    old, new = (each.model_dump(mode="json") for each in (before, after))
    return [f"{name}: {old[name]} -> {new[name]}" for name in old if old[name] != new[name]]


def _bootstrap() -> str:
    return asset("iam/bootstrap.py").read_text(encoding="utf-8")
