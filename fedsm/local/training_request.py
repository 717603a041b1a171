"""What a CreateTrainingJob request may hold here, and the condition keys that it gives."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fedsm.local.authorise import tag_context
from fedsm.local.protocol import ApiError, not_modelled

IMAGES = re.compile(
    r"(\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/)?"
    r"(sagemaker-scikit-learn|fedsm(/[a-z0-9._/-]+)?)([:@][\w.:-]+)?"
)
"""Images that stand for the interpreter which runs the cloud."""

MODELLED: dict[str, Any] = {
    "TrainingJobName": True,
    "HyperParameters": True,
    "AlgorithmSpecification": {
        "TrainingImage": True,
        "TrainingInputMode": {"File"},
        "MetricDefinitions": True,
        "ContainerEntrypoint": True,
        "ContainerArguments": True,
        "EnableSageMakerMetricsTimeSeries": {False},
    },
    "RoleArn": True,
    "InputDataConfig": [
        {
            "ChannelName": True,
            "DataSource": {
                "S3DataSource": {
                    "S3DataType": {"S3Prefix"},
                    "S3Uri": True,
                    "S3DataDistributionType": {"FullyReplicated"},
                }
            },
            "ContentType": True,
            "CompressionType": {"None"},
            "RecordWrapperType": {"None"},
            "InputMode": {"File"},
        }
    ],
    "OutputDataConfig": {"S3OutputPath": True, "KmsKeyId": True, "CompressionType": {"GZIP"}},
    "ResourceConfig": {
        "InstanceType": True,
        "InstanceCount": {1},
        "VolumeSizeInGB": True,
        "VolumeKmsKeyId": True,
    },
    "VpcConfig": {"SecurityGroupIds": True, "Subnets": True},
    "StoppingCondition": {"MaxRuntimeInSeconds": True},
    "Tags": True,
    "EnableNetworkIsolation": {False},
    "EnableInterContainerTrafficEncryption": True,
    "EnableManagedSpotTraining": {False},
    "Environment": True,
    "ProfilerConfig": {"DisableProfiler": {True}},
    "RemoteDebugConfig": {"EnableRemoteDebug": {False}},
}
"""Fields of CreateTrainingJob that are honoured: True for any value, a set for these values."""


def check(body: Mapping[str, Any]) -> None:
    """Refuse what the cloud would not honour, and an image or a metric that cannot be.

    Raises
    ------
    ApiError
        Names the field.
    """
    refuse_unmodelled(body, MODELLED, "")
    image = body["AlgorithmSpecification"].get("TrainingImage", "")
    if not IMAGES.fullmatch(image):
        raise ApiError(
            "ValidationException",
            f"Cannot pull image {image!r}: the local cloud has no registry; it runs "
            "sagemaker-scikit-learn and fedsm images, in its own interpreter",
        )
    _check_metrics(body["AlgorithmSpecification"].get("MetricDefinitions", []))


def refuse_unmodelled(value: Any, known: Any, where: str) -> None:
    """Refuse fields and values of a request that the cloud would not honour.

    Raises
    ------
    ApiError
        Names the first such field.
    """
    if known is True:
        return
    if isinstance(known, set):
        if value not in known:
            raise not_modelled(f"{where}={value}")
        return
    if isinstance(known, list):
        for item in value:
            refuse_unmodelled(item, known[0], where)
        return
    for name, member in value.items():
        path = f"{where}.{name}" if where else name
        if name not in known:
            raise not_modelled(f"{path} of CreateTrainingJob")
        refuse_unmodelled(member, known[name], path)


def creation_context(body: Mapping[str, Any]) -> dict[str, Sequence[str]]:
    """SageMaker's condition keys of CreateTrainingJob; a field that is not set gives no key.

    Source: Service Authorization Reference, "Condition keys for Amazon SageMaker".
    """
    resources, vpc = body["ResourceConfig"], body.get("VpcConfig", {})
    types = [resources["InstanceType"]] if "InstanceType" in resources else []
    types += [group["InstanceType"] for group in resources.get("InstanceGroups", [])]
    single = {
        "MaxRuntimeInSeconds": body.get("StoppingCondition", {}).get("MaxRuntimeInSeconds"),
        "VolumeKmsKey": resources.get("VolumeKmsKeyId"),
        "KeepAlivePeriod": resources.get("KeepAlivePeriodInSeconds"),
        "OutputKmsKey": body["OutputDataConfig"].get("KmsKeyId") or None,
        "InterContainerTrafficEncryption": body.get("EnableInterContainerTrafficEncryption"),
        "NetworkIsolation": body.get("EnableNetworkIsolation"),
        "EnableRemoteDebug": body.get("RemoteDebugConfig", {}).get("EnableRemoteDebug"),
    }
    files = [
        channel["DataSource"]["FileSystemDataSource"]
        for channel in body.get("InputDataConfig", [])
        if "FileSystemDataSource" in channel["DataSource"]
    ]
    lists = {
        "InstanceTypes": types,
        "VpcSubnets": vpc.get("Subnets", []),
        "VpcSecurityGroupIds": vpc.get("SecurityGroupIds", []),
        "FileSystemId": [file["FileSystemId"] for file in files],
        "FileSystemAccessMode": [file["FileSystemAccessMode"] for file in files],
        "FileSystemDirectoryPath": [file["DirectoryPath"] for file in files],
        "FileSystemType": [file["FileSystemType"] for file in files],
    }
    context = {f"sagemaker:{name.lower()}": values for name, values in lists.items() if values}
    for name, value in single.items():
        if value is not None:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            context[f"sagemaker:{name.lower()}"] = [text]
    return context | tag_context(body.get("Tags", []))


def _check_metrics(definitions: Sequence[Mapping[str, str]]) -> None:
    for definition in definitions:
        try:
            re.compile(definition["Regex"])
        except re.error as error:
            raise ApiError(
                "ValidationException",
                f"the regular expression of the metric {definition['Name']} is invalid: {error}",
            ) from error
