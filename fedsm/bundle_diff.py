"""What changed between two bundles, for the person who approves the second.

Pure. A bundle is a stranger's archive here: nothing of it is written to disk, what a terminal would
obey is escaped, and no line is cut, so that nothing can hide in it.
"""

from __future__ import annotations

import difflib
import hashlib
import io
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fedsm.bundle import REQUIREMENTS, WHEELHOUSE
from fedsm.errors import BundleError

MAX_MEMBERS, MAX_BYTES = 5_000, 4 << 30
"""As the bootstrap takes them."""

_PIN = re.compile(r"^\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^]]*\])?\s*==\s*([^\s;\\]+)")


@dataclass(frozen=True, slots=True)
class Change:
    """One file that differs.

    Attributes
    ----------
    lines : tuple of str
        Unified diff, without line breaks; empty where a side is not text.
    before, after : str
        SHA-256 of the content, empty where there is no such file.
    """

    file: str
    kind: Literal["added", "removed", "changed"]
    before: str
    after: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """All that differs: files, and of them the pinned requirements as name, before, after."""

    files: tuple[Change, ...]
    requirements: tuple[tuple[str, str | None, str | None], ...]

    def as_data(self) -> dict[str, Any]:
        """The same as plain data."""
        return {
            "files": [
                {
                    "file": change.file,
                    "change": change.kind,
                    "before": change.before or None,
                    "after": change.after or None,
                    "diff": list(change.lines),
                }
                for change in self.files
            ],
            "requirements": [
                {"name": name, "before": before, "after": after}
                for name, before, after in self.requirements
            ],
        }


def contents(data: bytes, where: str) -> dict[str, bytes]:
    """Files of a bundle by name.

    Raises
    ------
    BundleError
        It is no ``tar.gz``, or holds what no job would unpack: links, devices, a name twice.
    """
    found: dict[str, bytes] = {}
    size = 0
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
            for count, member in enumerate(archive, 1):
                size += member.size
                if count > MAX_MEMBERS or size > MAX_BYTES:
                    raise _unusable(where, "is larger than a job would unpack")
                if member.isdir():
                    continue
                file = archive.extractfile(member) if member.isreg() else None
                if file is None or member.name in found:
                    raise _unusable(where, f"holds {escaped(member.name)} as a link or twice")
                found[member.name] = file.read()
    except (tarfile.TarError, OSError, EOFError, ValueError, zlib.error) as error:
        raise _unusable(where, f"is no tar.gz ({type(error).__name__})") from error
    return found


def unhashed(files: Mapping[str, bytes]) -> list[str]:
    """Requirements of a bundle that a job takes from an index without their hashes."""
    if any(name.startswith(f"{WHEELHOUSE}/") for name in files):
        return []
    text = files.get(REQUIREMENTS, b"").decode("utf-8", "replace").replace("\\\n", " ")
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [escaped(line.split()[0]) for line in lines if line and "--hash=sha256:" not in line]


def compare(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> Difference:
    """What changed from one bundle's files to another's, by name."""
    names = sorted({*before, *after})
    pins = _pins(before), _pins(after)
    return Difference(
        tuple(
            _change(name, before.get(name), after.get(name))
            for name in names
            if before.get(name) != after.get(name)
        ),
        tuple(
            (name, pins[0].get(name), pins[1].get(name))
            for name in sorted({*pins[0], *pins[1]})
            if pins[0].get(name) != pins[1].get(name)
        ),
    )


def report(difference: Difference) -> Iterator[str]:
    """Lines for a person."""
    if not difference.files:
        yield "nothing differs"
        return
    for change in difference.files:
        yield f"{change.kind}: {escaped(change.file)}"
    for name, before, after in difference.requirements:
        versions = f"{escaped(before or 'none')} -> {escaped(after or 'none')}"
        yield f"requirement {escaped(name)}: {versions}"
    for change in difference.files:
        yield ""
        if change.lines:
            yield from change.lines
        else:
            yield f"{escaped(change.file)}: no text; SHA-256 {change.before or 'none'} -> " + (
                change.after or "none"
            )


def escaped(text: str) -> str:
    """The text with what a terminal would obey made visible."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


def _change(name: str, before: bytes | None, after: bytes | None) -> Change:
    kind: Literal["added", "removed", "changed"] = "changed"
    if before is None or after is None:
        kind = "added" if before is None else "removed"
    old, new = _lines(before or b""), _lines(after or b"")
    lines: tuple[str, ...] = ()
    if old is not None and new is not None:
        diff = difflib.unified_diff(old, new, f"a/{name}", f"b/{name}", lineterm="")
        lines = tuple(escaped(line) for line in diff)
    return Change(name, kind, _digest(before), _digest(after), lines)


def _digest(content: bytes | None) -> str:
    return "" if content is None else hashlib.sha256(content).hexdigest()


def _lines(content: bytes) -> list[str] | None:
    """Lines by line feed alone, None of what is no text; a missing last line feed shows."""
    if b"\0" in content:
        return None
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    *whole, rest = text.split("\n")
    return [*whole, f"{rest} (no line break at the end)"] if rest else whole


def _pins(files: Mapping[str, bytes]) -> dict[str, str]:
    text = files.get(REQUIREMENTS, b"").decode(errors="replace")
    found = (_PIN.match(line) for line in text.splitlines())
    return {re.sub(r"[-_.]+", "-", pin[1]).lower(): pin[2] for pin in found if pin}


def _unusable(where: str, what: str) -> BundleError:
    return BundleError(what, where=where, action="do not approve it; publish the bundle again")
