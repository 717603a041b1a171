"""The bundle: same input, same bytes."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from fedsm.assets import asset
from fedsm.bundle import build
from fedsm.errors import BundleError


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "train.py").write_text("print('hello')\n")
    (folder / "requirements.txt").write_text("numpy==2.0.0\n")
    return folder


def test_same_bytes_whatever_clock_umask_or_directory(code: Path, tmp_path: Path) -> None:
    first = build(code)
    before = os.umask(0o077)
    try:
        other = tmp_path / "elsewhere" / "x"
        shutil.copytree(code, other, copy_function=shutil.copyfile)
    finally:
        os.umask(before)
    (other / "__pycache__").mkdir()
    (other / "__pycache__" / "train.pyc").write_bytes(b"cached")
    for path in other.rglob("*"):
        os.utime(path, (1, 1))
    assert build(other).data == first.data


def test_any_change_of_content_changes_the_digest(code: Path) -> None:
    first = build(code)
    (code / "train.py").write_text("print('hullo')\n")
    assert build(code).sha256 != first.sha256


def test_it_holds_the_client_code_and_a_runtime_that_is_enough(code: Path) -> None:
    bundle = build(code)
    with tarfile.open(fileobj=io.BytesIO(bundle.data)) as tar:
        members = tar.getmembers()
    assert [m.name for m in members] == sorted(m.name for m in members)
    assert {m.mtime for m in members} == {0}
    assert {"train.py", "fedsm/__init__.py", "fedsm/client/runtime.py"} <= set(bundle.files)
    assert not any(name.startswith(("fedsm/local", "fedsm/aws")) for name in bundle.files)


def test_a_wheelhouse_needs_hashes(code: Path, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "x-1-py3-none-any.whl").write_bytes(b"")
    with pytest.raises(BundleError, match="has no hash"):
        build(code, wheelhouse=wheels)
    (code / "requirements.txt").write_text("x==1 \\\n  --hash=sha256:" + "0" * 64 + "\n")
    assert "wheelhouse/x-1-py3-none-any.whl" in build(code, wheelhouse=wheels).files


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda c: (c / "train.py").unlink(), "there is no train.py"),
        (lambda c: (c / "requirements.txt").unlink(), "there is no requirements.txt"),
        (lambda c: (c / "requirements.txt").write_text("numpy>=2\n"), "is not pinned"),
        (lambda c: (c / "requirements.txt").write_text("numpy==2.*\n"), "is not pinned"),
        (lambda c: (c / "link").symlink_to("train.py"), "symbolic link"),
        (lambda c: (c / "fedsm").mkdir() or (c / "fedsm" / "x.py").touch(), "runtime's own"),
    ],
)
def test_faults_are_named(code: Path, spoil: object, said: str) -> None:
    spoil(code)  # type: ignore[operator]
    with pytest.raises(BundleError, match=said):
        build(code)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is not a folder"):
        build(tmp_path / "nowhere")


def test_the_shipped_client_code_packs() -> None:
    assert {"train.py", "app.py", "data.py"} <= set(build(asset("client_code")).files)
