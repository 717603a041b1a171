"""The same account as a CloudFormation template."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from typing import Any

import yaml

from fedsm.onboarding.account import Account, BucketRules
from fedsm.policies import Statement, document


def cloudformation(account: Account) -> dict[str, Any]:
    """A template that creates what ``account`` says.

    It leaves out what a template cannot do: statements cannot be merged into the policy of a bucket
    or key that is there already, so that of a key is never in it, and that of a bucket which the
    owner keeps only if a parameter says so. Buckets stay when the stack goes.
    """
    site = account.site
    resources: dict[str, Any] = {}
    boundaries = {bound.arn: f"{_logical(bound.name)}" for bound in account.boundaries}
    for bound in account.boundaries:
        resources[boundaries[bound.arn]] = {
            "Type": "AWS::IAM::ManagedPolicy",
            "Properties": {
                "ManagedPolicyName": bound.name,
                "Description": f"The most that a role of fedsm's site {site.name} may be given",
                "PolicyDocument": bound.document,
            },
        }
    for role in account.roles:
        bounded = (
            {"PermissionsBoundary": {"Ref": boundaries[role.boundary]}} if role.boundary else {}
        )
        resources[f"{role.kind.capitalize()}Role"] = {
            "Type": "AWS::IAM::Role",
            "Properties": {
                "RoleName": role.name,
                "Description": f"{role.kind} role of fedsm's site {site.name}",
                "AssumeRolePolicyDocument": role.trust,
                **bounded,
                "Policies": [
                    {"PolicyName": name, "PolicyDocument": rights}
                    for name, rights in role.policies.items()
                ],
            },
        }
    parameters: dict[str, Any] = {}
    conditions: dict[str, Any] = {}
    for i, rule in enumerate(account.buckets):
        resources |= _bucket(rule, i)
        if rule.statements:
            parameters["CodeBucketPolicy"] = {
                "Type": "String",
                "AllowedValues": ["replace", "leave"],
                "Default": "replace" if rule.create else "leave",
                "Description": (
                    "replace: the stack sets the whole policy of the code bucket. leave: the "
                    "bucket has statements of others; merge code-bucket-policy.json into them."
                ),
            }
            conditions["ReplaceCodeBucketPolicy"] = {
                "Fn::Equals": [{"Ref": "CodeBucketPolicy"}, "replace"]
            }
    if account.endpoint_policy is not None and account.vpc_id is not None:
        parameters["RouteTables"] = {
            "Type": "String",
            "Default": "",
            "Description": (
                "Route tables of the jobs' subnets, joined by commas, for an S3 endpoint that "
                "serves this site alone; empty: none is made."
            ),
        }
        conditions["MakeEndpoint"] = {"Fn::Not": [{"Fn::Equals": [{"Ref": "RouteTables"}, ""]}]}
        resources["S3Endpoint"] = {
            "Type": "AWS::EC2::VPCEndpoint",
            "Condition": "MakeEndpoint",
            "Properties": {
                "VpcId": account.vpc_id,
                "ServiceName": {"Fn::Sub": "com.amazonaws.${AWS::Region}.s3"},
                "VpcEndpointType": "Gateway",
                "RouteTableIds": {"Fn::Split": [",", {"Ref": "RouteTables"}]},
                "PolicyDocument": account.endpoint_policy,
            },
        }
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"fedsm: site {site.name} in account {site.account_id}, {site.region}",
        **({"Parameters": parameters, "Conditions": conditions} if parameters else {}),
        "Resources": resources,
        "Outputs": {
            f"{role.kind.capitalize()}RoleArn": {
                "Value": {"Fn::GetAtt": [f"{role.kind.capitalize()}Role", "Arn"]}
            }
            for role in account.roles
        },
    }


def template_text(template: dict[str, Any]) -> str:
    """The template as YAML, each statement under its sentence."""
    sentences = iter([s.sentence for s in _statements(template)])
    text = yaml.safe_dump(json.loads(json.dumps(template)), sort_keys=False, width=100)

    def commented(found: re.Match[str]) -> str:
        indent = found[1] + "# "
        lines = textwrap.wrap(next(sentences), 100, initial_indent=indent, subsequent_indent=indent)
        return "\n".join([*lines, found[0]])

    return re.sub(r"^( *)- Sid: .*$", commented, text, flags=re.MULTILINE)


def _bucket(rule: BucketRules, i: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    versioned = {"VersioningConfiguration": {"Status": "Enabled"}} if rule.versioned else {}
    if rule.create:
        found[f"Bucket{i}"] = {
            "Type": "AWS::S3::Bucket",
            "DeletionPolicy": "Retain",
            "UpdateReplacePolicy": "Retain",
            "Properties": {"BucketName": rule.bucket, **versioned},
        }
    if rule.statements:
        found["CodeBucketRules"] = {
            "Type": "AWS::S3::BucketPolicy",
            "Condition": "ReplaceCodeBucketPolicy",
            **({"DependsOn": f"Bucket{i}"} if rule.create else {}),
            "Properties": {
                "Bucket": rule.bucket,
                "PolicyDocument": document(*rule.statements),
            },
        }
    return found


def _logical(name: str) -> str:
    """A resource's name in a template: letters and digits."""
    kind = name.removesuffix("-boundary").rpartition("-")[2]
    return f"{kind.capitalize()}Boundary"


def _statements(node: Any) -> Iterator[Statement]:
    """The statements of a template, in its order."""
    if isinstance(node, Statement):
        yield node
    elif isinstance(node, dict):
        for value in node.values():
            yield from _statements(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _statements(value)
