"""Rights on the logs of training jobs."""

from __future__ import annotations

from collections.abc import Sequence

from fedsm.config import Site
from fedsm.policies.documents import Statement, allow, arn

_GROUP = "log-group:/aws/sagemaker/TrainingJobs"


def _logs(
    verb: str, sentence: str, site: Site, jobs: str, *, group: Sequence[str], stream: Sequence[str]
) -> list[Statement]:
    """Rights on the log group of training jobs, and on the streams of the jobs of these names.

    Source: Service Authorization Reference, "Amazon CloudWatch Logs". In a policy a group's ARN
    ends with ``:*``, which covers its streams too: so actions on streams stand apart.
    """
    return [
        allow(
            f"{verb}LogGroup",
            f"{sentence}: the group that all training jobs of the account share",
            group,
            [arn(site, "logs", f"{_GROUP}:*")],
        ),
        allow(
            f"{verb}LogStreams",
            f"{sentence}: the streams of this site's own jobs, and no others",
            stream,
            [arn(site, "logs", f"{_GROUP}:log-stream:{jobs}")],
        ),
    ]


def write_logs(site: Site, jobs: str) -> list[Statement]:
    """What a job needs in order to log."""
    return _logs(
        "Write",
        "lets jobs write their logs, which the owner reads",
        site,
        jobs,
        group=["logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams"],
        stream=["logs:PutLogEvents"],
    )


def read_logs(site: Site, jobs: str) -> list[Statement]:
    """What the server needs in order to read the logs of jobs."""
    return _logs(
        "Read",
        "lets the server read the jobs' logs, since the owner's terms grant it",
        site,
        jobs,
        group=["logs:DescribeLogStreams"],
        stream=["logs:GetLogEvents"],
    )
