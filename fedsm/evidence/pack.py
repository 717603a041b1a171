"""The pack as a file: written without compression, so that its bytes follow from the run's alone.

A pack that is read may come from anywhere: what it declares is checked before it is believed, and
nothing of it is unpacked to disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from fedsm import __version__
from fedsm.errors import ConfigError, EvidenceError
from fedsm.events import canonical
from fedsm.evidence.chain import MAX_LINE, Chain
from fedsm.evidence.summary import Summary

JOURNAL, PLAN, SUMMARY, MANIFEST = "journal.jsonl", "plan.json", "summary.md", "manifest.json"
NAMES = (JOURNAL, PLAN, SUMMARY, MANIFEST)

LARGEST = {JOURNAL: (1 << 31) - 1, PLAN: 64 << 20, SUMMARY: 256 << 20, MANIFEST: 1 << 20}
"""Bytes of each file."""

KIND, VERSION = "fedsm-evidence", 1

_END = struct.Struct("<4s4H2LH")
_LOCATOR = 20
"""Bytes of a 64-bit archive's extra record before the end."""

_MAX_DIRECTORY = 2048

# Whatever zipfile makes of an archive that is not one.
UNREADABLE = (zipfile.BadZipFile, OSError, EOFError, ValueError, RuntimeError, struct.error)


def write(directory: Path, out: Path) -> dict[str, Any]:
    """Write the pack of a run.

    Parameters
    ----------
    directory : Path
        The run's directory.
    out : Path
        The pack; must not be there.

    Returns
    -------
    dict
        The manifest.

    Raises
    ------
    EvidenceError
        The journal is broken; names the first line.
    ConfigError
        ``out`` is there already.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        file = os.open(out, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigError(
            "is there already", where=str(out), action="choose another file with --out"
        ) from None
    try:
        with os.fdopen(file, "w+b") as raw, zipfile.ZipFile(raw, "w") as archive:
            return _fill(archive, directory)
    except BaseException:
        out.unlink(missing_ok=True)
        raise


def _fill(archive: zipfile.ZipFile, directory: Path) -> dict[str, Any]:
    if (directory / "events.jsonl").stat().st_size > LARGEST[JOURNAL]:
        raise EvidenceError(
            "the journal is larger than a pack holds",
            where=str(directory / "events.jsonl"),
            action=f"a pack takes {LARGEST[JOURNAL]:,} bytes; hand over the run's directory",
        )
    chain, summary = Chain(JOURNAL), Summary()
    files: dict[str, dict[str, Any]] = {}
    with (
        (directory / "events.jsonl").open("rb") as journal,
        _member(archive, JOURNAL, files) as member,
    ):
        for line in journal:
            if not line.endswith(b"\n"):  # a write cut off by a crash
                break
            event = chain.feed(line)
            if chain.faults or event is None:
                raise EvidenceError(
                    chain.faults[0],
                    where=str(directory / "events.jsonl"),
                    action="restore the journal from a copy; there is no evidence in this one",
                )
            summary.add(event)
            member.write(line)
    plan = directory / PLAN
    text = plan.read_bytes() if plan.exists() else b"{}"
    for name, data in ((PLAN, text), (SUMMARY, summary.render(json.loads(text)).encode())):
        with _member(archive, name, files) as member:
            member.write(data)
    manifest = {
        "kind": KIND,
        "version": VERSION,
        "fedsm": __version__,
        "run": summary.run,
        "head": {"seq": chain.seq, "hash": chain.head},
        "files": files,
    }
    with archive.open(zipfile.ZipInfo(MANIFEST), "w") as last:
        last.write(canonical(manifest))
    return manifest


class _Measured:
    """Writes on, and keeps size and digest."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size = 0
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self.size += len(data)
        self.digest.update(data)


@contextmanager
def _member(
    archive: zipfile.ZipFile, name: str, files: dict[str, dict[str, Any]]
) -> Iterator[_Measured]:
    with archive.open(zipfile.ZipInfo(name), "w") as file:
        measured = _Measured(file)
        yield measured
    files[name] = {"bytes": measured.size, "sha256": measured.digest.hexdigest()}


class Pack:
    """A pack that is read, inside a ``with`` block.

    Raises
    ------
    EvidenceError
        It is no pack; nothing of it was believed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("rb")
        try:
            _check_end(self._file)
            self._archive = zipfile.ZipFile(self._file)
            self._check_members()
        except UNREADABLE as error:
            self._file.close()
            raise EvidenceError(
                "is no evidence pack, or was altered",
                where=str(path),
                action="ask for the pack again; `fedsm evidence RUN` writes it",
            ) from error

    def __enter__(self) -> Pack:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()
        self._file.close()

    def lines(self) -> Iterator[bytes]:
        """The journal's lines; one that is too long is given in part, and is the last."""
        with self._archive.open(JOURNAL) as file:
            while line := file.readline(MAX_LINE):
                yield line
                if len(line) == MAX_LINE:
                    return

    def read(self, name: str) -> bytes:
        """A file other than the journal."""
        with self._archive.open(name) as file:
            return file.read()

    def _check_members(self) -> None:
        members = self._archive.infolist()
        if sorted(member.filename for member in members) != sorted(NAMES):
            raise zipfile.BadZipFile
        for member in members:
            if (
                member.compress_type != zipfile.ZIP_STORED
                or member.compress_size != member.file_size
                or member.file_size > LARGEST[member.filename]
            ):
                raise zipfile.BadZipFile


def _check_end(file: IO[bytes]) -> None:
    """Refuse an archive whose directory would be large to read, or has bytes around it."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _END.size - _LOCATOR))
    tail = file.read()
    sign, disk, first, here, entries, length, start, comment = _END.unpack(tail[-_END.size :])
    if (
        sign != b"PK\5\6"
        or tail[:4] == b"PK\6\7"
        or (disk, first, comment) != (0, 0, 0)
        or here != entries
        or entries != len(NAMES)
        or length > _MAX_DIRECTORY
        or start + length + _END.size != size
    ):
        raise zipfile.BadZipFile
