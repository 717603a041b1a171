"""The embedded local cloud: many AWS accounts on this machine, with real jobs and real denials.

``up(directory, accounts=...)`` starts a process of its own for a project's directory and returns
its `Endpoint`; ``Endpoint.session(account, region)`` is that account's administrator. boto3 calls
go over real HTTP: every request's signature is checked, IAM is enforced, and training jobs run
under SageMaker's contract. moto answers the other APIs.

What is not modelled is refused with an error that says so. Accepted without effect, because
nothing here corresponds to it: instance type and volume (size and key), the reachability that
VpcConfig gives, encryption between containers.

Job records and administrators' keys outlive a restart of the cloud; roles, policies, buckets, log
streams, experiments and role sessions live in memory and do not.
"""

from __future__ import annotations

from fedsm.errors import LocalCloudError
from fedsm.local.control import Endpoint, down, status, up

__all__ = ["Endpoint", "LocalCloudError", "down", "status", "up"]
