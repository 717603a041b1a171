"""Every attack that is tried, what comes of it in each launch, and the test that tries it.

``None``: the attack does not arise in that launch. In the pipeline launch every attack is refused;
what the direct launch does not refuse is what ``docs/security.md`` lists.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fedsm.names import Launch
from tests.attacks.tries import Verdict

HERE = "tests/attacks/test_attacks.py::test_attack"
WIRE = "tests/attacks/test_wire.py::test_"
SESSION = "tests/transport/test_session.py::test_"
RELEASE = "tests/client/test_release.py::test_"
EVIDENCE = "tests/test_evidence.py::test_"


@dataclass(frozen=True)
class Attack:
    """One attack.

    Attributes
    ----------
    name : str
    aim : str
        What the attacker wants, for people.
    pipeline, direct : {"refused", "open"} or None
        What comes of it.
    tests : tuple of str
        Node ids of the tests that try it elsewhere; without, :data:`HERE` does.
    """

    name: str
    aim: str
    pipeline: Verdict | None
    direct: Verdict | None
    tests: tuple[str, ...] = ()

    def expected(self, launch: Launch) -> Verdict | None:
        """What comes of it in a launch."""
        return self.pipeline if launch == "pipeline" else self.direct

    @property
    def covering(self) -> tuple[str, ...]:
        """Node ids of the tests that try it."""
        here = ("pipeline", self.pipeline), ("direct", self.direct)
        return self.tests or tuple(f"{HERE}[{launch}-{self.name}]" for launch, v in here if v)


def _both(name: str, aim: str, *tests: str) -> Attack:
    """Refused in both launches."""
    return Attack(name, aim, "refused", "refused", tests)


def _pipeline(name: str, aim: str, *tests: str) -> Attack:
    """Refused; the direct launch has no such thing."""
    return Attack(name, aim, "refused", None, tests)


def _trusted(name: str, aim: str, *tests: str) -> Attack:
    """Refused; the direct launch trusts the server with it."""
    return Attack(name, aim, "refused", "open", tests)


CATALOGUE = (
    # Buckets
    _both("read-data", "read or list the rows in the data bucket"),
    _both("read-code", "read or list published bundles"),
    _both("read-models", "read or list the models that jobs left"),
    _both("write-data", "write or delete rows and models"),
    _both("overwrite-bundle", "overwrite or delete the approved bundle"),
    _both("plant-bundle", "publish a bundle, or a second file beside an approved one"),
    _both("change-bucket", "change a bucket's policy or stop it from keeping versions"),
    # Pipelines
    _both("start-another-pipeline", "start the owner's other pipelines, or another site's"),
    _both("start-a-disapproved-digest", "start a bundle whose approval was taken away"),
    _both("start-an-unapproved-digest", "start a published bundle that nobody has approved"),
    _pipeline("start-after-the-approval-has-ended", "start a bundle after its last day"),
    _both("start-an-alias-or-version", "start another version of a pipeline"),
    _both("start-selected-steps", "start a part of a pipeline"),
    _both("start-with-another-role", "start a pipeline in another role"),
    _both("change-a-pipeline", "make, change, tag or delete a pipeline"),
    _both("look-into-pipelines", "read a pipeline's definition, or list what there is"),
    _both("touch-another-execution", "watch, stop, retry or change another's execution"),
    # What a run may choose
    _pipeline("unknown-parameter", "pass a parameter that the owner did not name"),
    _pipeline("missing-parameter", "leave a parameter out"),
    _pipeline("another-choice", "pass a value that is none of an enumeration"),
    _pipeline("inject-by-a-value", "pass JSON, a reference or a line end in a value"),
    _trusted("hyperparameter-out-of-range", "pass a hyperparameter beyond its range"),
    _trusted("run-more-rounds", "run more rounds than agreed"),
    _trusted("dial-another-address", "make the job dial another address"),
    # Jobs: what IAM has a key for
    _both("job-in-another-subnet", "put a job into another subnet, or into no VPC"),
    _both("job-in-another-security-group", "give a job another security group"),
    _both("job-with-remote-debug", "open a shell in the job"),
    _both("job-on-a-huge-instance", "use another instance type"),
    _both("job-that-runs-longer", "run longer than agreed, or without limit"),
    _both("job-that-keeps-its-instance", "keep the instance after the job"),
    _both("job-with-another-key", "encrypt with another key"),
    _both("job-without-network", "isolate the job from its network"),
    _both("job-with-other-tags", "tag a job as another's, or not at all"),
    _both("job-of-another-name", "create a job under another site's name"),
    _both("job-in-another-region", "create a job in another Region"),
    _both("pass-another-role", "run a job in another role of the account"),
    _both("job-over-other-data", "run a job over other data of the owner"),
    _both("job-that-writes-elsewhere", "have a job write to a bucket of the server"),
    _both("touch-another-job", "watch, stop, tag or list jobs of others"),
    _both("read-logs", "read the jobs' logs"),
    # Jobs: what no key bounds
    _trusted("run-own-code", "run another entry point over the rows, and see them"),
    _trusted("run-another-image", "run another image"),
    _trusted("run-an-unapproved-bundle", "run a published bundle that nobody approved"),
    _trusted("set-environment", "set variables of the job's environment"),
    _trusted("report-what-the-terms-hold-back", "run without the owner's limits on what leaves"),
    _trusted("more-instances", "start many instances"),
    _trusted("a-larger-volume", "take a larger volume"),
    _both("swap-the-approved-bundle", "put other bytes in the place of an approved bundle"),
    # Roles
    _both("take-another-role", "take the publisher's, approver's, pipeline or execution role"),
    _both("take-the-kickoff-role-otherwise", "take the kickoff role from elsewhere, or unnamed"),
    _both("change-rights", "change rights, trusts or boundaries of the site's roles"),
    # The owner's people
    _both("publisher-overwrites", "the publisher changes a bundle that is there"),
    _pipeline("publisher-approves", "the publisher approves, starts or reads rows"),
    _pipeline("approver-publishes", "the approver writes a bundle"),
    _pipeline("approver-changes-what-was-approved", "the approver changes or starts a pipeline"),
    _pipeline("approver-widens-rights", "the approver gives the server more than a start"),
    # On the wire
    _both(
        "replay-a-proof",
        "use a nonce or a proof again",
        f"{WIRE}a_proof_cannot_be_replayed",
        f"{SESSION}a_proof_serves_one_connection_only",
    ),
    _both(
        "relay-a-proof",
        "relay an honest job's proof to another coordinator, run or site",
        f"{WIRE}a_proof_cannot_be_relayed",
        f"{SESSION}a_proof_for_another_site_run_nonce_or_certificate_is_refused",
    ),
    _both(
        "replay-a-join-id",
        "join with the join id of a job that has ended, or with a guess",
        f"{WIRE}a_job_that_has_ended_cannot_come_back",
        f"{SESSION}a_wrong_join_id_is_refused_on_both_sides",
    ),
    _both(
        "join-from-another-account",
        "join with a role of the same name in another account",
        f"{WIRE}a_role_of_that_name_in_another_account_is_refused",
        f"{SESSION}another_role_or_account_is_refused",
    ),
    _both(
        "join-as-another-role",
        "join with another role of the site's account, or as a user",
        f"{WIRE}another_role_of_the_account_is_refused",
        f"{WIRE}a_user_is_refused",
    ),
    _both(
        "join-as-another-site",
        "speak for another site, whose join id has become known",
        f"{WIRE}a_site_cannot_join_as_another",
    ),
    _both(
        "return-when-fenced",
        "go on in a session that a newer one has replaced",
        f"{WIRE}a_fenced_session_that_returns_is_not_heard",
        f"{SESSION}a_newer_session_fences_the_older",
    ),
    _both(
        "stand-in-for-the-coordinator",
        "answer a job in the coordinator's place, or after it",
        f"{SESSION}a_coordinator_with_another_certificate_is_not_trusted",
        f"{SESSION}a_job_refuses_a_coordinator_of_an_older_epoch",
    ),
    # What leaves a job
    _pipeline(
        "metrics-beyond-the-terms",
        "get a metric that the terms do not name, a small count or a text",
        f"{RELEASE}names_in_the_terms_leave_and_others_stay_with_their_names",
        f"{RELEASE}small_counts_stay",
        f"{RELEASE}other_arrays_stay",
        f"{RELEASE}no_configuration_leaves",
    ),
    _both(
        "text-of-an-error",
        "get the text of an exception, which may hold a row",
        "tests/client/test_runtime.py::test_an_error_in_a_round_is_told_without_its_text_and_"
        "the_site_goes_on",
    ),
    # Evidence
    _both(
        "rewrite-the-journal",
        "alter, cut or replace the record of a run afterwards",
        f"{EVIDENCE}any_changed_byte_of_the_journal_is_named_by_its_line",
        f"{EVIDENCE}a_cut_end_is_named_and_caught_by_any_one_site",
        f"{EVIDENCE}a_journal_made_anew_is_caught_by_any_one_site",
    ),
    _pipeline(
        "ask-off-the-record",
        "ask an approved job what the record of the run does not show",
        "tests/client/test_limits.py::test_a_message_without_the_journals_head_is_refused_where_"
        "there_are_limits",
        f"{EVIDENCE}heads_that_do_not_fit",
    ),
)


def here(launch: Launch) -> Iterator[Attack]:
    """The attacks that :data:`HERE` tries in a launch."""
    for attack in CATALOGUE:
        if not attack.tests and attack.expected(launch):
            yield attack


def left_open() -> dict[str, str]:
    """What the direct launch does not refuse, by name."""
    return {attack.name: attack.aim for attack in CATALOGUE if attack.direct == "open"}
