"""``fedsm site``: the data owner's commands, with the credentials of his own account.

They work in the folder that ``accept`` makes of an invitation.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedsm.cli_options import HERE, Json, print_json, print_lines
from fedsm.errors import BundleError, ConfigError

if TYPE_CHECKING:
    from fedsm.onboarding import Explained
    from fedsm.site_folder import SiteFolder

app = typer.Typer()

Folder = Annotated[
    Path,
    typer.Argument(
        metavar="[FOLDER]", help="The owner's folder of the site; the current one without it."
    ),
]
Digest = Annotated[str, typer.Argument(help="The bundle's whole digest.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@app.command()
def accept(
    place: Annotated[
        Path,
        typer.Argument(
            metavar="[INVITATION|FOLDER]",
            help="The invitation, or the folder that this made of it.",
        ),
    ] = HERE,
    terms: Annotated[
        Path | None, typer.Option(help="Your terms; without them a file to fill in is written.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The folder; FEDERATION-SITE here without it.")
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Create it, with your own credentials.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Owner: see all that would be created in your account; create it with --apply."""
    from fedsm.report import console
    from fedsm.site_folder import TERMS, SiteFolder

    folder = SiteFolder.open(place) if place.is_dir() else SiteFolder.start(place, out)
    say = console(stderr=as_json)
    print_lines(say, [f"the invitation has changed: {each}" for each in folder.news])
    if terms is not None:
        folder.take_terms(terms)
    elif folder.needs_terms():
        print_lines(
            say,
            [
                f"wrote {folder.path / TERMS}: fill in your terms there, then see what they come "
                f"to: fedsm site accept {folder.path}"
            ],
        )
        if as_json:
            print_json({"folder": str(folder.path), "terms": str(folder.path / TERMS)})
        return
    sentences = folder.review()
    steps = folder.apply()[1] if apply else ()
    withdrawn = folder.withdraw_stale() if apply else []
    if as_json:
        print_json(
            {
                "folder": str(folder.path),
                "site": folder.site.name,
                "account": folder.site.account_id,
                "launch": folder.invitation.launch,
                "two_persons": folder.terms.two_persons,
                "statements": [
                    {"holder": each.holder, "sid": each.sid, "sentence": each.sentence}
                    for each in sentences
                ],
                "applied": apply,
                "withdrawn": withdrawn,
                "steps": [
                    {"action": each.action, "target": each.target, "change": each.change}
                    for each in steps
                ],
            }
        )
        return
    print_lines(
        say, _accepted(folder, len(steps), withdrawn) if apply else _reviewed(folder, sentences)
    )


def _reviewed(folder: SiteFolder, sentences: list[Explained]) -> list[str]:
    from fedsm.site_folder import REVIEW

    lines: list[str] = []
    holder = ""
    for each in sentences:
        if each.holder != holder:
            holder = each.holder
            lines += ["", holder]
        lines.append(f"  {each.sid}: {each.sentence}")
    return [
        *lines,
        "",
        *_two_persons(folder),
        f"nothing is created yet. Every document is in {folder.path / REVIEW}",
        f"create it: fedsm site accept {folder.path} --apply",
    ]


def _accepted(folder: SiteFolder, steps: int, withdrawn: list[str]) -> list[str]:
    from fedsm.agreements import ACCEPTANCE

    changes = f"{steps} changes made" if steps else "all was there already"
    lines = [f"{folder.site.name}: account {folder.site.account_id} is set up, {changes}"]
    for digest in withdrawn:
        lines.append(
            f"bundle {digest[:12]} was approved under other terms, and can be started no more; "
            "approve it again: "
            f"fedsm site approve {digest} {folder.path}"
        )
    return [
        *lines,
        *_two_persons(folder),
        f"send the server {folder.path / ACCEPTANCE}",
        f"next: fedsm site publish {folder.path}",
    ]


def _two_persons(folder: SiteFolder) -> list[str]:
    if folder.terms.two_persons or folder.invitation.launch == "direct":
        return []
    return [
        "IAM does not keep publisher and approver apart: an approval is a record, not a rule of "
        "two persons, until the terms name two different principals"
    ]


@app.command()
def publish(
    place: Folder = HERE,
    code: Annotated[
        Path | None, typer.Option(help="The client code; client_code/ of the folder without it.")
    ] = None,
) -> None:
    """Owner: put your client code into your code bucket, as the publisher."""
    folder = _folder(place)
    bundle = folder.bundle(code)
    print(f"{folder.site.name}: {folder.publish(bundle)}")
    if folder.invitation.launch == "pipeline":
        print(f"next, by the approver: fedsm site approve {bundle.sha256} {place}")


@app.command()
def approve(
    digest: Digest,
    place: Folder = HERE,
    until: Annotated[
        str | None,
        typer.Option(help="Last day (2026-12-31), or moment (2026-12-31T12:00:00Z), it holds."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the approval there, too.")] = None,
) -> None:
    """Owner: let the server start one published bundle, as the approver."""
    from fedsm.agreement import write
    from fedsm.agreements import approval_name

    end_at = None if until is None else moment(until)
    _check_digest(digest)
    folder = _folder(place)
    approval = folder.approve(digest, end_at)
    for each in folder.unpinned(digest):
        print(f"warning: the digest does not pin {each}", file=sys.stderr)
    if out is not None:
        write(approval, out)
    end = f" until {approval.until.isoformat()}" if approval.until else ""
    print(f"{folder.site.name}: bundle {digest[:12]} is approved{end}")
    print(f"send the server {out or folder.path / approval_name(digest)}")


@app.command()
def disapprove(digest: Digest, place: Folder = HERE) -> None:
    """Owner: take an approval away, the right to start first."""
    _check_digest(digest)
    folder = _folder(place)
    steps = folder.disapprove(digest)
    what = "is disapproved" if steps else "was not approved"
    print(f"{folder.site.name}: bundle {digest[:12]} {what}")


@app.command()
def approvals(place: Folder = HERE, as_json: Json = False) -> None:
    """Owner: list what is approved and until when, as the roles' own policies say."""
    folder = _folder(place)
    found = folder.approvals()
    if as_json:
        print_json(
            [
                {
                    "bundle": each.bundle,
                    "until": each.until.isoformat() if each.until else None,
                    "complete": each.complete,
                }
                for each in found
            ]
        )
        return
    for each in found:
        end = f"until {each.until.isoformat()}" if each.until else "without end"
        print(f"{each.bundle} {end}{'' if each.complete else ' (incomplete: approve it again)'}")
    if not found:
        print("nothing is approved")


@app.command()
def revoke(place: Folder = HERE, yes: Yes = False) -> None:
    """Owner: take away all that accept and approve made; never data, models or bundles."""
    folder = _folder(place)
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigError(
                "would take all roles and pipelines of the site away",
                where=folder.site.name,
                action="say so with --yes",
            )
        typer.confirm(
            f"Take all roles, pipelines and policy statements of {folder.site.name} out of "
            f"account {folder.site.account_id}?",
            abort=True,
        )
    steps = folder.revoke()
    print(f"{folder.site.name}: revoked, {len(steps)} changes; data, models and bundles are left")


@app.command()
def diff(
    before: Annotated[
        str, typer.Argument(help="A published digest, a tar.gz, or a folder of client code.")
    ],
    after: Annotated[str, typer.Argument(help="Likewise.")],
    place: Folder = HERE,
    as_json: Json = False,
) -> None:
    """Owner: what changed between two bundles: files, requirements, and every line."""
    from fedsm.bundle_diff import compare, contents, report
    from fedsm.report import console

    sides = [contents(_data(name, place), name) for name in (before, after)]
    difference = compare(*sides)
    if as_json:
        print_json(difference.as_data())
    else:
        print_lines(console(), report(difference))


@app.command()
def logs(
    place: Folder = HERE,
    job: Annotated[str | None, typer.Option(help="The job; the latest without it.")] = None,
) -> None:
    """Owner: print a job's log."""
    name, lines = _folder(place).logs(job)
    print(f"job {name}", file=sys.stderr)
    for stamp, line in lines:
        time_of = datetime.fromtimestamp(stamp / 1000, UTC).isoformat(timespec="milliseconds")
        print(f"{time_of} {line}")


def moment(text: str) -> datetime:
    """When an approval ends: a moment, UTC without a zone, or the end of a day.

    Raises
    ------
    ConfigError
        It is neither, or has passed.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"{text!r} is no date",
            where="--until",
            action="write it as 2026-12-31, or 2026-12-31T12:00:00Z",
        ) from None
    if len(text) == len("2026-12-31"):
        found = datetime.combine(found.date() + timedelta(days=1), time())
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    if found <= datetime.now(UTC):
        raise ConfigError(f"{text} has passed", where="--until", action="give a date in the future")
    return found.astimezone(UTC)


def _folder(place: Path) -> SiteFolder:
    from fedsm.site_folder import SiteFolder

    return SiteFolder.open(place)


def _check_digest(digest: str) -> None:
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise ConfigError(
            f"{digest!r} is no digest",
            where="DIGEST",
            action="give all 64 digits, as fedsm site publish printed them",
        )


def _data(name: str, place: Path) -> bytes:
    """The bytes of a bundle: published, in a file, or made of a folder."""
    path = Path(name)
    if path.is_dir():
        from fedsm.bundle import build

        return build(path).data
    if path.is_file():
        return path.read_bytes()
    if len(name) != 64:
        raise BundleError(
            "is neither a digest nor a file", where=name, action="give a whole digest or a path"
        )
    _check_digest(name)
    return _folder(place).published(name)
