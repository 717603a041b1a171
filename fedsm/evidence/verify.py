"""Checks a pack offline: its files, the journal's chain, and the heads that the sites kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedsm import __version__
from fedsm.events import Event, canonical
from fedsm.evidence.asked import Asked
from fedsm.evidence.chain import MAX_FAULTS, Chain
from fedsm.evidence.heads import MODELS, SiteHeads
from fedsm.evidence.pack import (
    JOURNAL,
    KIND,
    MANIFEST,
    PLAN,
    SUMMARY,
    UNREADABLE,
    VERSION,
    Pack,
)
from fedsm.evidence.summary import Summary


@dataclass(slots=True)
class Verdict:
    """What was found.

    Attributes
    ----------
    run : str
    lines : int
        Of the journal.
    faults : list of str
        What is wrong, each with its file and line; empty where the pack verifies.
    notes : list of str
        What was confirmed, and what nobody vouches for.
    """

    run: str = ""
    lines: int = 0
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def verify(path: Path, kept: Sequence[SiteHeads] = ()) -> Verdict:
    """Check a pack.

    Parameters
    ----------
    path : Path
        The pack.
    kept : sequence of SiteHeads
        What sites kept; without any a journal that was made anew, or cut at its end, passes.

    Raises
    ------
    EvidenceError
        The file is no pack.
    """
    verdict = Verdict()
    with Pack(path) as pack:
        manifest = _manifest(pack, verdict)
        reading = _Reading(kept)
        digest, size = hashlib.sha256(), 0
        try:
            for line in pack.lines():
                digest.update(line)
                size += len(line)
                reading.take(line)
        except UNREADABLE:
            verdict.faults.append(f"{JOURNAL} is damaged after line {reading.chain.number}")
        verdict.run, verdict.lines = reading.summary.run, reading.chain.number
        verdict.faults += reading.faults()
        measured = {JOURNAL: (size, digest.hexdigest())}
        others = {name: _read(pack, name, verdict) for name in (PLAN, SUMMARY)}
        for name, data in others.items():
            measured[name] = (len(data), hashlib.sha256(data).hexdigest())
    _compare_files(manifest, measured, reading.chain, verdict)
    _compare_texts(manifest, others, measured, reading, verdict)
    for site in kept:
        _compare_heads(site, reading, verdict)
    _tell_the_rest(kept, reading, verdict)
    del verdict.faults[MAX_FAULTS:]
    return verdict


class _Reading:
    """What one pass over the journal finds out."""

    def __init__(self, kept: Sequence[SiteHeads]) -> None:
        self.chain = Chain(JOURNAL)
        self.summary = Summary()
        self.summary_fails = False
        self.first: Event | None = None
        self.ended = False
        self.hashes: dict[int, str] = {head.seq: "" for site in kept for head in site.heads}
        self.asked = {site.site: Asked(site.site) for site in kept}

    def take(self, line: bytes) -> None:
        event = self.chain.feed(line)
        if event is None:
            return
        self.first = self.first or event
        self.ended |= event.kind == "run-ended"
        if event.seq in self.hashes:
            self.hashes[event.seq] = event.hash
        try:
            self.summary.add(event)
            for asked in self.asked.values():
                asked.add(event.kind, event.data, self.chain.number)
        except (LookupError, TypeError, ValueError, AttributeError):
            self.summary_fails = True

    def faults(self) -> list[str]:
        found = list(self.chain.faults)
        if self.first is None or self.first.kind != "run-started" or self.first.seq:
            found.append(f"{JOURNAL} does not begin with run-started: its beginning is cut")
        if not self.ended:
            found.append(
                f"{JOURNAL} has no run-ended after line {self.chain.number}: its end is cut, or "
                "the run was not over"
            )
        return found


def _read(pack: Pack, name: str, verdict: Verdict) -> bytes:
    try:
        return pack.read(name)
    except UNREADABLE:
        verdict.faults.append(f"{name} is damaged")
        return b""


def _manifest(pack: Pack, verdict: Verdict) -> dict[str, Any]:
    raw = _read(pack, MANIFEST, verdict)
    try:
        found = json.loads(raw)
        if canonical(found) == raw and (found["kind"], found["version"]) == (KIND, VERSION):
            return dict(found)
    except (ValueError, TypeError, LookupError, RecursionError):
        pass
    verdict.faults.append(f"{MANIFEST} was altered, or is of another release of fedsm")
    return {}


def _compare_files(
    manifest: dict[str, Any],
    measured: dict[str, tuple[int, str]],
    chain: Chain,
    verdict: Verdict,
) -> None:
    if not manifest:
        return
    stated = {name: {"bytes": n, "sha256": digest} for name, (n, digest) in measured.items()}
    wanted = {
        "kind": KIND,
        "version": VERSION,
        "fedsm": manifest.get("fedsm"),
        "run": verdict.run,
        "head": {"seq": chain.seq, "hash": chain.head},
        "files": stated,
    }
    files = manifest.get("files")
    for name in measured:
        if not isinstance(files, dict) or files.get(name) != stated[name]:
            verdict.faults.append(f"{name} is not the file that {MANIFEST} names")
    if {**manifest, "files": stated} != wanted:
        verdict.faults.append(f"{MANIFEST} does not fit the journal: run or head differ")


def _compare_texts(
    manifest: dict[str, Any],
    others: dict[str, bytes],
    measured: dict[str, tuple[int, str]],
    reading: _Reading,
    verdict: Verdict,
) -> None:
    """The plan against its digest in the journal, the summary against a fresh one."""
    planned = reading.summary.planned
    if planned and planned != measured[PLAN][1]:
        verdict.faults.append(f"{PLAN} is not the plan whose digest the journal has")
    if manifest.get("fedsm") != __version__:
        verdict.notes.append(f"{SUMMARY} is of another release of fedsm and was not told again")
        return
    try:
        fresh = reading.summary.render(json.loads(others[PLAN])).encode()
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
        fresh = None
    if reading.summary_fails or fresh != others[SUMMARY]:
        verdict.faults.append(f"{SUMMARY} does not tell what journal and plan say")


def _compare_heads(site: SiteHeads, reading: _Reading, verdict: Verdict) -> None:
    verdict.faults += site.faults
    if site.site not in reading.summary.sites:
        verdict.faults.append(f"the journal knows no site {site.site}")
    agreed, last = -1, reading.chain.seq
    for head in site.heads:
        named = site.named(head)
        if (head.run, head.site) != (verdict.run, site.site):
            verdict.faults.append(f"{named} is of run {head.run} at {head.site}")
            break
        elif head.seq > last:
            verdict.faults.append(
                f"{JOURNAL} is cut: it ends at line {last + 1}, and {named} has seen line "
                f"{head.seq + 1}"
            )
            break
        elif reading.hashes[head.seq] != head.hash:
            verdict.faults.append(
                f"{JOURNAL} lines {agreed + 2} to {head.seq + 1} are not all as they were: {named} "
                f"has another hash of line {head.seq + 1}; one was altered, added or left out"
            )
            break
        else:
            agreed = max(agreed, head.seq)
    else:
        faults, notes = reading.asked[site.site].off_the_record(site)
        verdict.faults += faults
        verdict.notes += notes
        _compare_bytes(site, reading, verdict)
    verdict.faults += reading.asked[site.site].lacking(site)
    _compare_model(site, reading, verdict)
    if agreed >= 0:
        last_kept = site.heads[-1]
        verdict.notes.append(f"{site.site} vouches for lines 1 to {agreed + 1}")
        verdict.notes.append(
            f"{site.site} had sent {last_kept.sent:,} bytes by {last_kept.phase} of round "
            f"{last_kept.round}, by its own count; the journal has {_received(site.site, reading)}"
        )


def _compare_bytes(site: SiteHeads, reading: _Reading, verdict: Verdict) -> None:
    head, total = reading.asked[site.site].sent(site), _total(site.site, reading)
    if head is not None and total is not None and head.sent > total:
        verdict.faults.append(
            f"{site.site} had sent {head.sent:,} bytes by {head.phase} of round {head.round}, and "
            f"{JOURNAL} has only {total:,} in all"
        )


def _total(site: str, reading: _Reading) -> int | None:
    """Bytes that the journal says came from a site."""
    total = reading.summary.totals.get(site)
    known = isinstance(total, list) and len(total) == 2 and type(total[1]) is int
    return total[1] if total and known else None


def _received(site: str, reading: _Reading) -> str:
    total = _total(site, reading)
    return "no total" if total is None else f"{total:,} in all"


def _compare_model(site: SiteHeads, reading: _Reading, verdict: Verdict) -> None:
    digest = reading.summary.model_sha256
    found = next((site.models[name] for name in MODELS if name in site.models), None)
    if found is None or not digest or site.site not in reading.summary.told:
        return
    if found == digest:
        verdict.notes.append(f"the model in the archive of {site.site} is the one of the journal")
    else:
        verdict.faults.append(
            f"the model in the archive of {site.site} is not the one whose digest the journal has"
        )


def _tell_the_rest(kept: Sequence[SiteHeads], reading: _Reading, verdict: Verdict) -> None:
    """What nobody vouches for."""
    last = max(
        (head.seq for site in kept for head in site.heads if head.seq <= reading.chain.seq),
        default=-1,
    )
    if kept and last < reading.chain.seq:
        verdict.notes.append(
            f"lines {last + 2} to {reading.chain.seq + 1} came after the last head: only the chain "
            "vouches for them"
        )
    if silent := sorted(set(reading.summary.sites) - {site.site for site in kept}):
        verdict.notes.append(
            f"no heads of {', '.join(silent)}"
            + ("" if kept else ": a journal that was made anew, or cut at its end, would pass")
        )
