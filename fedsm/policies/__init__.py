"""Every IAM, bucket, key and endpoint document, as pure data.

A module a party: ``server`` (the coordinator's account), ``kickoff`` (what the server may do at a
site), ``pipeline`` and ``execution`` (what SageMaker does there), ``publishing`` (the owner's
people) and ``stores`` (what stands on buckets, keys and endpoints). Each statement carries a
sentence that says what it allows, to whom and why.

ARNs are of the partition of the site's kickoff role: ``aws``, ``aws-cn`` or ``aws-us-gov``.
"""

from fedsm.policies.documents import (
    Document,
    Statement,
    document,
    person_trust,
)
from fedsm.policies.execution import (
    execution_approval,
    execution_boundary,
    execution_policy,
    execution_trust,
)
from fedsm.policies.kickoff import (
    kickoff_approval,
    kickoff_boundary,
    kickoff_policy,
    kickoff_trust,
    watcher_policy,
)
from fedsm.policies.pipeline import pipeline_policy, pipeline_trust
from fedsm.policies.publishing import approver_policy, publisher_policy
from fedsm.policies.server import caller_policy, coordinator_policy, coordinator_trust
from fedsm.policies.stores import (
    code_statements,
    endpoint_policy,
    key_statements,
)

__all__ = [
    "Document",
    "Statement",
    "approver_policy",
    "caller_policy",
    "code_statements",
    "coordinator_policy",
    "coordinator_trust",
    "document",
    "endpoint_policy",
    "execution_approval",
    "execution_boundary",
    "execution_policy",
    "execution_trust",
    "key_statements",
    "kickoff_approval",
    "kickoff_boundary",
    "kickoff_policy",
    "kickoff_trust",
    "person_trust",
    "pipeline_policy",
    "pipeline_trust",
    "publisher_policy",
    "watcher_policy",
]
