"""The file that a data owner fills in: every term, with what it means."""

from __future__ import annotations

import os
import textwrap

from fedsm.agreement import METRICS, Invitation
from fedsm.contract import TREES

_TEMPLATE = """\
# Terms of site {site} in the federation {federation}, by its data owner.
#
# The server, account {server}, asks to start jobs in your account:
#   its role       {role}
#   jobs dial      {addresses}, {port}, and nothing else
#   rounds         at most {rounds} a run
#   {launch}
#   hyperparameters{hyperparameters}
#
# Fill in what is marked with <...>, then see what would be created: fedsm site accept

account_id: "<your account, twelve digits>"
region: {region}

# What jobs read: channel name to S3 prefix. SageMaker copies these into the job.
channels:
  train: s3://<your data bucket>/train/
  validation: s3://<your data bucket>/validation/

# Where jobs write their models, and where your publisher puts the code that may run.
# A prefix of its own, below which nothing else lies.
output: s3://<your bucket>/fedsm/output
code: s3://<your bucket>/fedsm/code

# Make buckets that are missing.
create_buckets: true

# What the job runs in: an AWS-managed image by framework, or an image of your own.
framework: {{name: sklearn, version: 1.4-2-py312}}
# image: 111122223333.dkr.ecr.us-east-1.amazonaws.com/repository:tag

instance_type: ml.m5.xlarge
volume_gb: 10
max_runtime: 86400      # seconds, after which SageMaker ends a job

# The network of the jobs, peered with the server's. Without these they are in no VPC of yours.
# subnets: [subnet-0123456789abcdef0]
# security_groups: [sg-0123456789abcdef0]
# vpc_id: vpc-0123456789abcdef0

# Your key for the jobs' volumes and their output.
# kms_key_arn: arn:aws:kms:us-east-1:111122223333:key/ID

# Who may publish code, and who may approve it: two different roles or users of your account make it
# a rule of two persons that IAM keeps. Without them any administrator may do both.
# publisher: arn:aws:iam::111122223333:role/data-scientists
# approver: arn:aws:iam::111122223333:role/data-protection

# What leaves a job besides model updates: these metrics, and counts from this size on.
smallest_count: 10
{metrics}

# Whether the server may read the jobs' logs. You always can: fedsm site logs
server_reads_logs: false

# Added to the jobs.
# environment: {{NAME: value}}
# tags: {{cost-centre: "4711"}}
"""

_LAUNCH = {
    "pipeline": "it starts         only bundles that your approver has approved",
    "direct": "it starts         ANY code over your data: launch: direct trusts the server",
}


def terms_template(invitation: Invitation) -> str:
    """The text of a file of terms for an invitation, to be filled in."""
    limits = [
        f"\n#     {name}: "
        + (
            " or ".join(limit.texts)
            if limit.texts is not None
            else f"{limit.low:g} to {limit.high:g}"
        )
        for name, limit in invitation.hyperparameters.items()
    ]
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return _TEMPLATE.format(
        site=invitation.site,
        federation=invitation.federation,
        server=invitation.server_account,
        role=invitation.server_role_arn,
        addresses=", ".join(invitation.addresses),
        port=f"port {invitation.port}" if invitation.port else "any port",
        rounds=invitation.rounds,
        launch=_LAUNCH[invitation.launch],
        hyperparameters="".join(limits) or " none",
        region=region or "<the Region of your data>",
        metrics=_metrics(invitation.asks),
    )


def _metrics(asked: tuple[str, ...]) -> str:
    if not asked:
        return f"# metrics: [{', '.join(METRICS[:4])}]"
    if asked == (TREES,):
        says = [
            "# The federation's strategy also asks for the trees that are grown on your rows. The",
            "# split values of a tree are values of a feature in some row: see docs/models.md.",
        ]
    else:
        says = [
            "# The federation's strategy also asks for these sums over your rows, in every round:",
            *textwrap.wrap(", ".join(asked), 96, initial_indent="#   ", subsequent_indent="#   "),
            "# docs/strategies.md says what they are.",
        ]
    lines = textwrap.wrap(", ".join((*METRICS, *asked)), 96, break_on_hyphens=False)
    return "\n".join(
        [
            *says,
            "# Without this your site cannot take part.",
            "metrics: [",
            *(f"  {line}" for line in lines),
            "]",
        ]
    )
