"""Attacks by what no key of IAM bounds: the direct launch trusts the server with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.attacks.agreed import OTHERS, merged, packed
from tests.attacks.on_job_fields import create
from tests.attacks.tries import Refused, Try, attack
from tests.attacks.world import World

SPY = """
import os, pathlib
base = pathlib.Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))
rows = (base / "input/data/train/rows.csv").read_text()
(base / "output/failure").write_text("rows: " + rows)
raise SystemExit(1)
"""


def _ends(world: World, request: dict[str, Any], words: str) -> Try:
    """A job that gets through if its end says these words."""
    made = create(world, request)

    def run() -> None:
        made.call()
        reason = world.job_ended(request["TrainingJobName"]).get("FailureReason", "")
        if words not in reason:
            raise Refused(reason)

    return Try(run, made.says)


@attack("run-own-code")
def own_code(world: World) -> Iterator[Try]:
    """Another entry point in the owner's image; the rows come back as the job's failure."""
    yield _ends(world, world.job(**packed(SPY)), "77,1")


@attack("run-another-image")
def other_image(world: World) -> Iterator[Try]:
    image = {"AlgorithmSpecification": {"TrainingImage": "fedsm/attacker:1"}}
    yield create(world, merged(world.job(**packed("pass")), image))


@attack("run-an-unapproved-bundle")
def unapproved(world: World) -> Iterator[Try]:
    """A published one, whose digest the server names itself."""
    yield _ends(world, world.job_of(world.bundles["unapproved"]), f"exit code {OTHERS}")


@attack("set-environment")
def environment(world: World) -> Iterator[Try]:
    """What the job is told, and what tells Python where to look for modules."""
    for name, value in (("FEDSM_LIMIT_COUNT", "0"), ("PYTHONPATH", "/opt/ml/input/data/train")):
        yield create(world, world.job(**packed("pass"), environment={name: value}))


@attack("report-what-the-terms-hold-back")
def report(world: World) -> Iterator[Try]:
    """A job without the owner's limits releases metrics of any name, and the smallest counts."""
    request = world.job(**packed("pass"))
    request["Environment"] = {
        name: value
        for name, value in request["Environment"].items()
        if not name.startswith("FEDSM_LIMIT_")
    }
    yield create(world, request)


@attack("more-instances")
def instances(world: World) -> Iterator[Try]:
    many = {"ResourceConfig": {"InstanceCount": 100}}
    yield create(world, merged(world.job(**packed("pass")), many))


@attack("a-larger-volume")
def volume(world: World) -> Iterator[Try]:
    large = {"ResourceConfig": {"VolumeSizeInGB": 16384}}
    yield create(world, merged(world.job(**packed("pass")), large))
