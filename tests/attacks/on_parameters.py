"""Attacks by what a run may choose: the pipeline's parameters, or the job's environment."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from tests.attacks.tries import Refused, Try, api, attack, instead
from tests.attacks.world import World

FAR = "127.0.0.2:8444"
REACHED = "no coordinator was reached"
"""How a job ends that has accepted its settings, where nobody listens."""
BEYOND = {"Address": FAR, "Rounds": "1000000", "Hp-learning-rate": "50.0"}
STRANGE = {
    "JoinId": '{"Get": "Parameters.Certificate"}',
    "Run": 'x", "FEDSM_LIMIT_COUNT": "0\nFEDSM_LIMIT_ROUNDS=1000000',
}


def _start(world: World, changes: dict[str, str | None], says: str) -> Try:
    started = api(world.kickoff, "sagemaker", "start_pipeline_execution", **world.start(changes))
    return instead(started, says) if world.launch == "pipeline" else started


def _refused_end(run: Callable[[], str], says: str) -> Try:
    """What is refused at the end of a job that comes no further than these words."""

    def call() -> None:
        if REACHED not in (reason := run()):
            raise Refused(reason)

    return Try(call, says)


@attack("unknown-parameter")
def unknown(world: World) -> Iterator[Try]:
    """Whatever could change the job: nothing that the owner did not name is taken."""
    for name in ("Image", "RoleArn", "MaxWait", "FEDSM_LIMIT_COUNT", "Hp-c", "hp-penalty"):
        yield _start(world, {name: "1"}, f"Unknown parameter '{name}'")


@attack("missing-parameter")
def missing(world: World) -> Iterator[Try]:
    for name in ("Certificate", "Rounds", "Hp-learning-rate"):
        yield _start(world, {name: None}, f"'{name}' is undefined")


@attack("another-choice")
def choice(world: World) -> Iterator[Try]:
    """A value that is none of an enumeration's; nor is more than one, or one with a line end."""
    for value in ('"l1"', "l2", '"l2", "x": 1', '"l2"\n', '{"Get": "Parameters.Run"}'):
        yield _start(world, {"Hp-penalty": value}, "of the parameter 'Hp-penalty' is not one of")


def _beyond(world: World, says: str) -> Iterator[Try]:
    """Address, rounds and a range, all in one job; it names each."""
    yield _refused_end(lambda: _reason(world, "beyond"), says)


@attack("dial-another-address")
def address(world: World) -> Iterator[Try]:
    yield from _beyond(world, f"FEDSM_ADDRESS {FAR} is not within 127.0.0.1, port 8443")


@attack("run-more-rounds")
def rounds(world: World) -> Iterator[Try]:
    yield from _beyond(world, "FEDSM_ROUNDS 1000000 is not from 1 to 5")


@attack("hyperparameter-out-of-range")
def out_of_range(world: World) -> Iterator[Try]:
    yield from _beyond(world, "learning-rate 50.0 is not a number from 0.001 to 1")


@attack("inject-by-a-value")
def inject(world: World) -> Iterator[Try]:
    """A reference, JSON or a line end in a value stays what it is: a text in its one place."""

    def run() -> None:
        step = world.ended(world.executions["strange"])
        name = step["Metadata"]["TrainingJob"]["Arn"].rpartition("/")[2]
        found = world.job_ended(name)["Environment"]
        assert REACHED in step["FailureReason"], step
        given = {"FEDSM_RUN": STRANGE["Run"], "FEDSM_JOIN_ID": STRANGE["JoinId"]}
        fixed = {"FEDSM_LIMIT_ROUNDS": "5", "FEDSM_LIMIT_COUNT": "10"}
        if found | given | fixed == found:
            raise Refused("in its one place")

    yield Try(run, "in its one place")


@attack("swap-the-approved-bundle")
def swap(world: World) -> Iterator[Try]:
    """Other bytes in the place of an approved bundle: the bootstrap compares them first."""
    digest = world.bundles["swapped"].sha256
    yield _refused_end(lambda: _reason(world, "swapped"), f"approved is {digest}")


@attack("start-after-the-approval-has-ended")
def expired(world: World) -> Iterator[Try]:
    """The pipeline and the right are there, and the date has passed."""
    found = {each.bundle: each.until for each in world.folder("approver").approvals()}
    until = found[world.bundles["expired"].sha256]
    assert until is not None
    time.sleep(max(0.0, (until - datetime.now(UTC)).total_seconds() + 0.1))
    request = world.start(PipelineName=world.pipeline(world.bundles["expired"]))
    yield api(world.kickoff, "sagemaker", "start_pipeline_execution", **request)


def begin(world: World) -> None:
    """Start what takes time, so that it runs while other attacks are tried."""
    swapped = world.bundles["swapped"]
    if world.launch == "pipeline":
        world.run("beyond", world.start(BEYOND))
        world.run("strange", world.start(STRANGE))
        world.run("swapped", world.start(PipelineName=world.pipeline(swapped)))
    else:
        world.create("unchanged", world.job())
        told = {"FEDSM_ADDRESS": FAR, "FEDSM_ROUNDS": "1000000"}
        values = {"learning-rate": "50.0", "penalty": '"l1"'}
        world.create("beyond", world.job(environment=told, HyperParameters=values))
        world.create("swapped", world.job_of(swapped))


def _reason(world: World, name: str) -> str:
    """How what :func:`begin` started has ended."""
    if world.launch == "pipeline":
        return str(world.ended(world.executions[name])["FailureReason"])
    return str(world.job_ended(world.jobs[name])["FailureReason"])


def allowed(world: World) -> str:
    """How a run ends that keeps to what the owner allows, but for the odd names that it bears."""
    return _reason(world, "strange" if world.launch == "pipeline" else "unchanged")
