from __future__ import annotations

import gc
import socket
import threading
import weakref
from collections.abc import Callable

import pytest
from flwr.app import Message, RecordDict

from fedsm.errors import CoordinatorGone, IdentityRefused, ProtocolMismatch
from fedsm.transport import flower
from fedsm.transport.identity import Proof, binding, make_certificate
from fedsm.transport.session import Session
from tests.transport.world import (
    ACCOUNT,
    QUICK,
    RUN,
    World,
    echo,
    eventually,
    records,
    sign,
)

MakeWorld = Callable[..., World]


def test_a_job_leaves_when_there_is_no_coordinator() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    events = []
    session = Session(
        address=f"127.0.0.1:{port}",
        certificate_der=make_certificate().der,
        run=RUN,
        site="a",
        join_id="join-a",
        sign=sign,
        max_wait=0.3,
        limits=QUICK,
        on_event=lambda kind, data: events.append(kind),
    )
    with pytest.raises(CoordinatorGone, match=r"no coordinator for 0\.3 s"):
        session.serve(echo)
    assert events[-2:] == ["disconnected", "gone"]


def test_a_job_leaves_when_its_coordinator_has_gone() -> None:
    world = World()
    job = world.join("a", max_wait=0.3)
    world.wait(1)
    world.grid.close()
    with pytest.raises(CoordinatorGone):
        job.result()


def test_a_job_outlives_its_coordinator_and_serves_the_next(make_world: MakeWorld) -> None:
    world = World()
    job = world.join("a")
    world.wait(1)
    world.grid.close()
    after = make_world(listen=f"127.0.0.1:{world.port}", epoch=2)
    after.wait(1)
    assert after.ask("a", records()).content == records()
    assert after.grid.finish(None, 10) == ["a"]
    assert job.result().reason == "over"


def test_a_job_refuses_a_coordinator_of_an_older_epoch(make_world: MakeWorld) -> None:
    world = World(epoch=5)
    job = world.join("a", max_wait=0.5)
    world.wait(1)
    world.grid.close()
    older = make_world(listen=f"127.0.0.1:{world.port}", epoch=4)
    with pytest.raises(CoordinatorGone, match="epoch 4 is older than 5"):
        job.result()
    assert older.happened("site-joined") == []


def test_a_coordinator_with_another_certificate_is_not_trusted(make_world: MakeWorld) -> None:
    world = make_world(certificate=make_certificate())
    job = world.join("a", certificate_der=make_certificate().der, max_wait=0.3)
    with pytest.raises(CoordinatorGone):
        job.result()
    assert world.events == []


def test_versions_that_differ_are_named_on_both_sides(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedsm.transport.dial.PROTOCOL", 99)
    world = make_world()
    with pytest.raises(ProtocolMismatch, match=r"job speaks protocol 99, the coordinator 1"):
        world.join("a").result()
    (refused,) = eventually(lambda: world.happened("site-refused"))
    assert "'a' speaks protocol 99, the coordinator 1" in refused["reason"]


def test_a_wrong_join_id_is_refused_on_both_sides(make_world: MakeWorld) -> None:
    world = make_world()
    for options in ({"join_id": "guess"}, {"join_id": "join-b"}, {"join_id": "ключ"}):
        with pytest.raises(IdentityRefused, match="a: the coordinator refused this job"):
            world.join("a", **options).result()
    with pytest.raises(IdentityRefused):
        world.join("nobody", join_id="join-a").result()
    assert len(world.happened("site-refused")) == 4
    assert world.happened("site-joined") == []


@pytest.mark.parametrize("answer", [(ACCOUNT, "other"), ("999922223333", "execution")])
def test_another_role_or_account_is_refused(make_world: MakeWorld, answer: tuple[str, str]) -> None:
    world = make_world(check=lambda *_: answer)
    with pytest.raises(IdentityRefused, match="proved to be"):
        world.join("a").result()
    (refused,) = world.happened("site-refused")
    assert refused["reason"].startswith("a: proved to be")
    assert refused["peer"].startswith("ipv4:127.0.0.1:")


@pytest.mark.parametrize("what", ["site", "run", "nonce", "certificate"])
def test_a_proof_for_another_site_run_nonce_or_certificate_is_refused(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def relayed(der: bytes, run: str, site: str, join_id: str, nonce: str) -> str:
        values = {"site": site, "run": run, "nonce": nonce} | {what: "another"}
        der = b"another" if what == "certificate" else der
        return binding(der, values["run"], values["site"], join_id, values["nonce"])

    monkeypatch.setattr("fedsm.transport.dial.binding", relayed)
    world = make_world()
    with pytest.raises(IdentityRefused, match="another binding"):
        world.join("a").result()


def test_a_proof_serves_one_connection_only(make_world: MakeWorld) -> None:
    world = make_world()
    proofs: list[Proof] = []
    first = world.join("a", sign=lambda bound: proofs.append(sign(bound)) or proofs[-1])
    world.wait(1)
    first.session.stop()
    first.result()
    with pytest.raises(IdentityRefused):
        world.join("a", sign=lambda _: proofs[0]).result()


def test_a_check_or_signer_that_fails_for_a_while_is_tried_again(make_world: MakeWorld) -> None:
    failures = {"check": 2, "sign": 2}

    def now_and_then(name: str, function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            if failures[name]:
                failures[name] -= 1
                raise OSError("out of reach")
            return function(*arguments)

        return call

    from tests.transport.world import check

    world = make_world(check=now_and_then("check", check))
    world.join("a", sign=now_and_then("sign", sign))
    world.wait(1)
    assert failures == {"check": 0, "sign": 0}
    reason = "a: the identity could not be checked (OSError)"
    assert len(world.happened("site-refused", reason=reason)) == 2


def test_a_newer_session_fences_the_older(make_world: MakeWorld) -> None:
    world = make_world()
    older = world.join("a")
    world.wait(1)
    newer = world.join("a")
    with pytest.raises(IdentityRefused, match="a newer session of this site took over"):
        older.result()
    assert world.ask("a", records()).content == records()
    assert [e["again"] for e in world.happened("site-joined")] == [False, True]
    assert newer.is_alive()
    assert list(world.grid.get_node_ids()) == [world.nodes["a"]]


def test_stop_takes_effect_once_the_handler_has_returned(make_world: MakeWorld) -> None:
    world = make_world()
    computing, release = threading.Event(), threading.Event()

    def handle(message: Message) -> Message:
        computing.set()
        release.wait(10)
        return echo(message)

    job = world.join("a", handle)
    world.wait(1)
    world.grid.push_messages([world.message("a", records())])
    computing.wait(10)
    job.session.stop()
    job.session.stop()
    assert job.is_alive()
    release.set()
    assert job.result().reason == "stopped"


def test_what_the_handler_raises_leaves_serve_and_says_goodbye(make_world: MakeWorld) -> None:
    world = make_world()

    def handle(_message: Message) -> Message:
        raise KeyboardInterrupt

    job = world.join("a", handle)
    world.wait(1)
    world.grid.push_messages([world.message("a", records())])
    with pytest.raises(KeyboardInterrupt):
        job.result()
    eventually(lambda: world.happened("site-lost", site="a"))


def test_heartbeats_go_on_while_the_handler_computes(make_world: MakeWorld) -> None:
    world = make_world()
    release = threading.Event()
    world.join("a", lambda message: (release.wait(10), echo(message))[1])
    world.wait(1)
    threading.Timer(5 * QUICK.silence / 3, release.set).start()
    assert world.ask("a", records()).has_content()
    assert world.happened("site-lost") == []


def test_flowers_private_names_are_where_the_shim_expects_them() -> None:
    flower.set_identity(7, flower.COORDINATOR_NODE)
    sent = Message(records(), 3, "train")
    assert (sent.metadata.run_id, sent.metadata.src_node_id) == (7, 1)
    flower.assign_id(sent, "id-1")
    reply = flower.reply(sent, records())
    assert reply.metadata.reply_to_message_id == "id-1"
    assert reply.metadata.src_node_id == 3
    assert flower.empty_run(7).run_id == 7
    assert 0 <= flower.run_number("run-1") < 2**63
    assert flower.run_number("run-1") != flower.run_number("run-2")


def test_the_shims_error_codes_are_flowers_own() -> None:
    from flwr.common.constant import ErrorCode

    assert flower.UNREADABLE == ErrorCode.UNKNOWN
    assert flower.REPLY_UNAVAILABLE == ErrorCode.REPLY_MESSAGE_UNAVAILABLE
    assert flower.NODE_UNAVAILABLE == ErrorCode.NODE_UNAVAILABLE


def test_an_answered_instruction_is_let_go_at_once(make_world: MakeWorld) -> None:
    world = make_world()
    seen: list[weakref.ref[RecordDict]] = []

    def handle(message: Message) -> Message:
        seen.append(weakref.ref(message.content))
        return Message(records(), reply_to=message)

    world.join("a", handle)
    world.wait(1)
    world.ask("a", records())  # the first use of some things makes cycles of its own
    gc.disable()
    try:
        world.ask("a", records())
        eventually(lambda: seen[-1]() is None, timeout=5)
    finally:
        gc.enable()
