"""The pipeline role: with it SageMaker creates the one job of an approved pipeline."""

from __future__ import annotations

from fedsm.config import Site
from fedsm.names import pipeline_jobs, pipeline_name
from fedsm.policies.documents import Document, arn, document, service_trust
from fedsm.policies.jobs import job_statements


def pipeline_policy(site: Site, federation: str) -> Document:
    """Rights of the pipeline role.

    The pipeline's definition, which the approver fixes, names image, entry point and code; these
    rights bound it once more.
    """
    jobs = pipeline_jobs(federation, site.name)
    return document(*job_statements(site, jobs, "this site's pipelines"))


def pipeline_trust(site: Site, federation: str) -> Document:
    """Trust of the pipeline role: SageMaker, for pipelines of this site's names."""
    pipelines = f"pipeline/{pipeline_name(federation, site.name, '*')}"
    return service_trust(site.account_id, arn(site, "sagemaker", pipelines))
