"""The bundle: client code, the runtime that it needs and pinned requirements, as one archive.

The same input gives the same bytes, and so the same SHA-256, whatever the clock, the umask or the
directory: members are sorted, and carry neither times nor owners.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fedsm.assets import asset
from fedsm.errors import BundleError

CLIENT_CODE = "client_code"
ENTRY_POINT = "train.py"
REQUIREMENTS = "requirements.txt"
WHEELHOUSE = "wheelhouse"

# What a job imports of fedsm. The test of import directions holds these rooms to light imports.
RUNTIME = (
    "__init__.py",
    "contract.py",
    "errors.py",
    "metric_names.py",
    "client",
    "learning",
    "transport",
)

_SKIPPED = {"__pycache__", ".ipynb_checkpoints", ".git", ".venv", ".DS_Store"}
_PIN = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9,._-]+\])?\s*==\s*[^\s;*]+(\s|;|$)")


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle in memory.

    Attributes
    ----------
    data : bytes
        The ``tar.gz``.
    sha256 : str
        Its hex digest; the name under which it is published.
    files : tuple of str
        Its members.
    """

    data: bytes
    sha256: str
    files: tuple[str, ...]

    @property
    def key(self) -> str:
        """Where it lies below a site's ``code`` prefix."""
        return object_key(self.sha256)


def object_key(sha256: str) -> str:
    """Key of a bundle below a site's ``code`` prefix."""
    return f"{sha256}/source.tar.gz"


def of_project(directory: Path, code: Path | None = None) -> Bundle:
    """The bundle of a project: its ``client_code/``, or the shipped, with its ``wheelhouse/``.

    Parameters
    ----------
    directory : Path
        The project's.
    code : Path, optional
        Other client code.

    Raises
    ------
    BundleError
        As :func:`build`.
    """
    wheels = directory / WHEELHOUSE
    return build(
        code or code_of(directory),
        wheelhouse=wheels if wheels.is_dir() else None,
    )


def code_of(directory: Path) -> Path:
    """A project's ``client_code/``, or the shipped where it has none."""
    own = directory / CLIENT_CODE
    return own if own.is_dir() else asset(CLIENT_CODE)


def build(client_code: Path, *, wheelhouse: Path | None = None) -> Bundle:
    """Pack ``client_code`` with the fedsm runtime.

    Parameters
    ----------
    client_code : Path
        Folder with ``train.py`` and ``requirements.txt``.
    wheelhouse : Path, optional
        Folder of wheels for jobs without internet; ``requirements.txt`` then needs hashes.

    Raises
    ------
    BundleError
        A file is missing or unreadable, a requirement is not pinned, or a name is taken by the
        runtime.
    """
    members = dict(_walk(client_code))
    for needed in (ENTRY_POINT, REQUIREMENTS):
        if needed not in members:
            raise BundleError(
                f"there is no {needed}",
                where=str(client_code),
                action="copy the shipped client_code/ and edit it",
            )
    if any(name.startswith("fedsm/") for name in members):
        raise BundleError(
            "the folder fedsm/ is the runtime's own",
            where=str(client_code),
            action="rename that folder",
        )
    _check_pins(members[REQUIREMENTS], hashes=wheelhouse is not None)
    package = Path(__file__).resolve().parent
    for room in RUNTIME:
        path = package / room
        for name, file in _walk(path) if path.is_dir() else [("", path)]:
            members[f"fedsm/{room}/{name}" if name else f"fedsm/{room}"] = file
    if wheelhouse is not None:
        members |= {f"{WHEELHOUSE}/{name}": path for name, path in _walk(wheelhouse)}
    return _pack(members)


def _walk(folder: Path) -> Iterator[tuple[str, Path]]:
    if not folder.is_dir():
        raise BundleError(
            "is not a folder", where=str(folder), action="give the folder of the client code"
        )
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_dir() or _SKIPPED & set(relative.parts) or path.suffix == ".pyc":
            continue
        if path.is_symlink():
            raise BundleError(
                "is a symbolic link, which a bundle cannot hold",
                where=str(path),
                action="replace the link by the file",
            )
        yield relative.as_posix(), path


def _check_pins(requirements: Path, *, hashes: bool) -> None:
    text = requirements.read_text(encoding="utf-8").replace("\\\n", " ")
    for line in (raw.split("#", 1)[0].strip() for raw in text.splitlines()):
        if not line or line.startswith("--hash"):
            continue
        if not _PIN.match(line):
            raise BundleError(
                f"{line.split()[0]!r} is not pinned to one version",
                where=str(requirements),
                action="write name==version, so that every job runs the same code",
            )
        if hashes and "--hash=sha256:" not in line:
            raise BundleError(
                f"{line.split()[0]!r} has no hash, which a wheelhouse needs",
                where=str(requirements),
                action="add --hash=sha256:…, as `pip hash` prints it",
            )


def _pack(members: dict[str, Path]) -> Bundle:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(members):
            try:
                content = members[name].read_bytes()
            except OSError as error:
                raise BundleError(
                    f"cannot be read: {error.strerror}",
                    where=str(members[name]),
                    action="give yourself the right to read it",
                ) from error
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o644
            tar.addfile(info, io.BytesIO(content))
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", filename="", mtime=0, compresslevel=9) as zipped:
        zipped.write(raw.getvalue())
    data = packed.getvalue()
    return Bundle(data, hashlib.sha256(data).hexdigest(), tuple(sorted(members)))
