"""The embedded local cloud: many AWS accounts on this machine, with real jobs and real denials.

``up(directory, accounts=...)`` starts a process of its own for a project's directory and returns
its `Endpoint`; ``Endpoint.session(account, region)`` is that account's administrator. boto3 calls
go over real HTTP: every request's signature is checked, IAM is enforced, and training jobs run
under SageMaker's contract. moto answers the other APIs.

A SageMaker pipeline of one training step runs its step with the rights of the pipeline's own role.

What is not modelled is refused with an error that says so. Accepted without effect, because
nothing here corresponds to it: instance type and size of the volume, the reachability that
VpcConfig gives and the policies of VPC endpoints, encryption between containers. The rights on
keys, network interfaces and registries that AWS asks for are asked for here too, though nothing is
encrypted, attached or pulled.

Records of jobs and pipeline executions and administrators' keys outlive a restart of the cloud;
roles, policies, keys, buckets, pipelines, log streams, experiments and role sessions live in memory
and do not.
"""

from __future__ import annotations

from fedsm.errors import LocalCloudError
from fedsm.local.control import Endpoint, down, status, up

__all__ = ["Endpoint", "LocalCloudError", "down", "status", "up"]
