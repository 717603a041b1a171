"""The launch of a run: its plan from the configuration, and what must hold before it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fedsm.address import resolve
from fedsm.assets import asset
from fedsm.config import FederationConfig
from fedsm.errors import AccessError
from fedsm.images import image_uri
from fedsm.names import job_name
from fedsm.pipeline import pipeline_arn
from fedsm.plan import MODES, Facts, LaunchPlan, Mode, launch_plan
from fedsm.tracking.names import experiment_name


def make_plan(
    config: FederationConfig,
    run: str,
    bundle_sha256: str,
    certificate: str,
    join_ids: Mapping[str, str],
    port: int,
) -> LaunchPlan:
    """The launch of ``run``; makes no call."""
    direct = config.mode == "direct"
    return launch_plan(
        config,
        Facts(
            run=run,
            address=f"{resolve(config.coordinator, config.cloud)}:{port}",
            certificate=certificate,
            join_ids=join_ids,
            bundle_sha256=bundle_sha256,
            images={site.name: image_uri(site) for site in config.sites} if direct else {},
            bootstrap=asset("iam/bootstrap.py").read_text(encoding="utf-8") if direct else "",
        ),
    )


def make_join_ids(config: FederationConfig) -> dict[str, str]:
    """An unguessable name for each site's launch."""
    return {site.name: secrets.token_urlsafe(24) for site in config.sites}


def check_approvals(config: FederationConfig, bundle_sha256: str) -> None:
    """See that no approval has ended, as far as ``federation.yaml`` tells.

    Raises
    ------
    AccessError
        One has; names the site and the bundle.
    """
    if config.mode == "direct":
        return
    now = datetime.now(UTC)
    for site in config.sites:
        if site.bundle_until is not None and site.bundle_until <= now:
            digest = site.bundle or bundle_sha256
            raise AccessError(
                f"the approval of bundle {digest[:12]} ended on {site.bundle_until.isoformat()}",
                where=site.name,
                action="let the owner's approver run `fedsm site approve` again, and put the new "
                "approval into federation.yaml with `fedsm site add`",
            )


def unread_bundle(digest: str, mode: Mode) -> str:
    """Why a job did not get its bundle, and whose task it is."""
    if mode == "direct":
        return f"bundle {digest[:12]} is not published; let the owner run `fedsm publish`"
    return (
        f"bundle {digest[:12]} is not published, or its approval has ended; let the owner run "
        "`fedsm publish`, and the approver `fedsm site approve`"
    )


def run_started(
    config: FederationConfig, run: str, bundle_sha256: str, isolation: str
) -> dict[str, Any]:
    """What the journal's first line says; with it alone a run's jobs can be found and stopped."""
    training, tracking, server = config.training, config.tracking, config.coordinator
    sites = []
    for site in config.sites:
        digest = site.bundle or bundle_sha256
        until = site.bundle_until
        where = (
            {"job": job_name(config.name, run, site.name)}
            if config.mode == "direct"
            else {
                "pipeline": pipeline_arn(site, config.name, digest),
                "bundle_until": until.isoformat() if until else "",
            }
        )
        sites.append(
            {
                "name": site.name,
                "account": site.account_id,
                "region": site.region,
                "instance_type": site.instance_type,
                "bundle": digest,
                "role": site.role_arn,
                "external_id": site.external_id,
                "execution_role": site.execution_role_arn,
                "output": site.output,
                **where,
            }
        )
    return {
        "run": run,
        "federation": config.name,
        "cloud": config.cloud,
        "isolation": isolation,
        "coordinator": {
            "account": server.account_id,
            "region": server.region,
            "role": server.role_arn or "",
        },
        "launch": config.mode,
        "mode": MODES[config.mode],
        "rounds": training.rounds,
        "strategy": training.strategy,
        "options": training.options,
        "hyperparameters": training.hyperparameters,
        "min_sites": config.min_sites,
        "model": training.model or "",
        "experiment": experiment_name(tracking.prefix, config.name) if tracking.experiments else "",
        "sites": sites,
        "bundle": bundle_sha256,
    }
