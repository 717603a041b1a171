"""What the cases name: objects, jobs, moments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fedsm.names import step_name
from tests.policies.world import DIGEST, OTHER_DIGEST, SERVER, World

GROUP = "log-group:/aws/sagemaker/TrainingJobs"
FOREIGN = {"aws:ResourceAccount": [SERVER]}
CODE, DATA, ALL, MODELS = (
    f"arn:aws:s3:::north-{name}" for name in ("code", "data", "all", "models")
)
BUNDLE = f"{CODE}/fedsm/{DIGEST}/source.tar.gz"
OTHER_BUNDLE = BUNDLE.replace(DIGEST, OTHER_DIGEST)
GET, PUT, LIST = "s3:GetObject", "s3:PutObject", "s3:ListBucket"
EARLY, LATE = ({"aws:CurrentTime": [f"202{n}-01-01T00:00:00+00:00"]} for n in (6, 7))
STEP = step_name("heart", "north")
PIPELINE_JOB = f"pipelines-a1b2c3d4e5f6-{STEP}-AbCdEfGhIj"
DIRECT_JOB = "fedsm-heart--north--20261120-120000-ab12"


def but(context: Mapping[str, Sequence[str]], key: str, *values: str) -> dict[str, Sequence[str]]:
    """The context with another value of a key; without the key where there is none."""
    rest = {name: held for name, held in context.items() if name != key}
    return {**rest, key: values} if values else rest


def own_job(world: World) -> str:
    return PIPELINE_JOB if world.account.launch == "pipeline" else DIRECT_JOB
