"""The evidence pack: whatever is altered, left out, moved or cut is named."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from fedsm import evidence
from fedsm.client.heads import Heads
from fedsm.errors import ConfigError, EvidenceError
from fedsm.events import Journal, canonical, digest_of
from fedsm.evidence import SiteHeads, Verdict, read_heads, verify
from fedsm.evidence.pack import JOURNAL, MANIFEST, NAMES, PLAN, SUMMARY
from fedsm.evidence_cli import app
from fedsm.transport.notes import Head
from tests.tracking.story import RUN, finish, play_round, start

SITES = ("north", "south")
ROUNDS = 3
PROPERTY = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

PLANNED = {
    "steps": [
        {
            "site": "north",
            "call": "sagemaker:StartPipelineExecution",
            "request": {"PipelineParameters": [{"Name": "Rounds", "Value": "3"}]},
        },
        {
            "site": "south",
            "call": "sagemaker:CreateTrainingJob",
            "request": {
                "AlgorithmSpecification": {"TrainingImage": "an-image"},
                "HyperParameters": {"c": "0.5"},
                "Environment": {"FEDSM_RUN": RUN},
            },
        },
    ]
}


class Told:
    """A run's directory, and what each of its sites kept."""

    def __init__(self, place: Path) -> None:
        self.directory = place / "run"
        journal = Journal(self.directory / "events.jsonl")
        plan = json.dumps(PLANNED).encode()
        (self.directory / "plan.json").write_bytes(plan)
        start(journal, SITES, launch="pipeline", mode="pipeline: approved")
        journal.append("planned", sha256=hashlib.sha256(plan).hexdigest())
        journal.append(
            "role-assumed",
            site="north",
            role="arn:aws:iam::000000000001:role/kickoff",
            session=f"arn:aws:sts::000000000001:assumed-role/kickoff/fedsm-{RUN}",
            source_identity=f"fedsm-{RUN}",
        )
        kept = {site: Heads(place / site, RUN, site, lambda: 1234) for site in SITES}

        def send(number: int, phase: str) -> None:
            for heads in kept.values():
                heads.add(phase, Head(number, *journal.tip))

        for site in SITES:
            journal.append("initial", site=site)
        send(0, "query.statistics")
        send(0, "query.initial")
        for number in range(1, ROUNDS + 1):
            send(number, "train")
            send(number, "evaluate")
            play_round(journal, number, SITES)
        journal.append("model", model="model.npz", model_sha256="d" * 64)
        send(ROUNDS, "closing")
        journal.append("closing", sites=list(SITES))
        journal.append("traffic", sites={site: [5000, 7000] for site in SITES})
        finish(journal, SITES)
        journal.close()
        self.heads = {site: place / site / "heads.jsonl" for site in SITES}
        self.pack = place / "pack.zip"
        evidence.write(self.directory, self.pack)
        with zipfile.ZipFile(self.pack) as archive:
            self.files = {name: archive.read(name) for name in NAMES}
        self.lines = self.files[JOURNAL].splitlines(keepends=True)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    return Told(tmp_path_factory.mktemp("told"))


def kept(told: Told, *sites: str) -> list[SiteHeads]:
    return [read_heads(site, told.heads[site]) for site in sites or SITES]


def pack_of(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return path


def with_journal(told: Told, path: Path, journal: bytes, *, manifest: bool) -> Path:
    """The pack with another journal; with the manifest and summary that whoever made it would."""
    files = {**told.files, JOURNAL: journal}
    if manifest:
        place = path.with_suffix("")
        place.mkdir(exist_ok=True)
        (place / "events.jsonl").write_bytes(journal)
        (place / "plan.json").write_bytes(told.files[PLAN])
        path.unlink(missing_ok=True)
        try:
            evidence.write(place, path)
        except EvidenceError:
            stated = json.loads(files[MANIFEST])
            stated["files"][JOURNAL] = {
                "bytes": len(journal),
                "sha256": hashlib.sha256(journal).hexdigest(),
            }
            files[MANIFEST] = canonical(stated)
        else:
            return path
    return pack_of(path, files)


def rechained(lines: list[bytes]) -> bytes:
    """The same content under a new chain, as whoever holds the journal can make it."""
    out, prev = b"", "0" * 64
    for seq, line in enumerate(lines):
        row = json.loads(line)
        row |= {"seq": seq, "prev": prev}
        row["hash"] = prev = digest_of(seq, row["time"], row["kind"], row["data"], prev)
        out += canonical(row)
    return out


def test_a_pack_verifies_with_and_without_heads(told: Told) -> None:
    assert verify(told.pack).faults == []
    verdict = verify(told.pack, kept(told))
    assert verdict.faults == []
    assert (verdict.run, verdict.lines) == (RUN, len(told.lines))
    notes = "\n".join(verdict.notes)
    vouched = next(i for i, line in enumerate(told.lines, 1) if b'"kind":"model"' in line)
    assert f"north vouches for lines 1 to {vouched}\n" in notes
    assert "north had sent 1,234 bytes by closing of round 3" in notes
    assert "the journal has 7,000 in all" in notes
    assert f"lines {vouched + 1} to {len(told.lines)} came after the last head" in notes


def test_a_pack_follows_from_the_run_alone(told: Told, tmp_path: Path) -> None:
    evidence.write(told.directory, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == told.pack.read_bytes()
    with pytest.raises(ConfigError, match="is there already"):
        evidence.write(told.directory, tmp_path / "again.zip")


def test_the_summary_tells_who_did_what_and_what_left(told: Told) -> None:
    text = told.files[SUMMARY].decode()
    for said in (
        f"assumed-role/kickoff/fedsm-{RUN}",
        "pipeline: approved",
        "| north | Rounds | 3 |",
        "| south | FEDSM\\_RUN |",
        "| south | image | an-image |",
        "| in all | north | 7000 | 5000 |",
        "| north | train | accuracy (3), num-examples (3), train\\_loss (3) |",
        "| south | evaluate | accuracy (3), loss (3), num-examples (3) |",
        "d" * 64,
        "--head north=north.tar.gz",
    ):
        assert said in text, said


@PROPERTY
@given(data=st.data(), manifest=st.booleans())
def test_any_changed_byte_of_the_journal_is_named_by_its_line(
    told: Told, tmp_path: Path, data: Any, manifest: bool
) -> None:
    raw = bytearray(told.files[JOURNAL])
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != raw[at]))
    path = with_journal(told, tmp_path / "changed.zip", bytes(raw), manifest=manifest)
    faults = verify(path).faults
    line = told.files[JOURNAL][:at].count(b"\n") + 1
    # Without its line feed a last line counts as cut off by a crash: a pack is written without it.
    named = (f"{JOURNAL} line {line} ", f"{JOURNAL} has no run-ended after line {line - 1}:")
    assert any(fault.startswith(named) for fault in faults), faults


@PROPERTY
@given(data=st.data(), manifest=st.booleans(), how=st.sampled_from(["remove", "move", "repeat"]))
def test_a_removed_moved_or_repeated_line_is_named(
    told: Told, tmp_path: Path, data: Any, manifest: bool, how: str
) -> None:
    lines = list(told.lines)
    at = data.draw(st.integers(0, len(lines) - 2))
    line = lines[at] if how == "repeat" else lines.pop(at)
    if how != "remove":
        target = data.draw(st.integers(0, len(lines) - 1).filter(lambda to: to != at))
        lines.insert(target, line)
        at = min(at, target) if how == "move" else target
    path = with_journal(told, tmp_path / "changed.zip", b"".join(lines), manifest=manifest)
    faults = verify(path).faults
    near = [f"{JOURNAL} line {at + 1} does not follow", f"{JOURNAL} line {at + 2} does not follow"]
    assert any(fault.startswith(tuple(near)) for fault in faults), faults


@PROPERTY
@given(data=st.data())
def test_a_cut_end_is_named_and_caught_by_any_one_site(
    told: Told, tmp_path: Path, data: Any
) -> None:
    """Even by a manifest to match, and with an end put on."""
    left = data.draw(st.integers(1, len(told.lines) - 1))
    cut = told.lines[:left]
    plain = with_journal(told, tmp_path / "plain.zip", b"".join(cut), manifest=True)
    if not any(b'"kind":"run-ended"' in line for line in cut):
        assert any(f"no run-ended after line {left}" in fault for fault in verify(plain).faults)
    ended = rechained([*cut, told.lines[-1]])
    path = with_journal(told, tmp_path / "cut.zip", ended, manifest=True)
    assert verify(path).faults == []
    vouched = max(head.seq for head in kept(told)[0].heads) + 1
    for site in SITES:
        faults = verify(path, kept(told, site)).faults
        assert bool(faults) == (left < vouched)
        assert all("is cut" in f or "not all as they were" in f or "lacks" in f for f in faults)


@PROPERTY
@given(data=st.data(), how=st.sampled_from(["alter", "remove", "add"]))
def test_a_journal_made_anew_is_caught_by_any_one_site(
    told: Told, tmp_path: Path, data: Any, how: str
) -> None:
    lines = list(told.lines)
    vouched = max(head.seq for head in kept(told)[0].heads)
    at = data.draw(st.integers(1, vouched - 1))
    if how == "alter":
        row = json.loads(lines[at])
        row["data"]["note"] = "made up"
        lines[at] = canonical(row)
    elif how == "remove":
        del lines[at]
    else:
        lines.insert(at, canonical({**json.loads(lines[at]), "kind": "made-up"}))
    path = with_journal(told, tmp_path / "anew.zip", rechained(lines), manifest=True)
    for site in SITES:
        faults = verify(path, kept(told, site)).faults
        named = [f for f in faults if "are not all as they were" in f]
        assert named, faults
        first, last = (int(word) for word in named[0].split()[2:5:2])
        assert first <= at + 1 <= last + 1


ANYTHING = st.recursive(
    st.none() | st.integers() | st.text(max_size=3) | st.floats(-1e9, 1e9),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@PROPERTY
@given(data=st.data())
def test_a_journal_of_anything_is_judged_without_an_error(
    told: Told, tmp_path: Path, data: Any
) -> None:
    lines = list(told.lines)
    for at in data.draw(st.sets(st.integers(0, len(lines) - 1), min_size=1)):
        row = json.loads(lines[at])
        for name in data.draw(st.sets(st.sampled_from(sorted(row["data"])))):
            row["data"][name] = data.draw(ANYTHING)
        lines[at] = canonical(row)
    journal = rechained(lines)
    path = with_journal(told, tmp_path / "any.zip", journal, manifest=False)
    assert f"{JOURNAL} is not the file that {MANIFEST} names" in verify(
        path, kept(told)
    ).faults or (journal == told.files[JOURNAL])


@PROPERTY
@given(data=st.data())
def test_any_changed_byte_of_the_pack_is_seen_or_changes_no_file(
    told: Told, tmp_path: Path, data: Any
) -> None:
    raw = bytearray(told.pack.read_bytes())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != raw[at]))
    path = tmp_path / "changed.zip"
    path.write_bytes(raw)
    faults = ["it is no pack"]
    with suppress(EvidenceError):
        faults = verify(path).faults
    if not faults:
        with zipfile.ZipFile(path) as archive:
            assert {name: archive.read(name) for name in archive.namelist()} == told.files


@PROPERTY
@given(cut=st.integers(1, 400))
def test_a_pack_that_is_cut_off(told: Told, tmp_path: Path, cut: int) -> None:
    path = tmp_path / "cut.zip"
    path.write_bytes(told.pack.read_bytes()[:-cut])
    with pytest.raises(EvidenceError, match="no evidence pack"):
        verify(path)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (PLAN, lambda data: data.replace(b"an-image", b"no-image"), "plan.json is not the plan"),
        (SUMMARY, lambda data: data.replace(b"7000", b"70"), "summary.md does not tell"),
        (SUMMARY, lambda data: data + b"\n", "summary.md does not tell"),
    ],
)
def test_a_plan_or_summary_of_anothers_making(
    told: Told, tmp_path: Path, name: str, change: Callable[[bytes], bytes], said: str
) -> None:
    files = {**told.files, name: change(told.files[name])}
    plain = verify(pack_of(tmp_path / "plain.zip", files)).faults
    assert f"{name} is not the file that manifest.json names" in plain
    stated = json.loads(files[MANIFEST])
    stated["files"][name] = {
        "bytes": len(files[name]),
        "sha256": hashlib.sha256(files[name]).hexdigest(),
    }
    files[MANIFEST] = canonical(stated)
    faults = verify(pack_of(tmp_path / "matched.zip", files)).faults
    assert any(said in fault for fault in faults)


@pytest.mark.parametrize(
    "changes",
    [{"run": "another"}, {"head": {"seq": 1, "hash": "0" * 64}}, {"kind": "x"}, {"more": 1}],
)
def test_a_manifest_that_does_not_fit(told: Told, tmp_path: Path, changes: dict[str, Any]) -> None:
    stated = canonical({**json.loads(told.files[MANIFEST]), **changes})
    path = pack_of(tmp_path / "pack.zip", {**told.files, MANIFEST: stated})
    assert any(fault.startswith(MANIFEST) for fault in verify(path).faults)


def heads_with(told: Told, change: Callable[[list[dict[str, Any]]], Any]) -> Verdict:
    path = told.heads["north"].with_name("changed.jsonl")
    rows = [json.loads(line) for line in told.heads["north"].read_text().splitlines()]
    change(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return verify(told.pack, [read_heads("north", path)])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows.pop(4), "lacks round 2, train"),
        (lambda rows: rows.__delitem__(slice(2, None)), "lacks round 3, evaluate"),
        (lambda rows: rows.insert(3, rows[3]), "line 5 (round 1, evaluate) repeats line 4"),
        (lambda rows: rows.append(rows[-1]), "line 10 (round 3, closing) repeats line 9"),
        (
            lambda rows: rows.append({**rows[2], "seq": rows[-1]["seq"], "hash": rows[-1]["hash"]}),
            "line 10 (round 1, train) repeats line 3",
        ),
        (
            lambda rows: rows.append({**rows[-1], "round": 99, "phase": "train"}),
            "line 10 (round 99, train): journal.jsonl has neither an answer nor an error",
        ),
        (
            lambda rows: rows.insert(1, {**rows[1], "phase": "query.else"}),
            "line 2 (round 0, query.else): journal.jsonl has neither",
        ),
        (
            lambda rows: rows[-2].update(sent=7001),
            "north had sent 7,001 bytes by evaluate of round 3, and journal.jsonl has only 7,000",
        ),
        (lambda rows: rows[5].update(hash="0" * 64), "has another hash of line"),
        (lambda rows: rows[5].update(seq=rows[6]["seq"]), "has another hash of line"),
        (lambda rows: rows.insert(2, rows.pop(6)), "line 4 goes back: it was moved"),
        (lambda rows: rows[2].update(run="another"), "is of run another"),
        (lambda rows: rows[2].update(site="south"), f"is of run {RUN} at south"),
        (lambda rows: rows[2].update(seq="4"), "line 3 is not a head"),
        (lambda rows: rows[2].pop("time"), "line 3 is not a head"),
        (lambda rows: rows[-1].update(seq=10_000), "journal.jsonl is cut: it ends at line"),
        (lambda rows: rows.clear(), "holds no head"),
    ],
)
def test_heads_that_do_not_fit(
    told: Told, change: Callable[[list[dict[str, Any]]], Any], said: str
) -> None:
    faults = heads_with(told, change).faults
    assert any(said in fault for fault in faults), faults


def broken_off(told: Told, place: Path, *, again: bool = False) -> Path:
    """The pack of a run that ended while round 3 was evaluated."""
    kinds = ("checkpoint", "round-ended", "model", "closing")
    lines = [json.loads(line) for line in told.lines]
    end = max(i for i, row in enumerate(lines) if row["data"].get("phase") == "train") + 1
    lines[end:] = [row for row in lines[end:] if row["kind"] in ("traffic", "run-ended")]
    if again:
        joined = {"site": "north", "device": "cpu", "again": True}
        lines.insert(1, {**lines[1], "kind": "site-joined", "data": joined})
    assert not any(row["kind"] in kinds for row in lines[end:])
    path = place / "broken-off.zip"
    return with_journal(told, path, rechained([canonical(row) for row in lines]), manifest=True)


def heads_of(path: Path, told: Told, place: Path, asked: int) -> list[SiteHeads]:
    """North's heads of a journal made anew, as far as it was asked."""
    with zipfile.ZipFile(path) as archive:
        rows = [json.loads(line) for line in archive.read(JOURNAL).splitlines()]
    heads = [json.loads(line) for line in told.heads["north"].read_text().splitlines()][:asked]
    last = next(row for row in reversed(rows) if row["kind"] == "site-metrics")
    for row in heads:
        row.update(seq=last["seq"], hash=last["hash"])
    file = place / "heads.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in heads))
    return [read_heads("north", file)]


def test_the_message_at_which_a_run_broke_off_may_have_no_answer(
    told: Told, tmp_path: Path
) -> None:
    path = broken_off(told, tmp_path)
    verdict = verify(path, heads_of(path, told, tmp_path, 8))
    assert verdict.faults == []
    assert any("the run broke off before north answered evaluate" in n for n in verdict.notes)
    # One message only, and no run that got as far as its closing message.
    heads = heads_of(path, told, tmp_path, 8)
    heads[0].heads.append(replace(heads[0].heads[-1], line=9, round=4))
    (fault,) = verify(path, heads).faults
    assert "line 8 (round 3, evaluate): journal.jsonl has neither" in fault


def test_bytes_that_a_lost_connection_took_along_are_no_fault(told: Told, tmp_path: Path) -> None:
    for again in (False, True):
        path = broken_off(told, tmp_path, again=again)
        heads = heads_of(path, told, tmp_path, 8)
        # The last message has no answer: what was sent before it may have come too late.
        heads[0].heads[7] = replace(heads[0].heads[7], sent=9000)
        assert verify(path, heads).faults == []
        heads[0].heads[6] = replace(heads[0].heads[6], sent=9000)
        faults = verify(path, heads).faults
        assert len(faults) == (not again)
        assert all("9,000 bytes by train of round 3" in fault for fault in faults)


def test_a_cut_line_of_heads_is_named(told: Told, tmp_path: Path) -> None:
    path = tmp_path / "heads.jsonl"
    path.write_bytes(told.heads["north"].read_bytes()[:-9])
    faults = verify(told.pack, [read_heads("north", path)]).faults
    assert any("line 9 is not a head: it was altered or cut" in fault for fault in faults)


def test_heads_of_a_site_that_the_run_has_not(told: Told) -> None:
    faults = verify(told.pack, [read_heads("west", told.heads["north"])]).faults
    assert "the journal knows no site west" in faults


def archive(path: Path, *members: tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_heads_and_model_come_from_the_archive(told: Told, tmp_path: Path) -> None:
    text = told.heads["north"].read_bytes()
    noise = random.Random(0).randbytes(70_000)
    path = archive(tmp_path / "model.tar.gz", ("model.npz", noise), ("./heads.jsonl", text))
    found = read_heads("north", path)
    assert found.heads == kept(told, "north")[0].heads
    assert found.models == {"model.npz": hashlib.sha256(noise).hexdigest()}
    faults = verify(told.pack, [found]).faults
    assert faults == [
        "the model in the archive of north is not the one whose digest the journal has"
    ]
    found.models["model.npz"] = "d" * 64
    verdict = verify(told.pack, [found])
    assert verdict.faults == []
    assert "the model in the archive of north is the one of the journal" in verdict.notes


@pytest.mark.parametrize(
    "name", ["../heads.jsonl", "/heads.jsonl", "a/heads.jsonl", "heads.jsonl/.."]
)
def test_an_archive_without_heads(tmp_path: Path, name: str) -> None:
    path = archive(tmp_path / "model.tar.gz", (name, b"{}\n"))
    with pytest.raises(EvidenceError, match=r"holds no heads\.jsonl"):
        read_heads("north", path)


def test_an_archive_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedsm.evidence.heads.MAX_ARCHIVE", 1 << 20)
    monkeypatch.setattr("fedsm.evidence.heads.MAX_FILE", 1 << 16)
    info = tarfile.TarInfo("heads.jsonl")
    packed = {}
    for name, size in (("large", 1 << 17), ("endless", 8 << 30)):
        info.size = size
        packed[name] = info.tobuf(tarfile.GNU_FORMAT) + b"\0" * (1 << 17)
    info.name, info.size, info.type = "././@PaxHeader", 8 << 30, tarfile.XHDTYPE
    packed["extended"] = info.tobuf(tarfile.GNU_FORMAT)
    info.size, info.type, info.linkname = 0, tarfile.SYMTYPE, "/etc/passwd"
    info.name = "heads.jsonl"
    packed["link"] = info.tobuf() + b"\0" * 1024
    packed["nothing"] = b"\0" * 4096
    packed["noise"] = random.Random(0).randbytes(4096)
    for name, data in packed.items():
        path = tmp_path / f"{name}.tar.gz"
        path.write_bytes(gzip.compress(data))
        with pytest.raises(EvidenceError):
            read_heads("north", path)
        path.write_bytes(gzip.compress(data)[:-12])
        with pytest.raises(EvidenceError):
            read_heads("north", path)


def test_a_pack_is_not_believed(told: Told, tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "pack.zip"
    for files in (
        {**told.files, "more.txt": b""},
        {name: told.files[name] for name in NAMES if name != PLAN},
        {**{name: told.files[name] for name in NAMES if name != PLAN}, "../plan.json": b"{}"},
    ):
        with pytest.raises(EvidenceError):
            verify(pack_of(path, files))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in NAMES:
            packed.writestr(name, b"\0" * (1 << 20))
    with pytest.raises(EvidenceError):
        verify(path)
    for extra in (b"noise" + told.pack.read_bytes(), told.pack.read_bytes() + b"noise"):
        path.write_bytes(extra)
        with pytest.raises(EvidenceError):
            verify(path)
    monkeypatch.setitem(evidence.pack.LARGEST, PLAN, 10)  # type: ignore[attr-defined]
    with pytest.raises(EvidenceError):
        verify(told.pack)


def test_a_broken_journal_gives_no_pack(told: Told, tmp_path: Path) -> None:
    journal = tmp_path / "events.jsonl"
    journal.write_bytes(told.files[JOURNAL].replace(b"0.5", b"0.6", 1))
    with pytest.raises(EvidenceError, match="line 12 was altered") as caught:
        evidence.write(tmp_path, tmp_path / "pack.zip")
    assert str(journal) in str(caught.value)
    assert not (tmp_path / "pack.zip").exists()


def test_a_line_cut_off_by_a_crash_is_left_out(told: Told, tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_bytes(told.files[JOURNAL][:-1])
    evidence.write(tmp_path, tmp_path / "pack.zip")
    verdict = verify(tmp_path / "pack.zip")
    assert verdict.lines == len(told.lines) - 1
    assert any("no run-ended" in fault for fault in verdict.faults)


def test_the_commands(told: Told, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / RUN).symlink_to(told.directory)
    run, pack = CliRunner().invoke, str(tmp_path / "pack.zip")
    written = run(app, [RUN, "--config", str(tmp_path), "--out", pack], catch_exceptions=False)
    assert written.exit_code == 0
    assert f"{len(told.lines)} lines" in written.output
    again = run(app, ["--config", str(tmp_path), "--out", pack])
    assert isinstance(again.exception, ConfigError)
    heads = [f"--head={site}={path}" for site, path in told.heads.items()]
    good = run(app, ["verify", pack, *heads, "--json"], catch_exceptions=False)
    assert good.exit_code == 0
    assert json.loads(good.output)["verified"] is True
    bad = run(app, ["verify", pack, f"--head=south={told.heads['north']}"], catch_exceptions=False)
    assert bad.exit_code == EvidenceError.exit_code == 7
    assert "not verified" in bad.output
    wrong = run(app, ["verify", pack, "--head", "north"])
    assert isinstance(wrong.exception, ConfigError)
