"""Set up on the local cloud what server and data owners set up on AWS: roles, buckets, data, code.

A site whose data lie in ``data/<site>/`` is the project's own: it is onboarded as its owner would
do it on AWS, from the federation's own fields, in the owner's folder ``agreements/<site>/``. A site
without such data has an owner of its own, who accepts an invitation; his account is left alone.

What is set up is kept in a file beside the cloud's state, written when all of it succeeded. Changed
data are uploaded again; roles and bucket policies are the owners' consent, which a change of
``federation.yaml`` alone does not renew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from fedsm import __version__, policies
from fedsm import config as configuration
from fedsm.agreement import Terms, invitation_of, partition_of, read
from fedsm.agreements import ACCEPTANCE, AGREEMENTS, INVITATION, invite
from fedsm.aws.calls import error_code
from fedsm.bundle import Bundle
from fedsm.clouds import LocalCloud
from fedsm.config import FederationConfig, Site
from fedsm.errors import ConfigError, LocalCloudError
from fedsm.federation_file import add
from fedsm.site_folder import TERMS, SiteFolder
from fedsm.uploads import digest_of, upload

MARKER = "set-up.json"
DATA = "data"

_PARALLEL = 4


@dataclass(frozen=True, slots=True)
class Done:
    """What is set up on one process of the cloud.

    Attributes
    ----------
    cloud : str
        That process: :meth:`LocalCloud.identity`.
    server : str
        Digest of the coordinator's policy.
    sites : list of str
        Sites that are set up.
    data : dict of str to str
        Digest of the uploaded folder by ``<site>/<channel>``.
    """

    cloud: str
    server: str = ""
    sites: list[str] = field(default_factory=list)
    data: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path, cloud: str) -> Done:
        """Read the file; nothing is done when it is missing, broken or of another process."""
        try:
            found = cls(**json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return cls(cloud)
        return found if found.cloud == cloud else cls(cloud)

    def write(self, file: Path) -> None:
        """Write the file."""
        file.write_text(json.dumps(asdict(self)), encoding="utf-8")


def provision(
    cloud: LocalCloud,
    config: FederationConfig,
    project: Path,
    bundle: Callable[[], Bundle],
    *,
    again: bool = False,
) -> None:
    """Set up the server's account, and each of the project's own sites that is not set up yet.

    Of the others, only channels whose folder has changed are uploaded again. The caller holds the
    project's lock.

    Parameters
    ----------
    bundle : callable
        Makes the bundle to publish, and in the pipeline launch to approve.
    again : bool
        Set up every site again.

    Raises
    ------
    LocalCloudError, AccessError, ConfigError
        A site's channel has no files, cannot be uploaded, or the site cannot be set up.
    """
    marker = cloud.endpoint.directory / MARKER
    identity = cloud.identity()
    done = Done(identity) if again else Done.read(marker, identity)
    own = [site for site in config.sites if _is_own(project, site)]
    # Before the upload: what changes meanwhile differs the next time.
    digests = _digests(project, own)
    changed = {name for name, digest in digests.items() if done.data.get(name) != digest}
    missing = [site for site in own if site.name not in done.sites]
    server = _server_digest(config)
    if not (missing or changed or server != done.server):
        return
    # What fails half-way is not taken for done, neither as it is nor as it was.
    kept = {name: digest for name, digest in done.data.items() if name not in changed}
    Done(identity, "", done.sites, kept).write(marker)
    _coordinator(cloud, config)
    if missing:
        made = bundle()
        _each(missing, lambda site: _set_up(_agreed(cloud, config, project, site), made))
    for site in own:
        for channel in site.channels:
            if f"{site.name}/{channel}" in changed:
                upload(cloud.owner(site), config, site, channel, project / DATA)
    sites = sorted({*done.sites, *(site.name for site in own)})
    Done(identity, server, sites, kept | digests).write(marker)


def onboard(
    cloud: LocalCloud,
    config: FederationConfig,
    project: Path,
    sites: Iterable[str],
    bundle: Bundle,
) -> Iterator[str]:
    """Go with each owner whose terms lie in ``agreements/`` all the way to ``federation.yaml``.

    Parameters
    ----------
    sites : iterable of str
        Their names, in the order in which they are added.

    Returns
    -------
    iterator of str
        What was done, line by line.
    """
    from fedsm import local

    _coordinator(cloud, config)
    places = [project / AGREEMENTS / name for name in sites]
    agreed = {place: read(Terms, place / TERMS) for place in places}
    accounts = [terms.account_id for terms in agreed.values()]
    endpoint = local.up(project, accounts=accounts)
    folders = []
    for place, terms in agreed.items():
        invite(config, place.name, place / INVITATION)
        folders.append(SiteFolder(place, endpoint.session(terms.account_id, terms.region)))
    file = project / "federation.yaml"
    for documents in _each(folders, lambda folder: _set_up(folder, bundle)):
        for document in documents:
            add(file, document)
        done = "accepted and published" + (", approved" if len(documents) > 1 else "")
        yield f"{documents[0].site.name}: invited, {done}, added"
    config = configuration.load(file)
    _coordinator(cloud, config)
    digests = _digests(project, config.sites)
    for site in config.sites:
        for channel in site.channels:
            upload(cloud.owner(site), config, site, channel, project / DATA)
    Done(
        cloud.identity(), _server_digest(config), [site.name for site in config.sites], digests
    ).write(cloud.endpoint.directory / MARKER)


def _set_up(folder: SiteFolder, bundle: Bundle) -> list[Any]:
    """Accept, publish, approve; returns what the server gets of it."""
    acceptance, _ = folder.apply()
    folder.publish(bundle)
    if folder.invitation.launch == "direct":
        return [acceptance]
    return [acceptance, folder.approve(bundle.sha256)]


def _agreed(cloud: LocalCloud, config: FederationConfig, project: Path, site: Site) -> SiteFolder:
    """The folder of a site's owner who agrees to what ``federation.yaml`` says.

    Raises
    ------
    ConfigError
        It names other roles than onboarding makes.
    """
    folder = SiteFolder(project / AGREEMENTS / site.name, cloud.owner(site))
    folder.agree(invitation_of(config, site.name, site.external_id, __version__), site)
    for name in ("role_arn", "execution_role_arn"):
        made = getattr(folder.site, name)
        if made != getattr(site, name):
            raise ConfigError(
                "is another role than onboarding makes",
                where=f"sites.{site.name}.{name}",
                action=f"write {made}",
            )
    return folder


def _is_own(project: Path, site: Site) -> bool:
    if (project / DATA / site.name).is_dir():
        return True
    folder = project / AGREEMENTS / site.name
    if (folder / ACCEPTANCE).exists() and not (folder / TERMS).exists():
        return False
    raise LocalCloudError(
        f"there is no folder {project / DATA / site.name}",
        where=site.name,
        action="put its channels' files there, or let an owner of its own accept: "
        f"fedsm site invite {site.name}",
    )


def _digests(project: Path, sites: Iterable[Site]) -> dict[str, str]:
    return {
        f"{site.name}/{channel}": digest_of(project / DATA / site.name / channel)
        for site in sites
        for channel in site.channels
    }


def _each(items: Iterable[Any], work: Callable[[Any], Any]) -> list[Any]:
    with ThreadPoolExecutor(_PARALLEL) as pool:
        return list(pool.map(work, items))


def _coordinator_policy(config: FederationConfig) -> dict[str, Any]:
    server = config.coordinator
    return policies.coordinator_policy(
        server.account_id,
        server.region,
        [site.role_arn for site in config.sites],
        config.tracking.prefix,
        aws=partition_of(server.role_arn or "arn:aws"),
    )


def _server_digest(config: FederationConfig) -> str:
    said = json.dumps([config.coordinator.role_arn, _coordinator_policy(config)])
    return hashlib.sha256(said.encode()).hexdigest()


def _coordinator(cloud: LocalCloud, config: FederationConfig) -> None:
    """The coordinator's role, which every site's trust names."""
    server = config.coordinator
    if server.role_arn is None:
        return
    iam = cloud.coordinator().client("iam")
    path, _, name = server.role_arn.split(":role", 1)[1].rpartition("/")
    trust = json.dumps(policies.coordinator_trust(server.account_id))
    try:
        iam.create_role(RoleName=name, Path=f"{path}/", AssumeRolePolicyDocument=trust)
    except ClientError as error:
        if error_code(error) != "EntityAlreadyExists":
            raise
        iam.update_assume_role_policy(RoleName=name, PolicyDocument=trust)
    rights = json.dumps(_coordinator_policy(config))
    iam.put_role_policy(RoleName=name, PolicyName="fedsm", PolicyDocument=rights)
