"""What a site kept of the journal: its ``heads.jsonl``, alone or within its ``model.tar.gz``."""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from fedsm.errors import EvidenceError

FILE = "heads.jsonl"
MODELS = ("model.joblib", "model.npz")

MAX_FILE = 256 << 20
"""Bytes of heads that are read."""

MAX_ARCHIVE = 64 << 30
"""Bytes of an archive, unpacked, that are passed over."""

_BLOCK, _CHUNK = 512, 1 << 20
_LINE = 4096

_TYPES = {
    "run": str,
    "site": str,
    "round": int,
    "phase": str,
    "seq": int,
    "hash": str,
    "time": str,
    "sent": int,
}


@dataclass(frozen=True, slots=True)
class KeptHead:
    """One line: where the journal stood when a message came."""

    line: int
    run: str
    site: str
    round: int
    phase: str
    seq: int
    hash: str
    time: str
    sent: int


@dataclass(slots=True)
class SiteHeads:
    """What one site kept.

    Attributes
    ----------
    heads : list of KeptHead
        As far as they are of their form.
    faults : list of str
        Lines that are not, and lines out of order.
    models : dict of str to str
        Name to SHA-256 of the models beside the heads, if the whole archive was given.
    """

    site: str
    heads: list[KeptHead] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    models: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """How faults speak of the file."""
        return f"{FILE} of {self.site}"

    def named(self, head: KeptHead) -> str:
        """How faults speak of a line of it."""
        return f"{self.name} line {head.line} (round {head.round}, {head.phase})"


def read_heads(site: str, path: Path) -> SiteHeads:
    """Read a site's heads.

    Parameters
    ----------
    site : str
        Its name.
    path : Path
        ``heads.jsonl``, or the ``model.tar.gz`` that holds it. Nothing is unpacked to disk.

    Raises
    ------
    EvidenceError
        The file is neither, or is larger than any that a job leaves.
    """
    found = SiteHeads(site)
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        try:
            text = _from_archive(file, found) if packed else _bounded(file, MAX_FILE)
        except (OSError, EOFError, tarfile.TarError, zlib.error, ValueError) as error:
            raise EvidenceError(
                f"holds no {FILE} that can be read",
                where=str(path),
                action=f"give {FILE}, or model.tar.gz as the job left it in the owner's bucket",
            ) from error
    _parse(text, found)
    return found


def _from_archive(packed: IO[bytes], found: SiteHeads) -> bytes:
    """The heads in an archive, and the models' digests; each header is read by itself.

    ``tarfile`` would take in extended headers of any size.
    """
    text: bytes | None = None
    with cast("IO[bytes]", gzip.open(packed)) as file:
        for name, size in _members(file):
            if name == FILE and text is None:
                if size > MAX_FILE:
                    raise ValueError
                text = b"".join(_data(file, size))
            elif name in MODELS:
                digest = hashlib.sha256()
                for chunk in _data(file, size):
                    digest.update(chunk)
                found.models[name] = digest.hexdigest()
            else:
                for _ in _data(file, size):
                    pass
    if text is None:
        raise ValueError
    return text


def _members(file: IO[bytes]) -> Iterator[tuple[str, int]]:
    """Name and size of each member; the caller reads its data. Only plain files have a name."""
    passed = 0
    while len(block := file.read(_BLOCK)) == _BLOCK and block.strip(b"\0"):
        info = tarfile.TarInfo.frombuf(block, "utf-8", "replace")
        passed += _BLOCK + info.size
        if info.size < 0 or passed > MAX_ARCHIVE:
            raise ValueError
        yield info.name.removeprefix("./") if info.isreg() else "", info.size


def _data(file: IO[bytes], size: int) -> Iterator[bytes]:
    """A member's bytes in pieces, and past its padding."""
    left = size
    while left:
        chunk = file.read(min(left, _CHUNK))
        if not chunk:
            raise EOFError
        left -= len(chunk)
        yield chunk
    file.read(-size % _BLOCK)


def _bounded(file: IO[bytes], most: int) -> bytes:
    text = file.read(most + 1)
    if len(text) > most:
        raise ValueError
    return text


def _parse(text: bytes, found: SiteHeads) -> None:
    last = -1
    for number, raw in enumerate(text.splitlines(keepends=True), start=1):
        head = _head(number, raw)
        if head is None:
            found.faults.append(f"{found.name} line {number} is not a head: it was altered or cut")
            continue
        if head.seq < last:
            found.faults.append(f"{found.name} line {number} goes back: it was moved")
        last = head.seq
        found.heads.append(head)
    if not found.heads:
        found.faults.append(f"{found.name} holds no head")


def _head(number: int, raw: bytes) -> KeptHead | None:
    try:
        row: Any = json.loads(raw) if raw.endswith(b"\n") and len(raw) <= _LINE else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or {k: type(v) for k, v in row.items()} != _TYPES:
        return None
    return KeptHead(number, **row)
