"""What an owner allows a run: checked by the job before it dials, and while it answers."""

from __future__ import annotations

import re
import socket
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from fedsm.client import log
from fedsm.client.exits import Exit, Failure
from fedsm.client.handler import AppHandler
from fedsm.client.limits import Limits, Questions, Quota
from fedsm.client.release import Release
from fedsm.client.runtime import Job
from fedsm.contract import JobSettings
from fedsm.errors import ConfigError
from fedsm.learning.controls import join
from fedsm.learning.site_report import Asked
from fedsm.transport.flower import instruction
from fedsm.transport.notes import JOURNAL
from tests.client.harness import CREDENTIALS, HEAD, client_code, environment, hub, workplace
from tests.client.test_runtime import COUNTING, START

LIMITS = {
    "FEDSM_LIMIT_ADDRESS": "10.0.0.0/16 2001:db8::/32 coordinator.example 8443",
    "FEDSM_LIMIT_ROUNDS": "5",
    "FEDSM_LIMIT_HP_LEARNING_RATE": "0.001 2.0",
}


def settings(**changes: Any) -> JobSettings:
    values = {
        "run": "r",
        "site": "north",
        "partition": 0,
        "partitions": 1,
        "address": "10.0.1.5:8443",
        "certificate": "",
        "join_id": "j",
        "sts_region": "us-east-1",
        "max_wait": 1.0,
        "bundle_sha256": "",
        "rounds": 5,
    }
    return JobSettings(**{**values, **changes})


def check(hyperparameters: Mapping[str, Any] | None = None, **changes: Any) -> None:
    given = {"learning-rate": 0.1} if hyperparameters is None else hyperparameters
    Limits.from_environment(LIMITS).check(settings(**changes), given)


@pytest.mark.parametrize(
    "address",
    [
        "10.0.255.255:8443",
        "[2001:db8::1]:8443",
        "coordinator.example:8443",
    ],
)
def test_addresses_within_the_limits(address: str) -> None:
    check(address=address)


@pytest.mark.parametrize(
    "address",
    [
        "10.1.0.1:8443",
        "10.0.1.5:443",
        "10.0.1.5:08443",
        "10.0.1.5",
        "8443",
        "[2001:db9::1]:8443",
        "evil.example:8443",
        "10.0.1.5@evil.example:8443",
        "evil.example:8443 10.0.1.5:8443",
        "ipv4:10.9.9.9,10.0.1.5:8443",
        "dns:///coordinator.example:8443",
        "coordinator.example:",
        "",
    ],
)
def test_nothing_else_is_dialled(address: str) -> None:
    with pytest.raises(ConfigError, match="FEDSM_ADDRESS"):
        check(address=address)


@pytest.mark.parametrize("value", [0, 2.1, -1, True, "0.1", float("nan"), float("inf"), 10**400])
def test_a_hyperparameter_outside_its_range(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"learning-rate: .* from 0\.001 to 2"):
        check({"learning-rate": value})


@pytest.mark.parametrize("value", [0.001, 2, 2.0, 1])
def test_a_hyperparameter_within_its_range(value: float) -> None:
    check({"learning-rate": value})


def test_a_hyperparameter_that_is_missing() -> None:
    with pytest.raises(ConfigError, match="it is not a number"):
        check({})


@pytest.mark.parametrize("rounds", [0, -1, 6])
def test_rounds_outside_the_limits(rounds: int) -> None:
    with pytest.raises(ConfigError, match=f"FEDSM_ROUNDS: {rounds} is not from 1 to 5"):
        check(rounds=rounds)


def test_every_fault_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        check({"learning-rate": 9}, rounds=9, address="1.1.1.1:1")
    names = [name for name, _ in caught.value.faults]
    assert names == ["FEDSM_ADDRESS", "FEDSM_ROUNDS", "learning-rate"]


@pytest.mark.parametrize("name", sorted(LIMITS))
@pytest.mark.parametrize("text", ["x", "1 2 x", "1 2 3 4 x"])
def test_a_limit_that_cannot_be_read_is_no_limit_that_is_met(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=name):
        Limits.from_environment({**LIMITS, name: text})


def test_without_limits_nothing_is_checked() -> None:
    Limits.from_environment({}).check(settings(address="x:1", rounds=0), {"a": 1})
    assert all(Quota(None).take("train") for _ in range(1000))


def test_a_name_for_the_default_of_a_kind_has_no_quota_of_its_own() -> None:
    """Flower calls the same function for both."""
    for kind in ("train", "evaluate", "query"):
        quota = Quota(2)
        kinds = (kind, f"{kind}.default", kind, f"{kind}.default", f"{kind}.other")
        assert [quota.take(k) for k in kinds] == [True, True, False, False, True]


def asking(kind: str, content: RecordDict) -> Message:
    return instruction(
        content,
        run_id=1,
        message_id="m",
        node_id=2,
        message_type=kind,
        group_id="",
        created_at=0.0,
        ttl=60.0,
    )


def of_rows(**changes: Any) -> RecordDict:
    """A question with a config and an array; changes are to the config."""
    array = Array(np.array([1.0, changes.pop("value", 0.0)]))
    config = {"histogram-mean": b"\x01", "smallest": 5, "names": ["a", "b"], **changes}
    return RecordDict({"config": ConfigRecord(config), "arrays": ArrayRecord({"w": array})})


@pytest.mark.parametrize(
    "changes",
    [{"histogram-mean": b"\x02"}, {"smallest": 6}, {"names": ["a"]}, {"more": 1}, {"value": 1e-9}],
)
def test_a_second_question_of_a_kind_is_refused_and_the_first_may_be_put_again(
    changes: dict[str, Any],
) -> None:
    questions = Questions()
    assert questions.take("query.histograms", of_rows())
    assert questions.take("query.categories", of_rows(**changes))
    assert not questions.take("query.histograms", of_rows(**changes))
    assert not questions.take("query.histograms.default", of_rows(**changes))
    assert questions.take("query.histograms", of_rows())


@pytest.mark.parametrize("limited", [True, False])
@pytest.mark.parametrize(("kind", "bound"), [("query.histograms", True), ("evaluate.report", True),
                                             ("train", False), ("evaluate", False)])  # fmt: skip
def test_only_rounds_may_ask_something_new(kind: str, bound: bool, limited: bool) -> None:
    """What two histograms or reports tell of the rows, their difference tells of few of them."""
    asked: list[Any] = []

    def app(message: Message, _: Any) -> Message:
        asked.append(message.content["config"]["report-smallest"])
        metrics = MetricRecord({"num-examples": 20})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    terms = Release(frozenset({"num-examples"}), 5) if limited else Release()
    handler = AppHandler(app, Path(), run_config={}, node_config={}, release=terms)  # type: ignore[arg-type]

    def put(smallest: int) -> Message:
        content = RecordDict({"config": ConfigRecord({"report-smallest": smallest}), JOURNAL: HEAD})
        return handler(asking(kind, content))

    replies = [put(5), put(6), put(5)]
    refused = [r for r in replies if r.has_error()]
    assert asked == ([5, 5] if bound and limited else [5, 6, 5])
    assert all("second question of a kind" in r.error.reason for r in refused)
    assert all(r.error.code == Exit.SETTINGS_WRONG for r in refused)


@pytest.mark.parametrize(
    ("partition", "partitions"), [(-1, 2), (2, 2), (0, 0), (0, 1001), (10**30, 10**31)]
)
def test_a_place_among_the_sites_that_is_none(partition: int, partitions: int) -> None:
    environ = settings(partition=partition, partitions=partitions).to_environment()
    with pytest.raises(ConfigError, match="FEDSM_PARTITION: is no place among at most 1000 sites"):
        JobSettings.from_environment(environ)


@pytest.mark.parametrize(("partition", "partitions"), [(0, 1), (999, 1000)])
def test_a_place_among_the_sites(partition: int, partitions: int) -> None:
    given = settings(partition=partition, partitions=partitions)
    assert JobSettings.from_environment(given.to_environment()) == given


class Sockets:
    """Fails the test where anything is dialled."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("fedsm.client.runtime.Session", self)
        monkeypatch.setattr(socket.socket, "connect", self)

    def __call__(self, *_: Any, **__: Any) -> None:
        raise AssertionError("it dialled")


def test_a_job_outside_its_limits_dials_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Sockets(monkeypatch)
    base = workplace(tmp_path / "ml", {}, {"learning-rate": 3})
    code = client_code(tmp_path / "code", "raise AssertionError('loaded')")
    limits = {**LIMITS, "FEDSM_LIMIT_METRICS": ""}
    found = Job(code, {**environment(base, settings()), **limits}).run()
    assert isinstance(found, Failure)
    assert found.exit == Exit.SETTINGS_WRONG == 20
    assert re.search(r"learning-rate 3 is not a number from 0\.001 to 2", found.sentence)


def test_a_job_whose_metrics_were_dropped_from_its_limits_dials_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Sockets(monkeypatch)
    base = workplace(tmp_path / "ml", {})
    code = client_code(tmp_path / "code", "raise AssertionError('loaded')")
    found = Job(code, {**environment(base, settings()), "FEDSM_LIMIT_COUNT": "10"}).run()
    assert isinstance(found, Failure)
    assert found.exit == Exit.SETTINGS_WRONG
    assert "FEDSM_LIMIT_METRICS" in found.sentence


@pytest.mark.parametrize("limited", [True, False])
def test_a_message_without_the_journals_head_is_refused_where_there_are_limits(
    limited: bool,
) -> None:
    asked: list[Message] = []

    def app(message: Message, _: Any) -> Message:
        asked.append(message)
        return Message(RecordDict(), reply_to=message)

    release = Release(frozenset(), 10) if limited else Release()
    handler = AppHandler(app, Path(), run_config={}, node_config={}, release=release)  # type: ignore[arg-type]
    message = asking("query.else", RecordDict())
    reply = handler(message)
    assert reply.has_error() == limited == (not asked)
    if limited:
        assert reply.error.code == Exit.SETTINGS_WRONG
        assert reply.error.reason == (
            "Refused: the coordinator did not say where its journal stands."
        )
    message.content[JOURNAL] = HEAD
    assert handler(message).has_content()


@pytest.mark.parametrize(
    ("alone", "answered"),
    [(3, True), (4, False), (2**40, False), (1e6, False), ("3", False), (True, True)],
)
def test_a_site_trains_alone_for_no_more_rounds_than_its_owner_allows(
    alone: Any, answered: bool
) -> None:
    def app(message: Message, _: Any) -> Message:
        return Message(RecordDict(), reply_to=message)

    handler = AppHandler(app, Path(), run_config={}, node_config={}, release=Release(), rounds=3)  # type: ignore[arg-type]
    reply = handler(
        asking(
            "evaluate.report", RecordDict({"config": ConfigRecord(Asked(rounds=alone).to_config())})
        )
    )
    assert reply.has_content() == answered
    if not answered:
        assert "more rounds than the site's owner allows" in reply.error.reason


def test_a_job_answers_no_more_rounds_than_its_owner_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in CREDENTIALS.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "app", raising=False)
    code = client_code(tmp_path / "code", COUNTING)
    with hub("north") as h:
        base = workplace(tmp_path / "ml", {})
        allowed = {
            "FEDSM_LIMIT_ROUNDS": "2",
            "FEDSM_LIMIT_ADDRESS": "127.0.0.0/8 0",
            "FEDSM_LIMIT_METRICS": "num-examples",
        }
        environ = {**environment(base, h.settings("north", rounds=2)), **allowed}
        found: list[Failure | None] = []
        job = threading.Thread(target=lambda: found.append(Job(code, environ).run()), daemon=True)
        job.start()
        h.join()

        # The coordinator may call every round the first one.
        def train() -> Message:
            return h.send("train", {"arrays": START}, {"server-round": 1})["north"]

        assert [train().has_content() for _ in range(2)] == [True, True]
        refused = train()
        assert refused.has_error()
        assert refused.error.code == Exit.SETTINGS_WRONG
        assert "more rounds than the site's owner allows" in refused.error.reason
        h.grid.finish(None, timeout=10)
        job.join(30)
    assert found[0] is not None
    assert found[0].exit == Exit.SETTINGS_WRONG


def test_what_the_coordinator_says_cannot_pass_for_a_metric_in_the_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def app(message: Message, _: Any) -> Message:
        return Message(RecordDict({"metrics": MetricRecord({"loss": 0.5})}), reply_to=message)

    handler = AppHandler(app, Path(), run_config={}, node_config={}, release=Release())  # type: ignore[arg-type]
    said = ConfigRecord({"server-round": "\x1b[2K evaluate-auc=0.999;"})
    handler(asking("evaluate", RecordDict({"arrays": START, "config": said})))
    out = capsys.readouterr().out
    assert "round=0;" in out
    assert "evaluate-loss=0.5;" in out
    assert "auc" not in out


def test_a_line_of_the_log_is_printable_and_short(capsys: pytest.CaptureFixture[str]) -> None:
    log.line("error", reason="one\n two \x1b]0;x\x07" + "y" * 10_000_000)
    out = capsys.readouterr().out
    assert out.startswith("fedsm error reason=one two \\x1b]0;x")
    assert len(out) < log.MOST_TEXT + 100
    assert out.strip().isprintable()


def test_what_is_saved_of_scaffold_is_the_model_without_its_controls() -> None:
    def app(message: Message, _: Any) -> Message:
        return Message(RecordDict({"arrays": both}), reply_to=message)

    model = ArrayRecord({"w": Array(np.zeros(2))})
    both = join(model, {"w": np.ones(2)})
    handler = AppHandler(app, Path(), run_config={}, node_config={}, release=Release())  # type: ignore[arg-type]
    handler(asking("train", RecordDict({"arrays": both})))
    for kept in (handler.last_global, handler.last_local):
        assert kept is not None
        assert list(kept) == ["w"]
