"""The bootstrap as a process of its own, as a container would start it."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.client.harness import ROOT, wait_until

SOURCE = ROOT / "iam" / "bootstrap.py"

Content = str | bytes | tarfile.TarInfo


def bundle(base: Path, files: Mapping[str, Content], name: str = "source.tar.gz") -> str:
    """Put a bundle into the code channel; returns its SHA-256."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for path, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(path)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    folder = base / "input" / "data" / "fedsm-code"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(packed.getvalue())
    return hashlib.sha256(packed.getvalue()).hexdigest()


def start(base: Path, sha256: str, command: list[str] | None = None) -> subprocess.Popen[str]:
    environ = {
        "PATH": os.environ["PATH"],
        "SAGEMAKER_BASE_DIR": str(base),
        "FEDSM_BUNDLE_SHA256": sha256,
        "FEDSM_ENV_DIR": str(base / "environments"),
    }
    return subprocess.Popen(
        command or [sys.executable, str(SOURCE)],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(base: Path, sha256: str, command: list[str] | None = None) -> tuple[int, str, str]:
    """Exit code, log and content of ``output/failure``."""
    with start(base, sha256, command) as process:
        log, _ = process.communicate(timeout=60)
    failure = base / "output" / "failure"
    return process.returncode, log, failure.read_text() if failure.exists() else ""


def test_the_approved_bundle_runs_in_its_folder(tmp_path: Path) -> None:
    program = "import helper, os; print(helper.WORD, os.getcwd())"
    sha256 = bundle(tmp_path, {"train.py": program, "helper.py": "WORD = 'hello'"})
    stale = tmp_path / "code" / "stale.py"
    stale.parent.mkdir()
    stale.touch()
    assert run(tmp_path, sha256) == (0, f"hello {tmp_path / 'code'}\n", "")
    assert not stale.exists()


def test_it_travels_in_container_arguments(tmp_path: Path) -> None:
    packed = base64.b64encode(zlib.compress(SOURCE.read_bytes(), 9)).decode()
    pieces = [packed[i : i + 256] for i in range(0, len(packed), 256)]
    assert len(pieces) <= 100
    loader = (
        "import sys,base64,zlib;"
        "exec(compile(zlib.decompress(base64.b64decode(''.join(sys.argv[1:]))),'bootstrap','exec'))"
    )
    sha256 = bundle(tmp_path, {"train.py": "raise SystemExit(7)"})
    code, _, failure = run(tmp_path, sha256, [sys.executable, "-c", loader, *pieces])
    assert code == 7
    assert failure == "train.py ended with exit code 7 and left no reason; see the job's log."


def test_an_altered_bundle_is_not_opened(tmp_path: Path) -> None:
    sha256 = bundle(tmp_path, {"train.py": "print('ran')"})
    path = tmp_path / "input" / "data" / "fedsm-code" / "source.tar.gz"
    path.write_bytes(path.read_bytes() + b"\0")
    code, log, failure = run(tmp_path, sha256)
    assert code == 51
    assert "approved is " + sha256 in failure
    assert "ran" not in log
    assert not (tmp_path / "code").exists()
    assert run(tmp_path, "")[0] == 51


def test_no_bundle_and_two_bundles(tmp_path: Path) -> None:
    assert run(tmp_path, "0" * 64)[::2] == (
        50,
        "Channel fedsm-code holds 0 bundles instead of one.",
    )
    sha256 = bundle(tmp_path, {"train.py": ""})
    bundle(tmp_path, {"train.py": ""}, "other.tar.gz")
    assert run(tmp_path, sha256)[0] == 50


def special(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ({"../escaped": "x"}, "a path that leaves its folder"),
        ({"a/../../escaped": "x"}, "a path that leaves its folder"),
        ({"/escaped": "x"}, "a path that leaves its folder"),
        ({"link": special("link", tarfile.SYMTYPE)}, "a link or a device"),
        ({"link": special("link", tarfile.LNKTYPE)}, "a link or a device"),
        ({"null": special("null", tarfile.CHRTYPE)}, "a link or a device"),
        ({"pipe": special("pipe", tarfile.FIFOTYPE)}, "a link or a device"),
        ({}, "holds no train.py"),
    ],
)
def test_an_unsafe_bundle_is_refused(
    tmp_path: Path, files: Mapping[str, Content], fault: str
) -> None:
    base = tmp_path / "base"
    code, _, failure = run(base, bundle(base, files))
    assert code == 52
    assert fault in failure
    assert not list(tmp_path.rglob("escaped"))


def test_a_bundle_that_is_no_archive(tmp_path: Path) -> None:
    bundle(tmp_path, {})
    path = tmp_path / "input" / "data" / "fedsm-code" / "source.tar.gz"
    path.write_bytes(b"no archive")
    code, _, failure = run(tmp_path, hashlib.sha256(b"no archive").hexdigest())
    assert (code, failure) == (52, "The bundle cannot be unpacked (ReadError).")


def test_a_bundle_of_too_many_members(tmp_path: Path) -> None:
    sha256 = bundle(tmp_path, {"train.py": "", **{f"empty/{i}": "" for i in range(5_000)}})
    code, _, failure = run(tmp_path, sha256)
    assert (code, failure) == (52, "The bundle is larger than allowed.")


def test_the_reason_that_train_py_left_is_kept(tmp_path: Path) -> None:
    program = (
        "import os, pathlib\n"
        "p = pathlib.Path(os.environ['SAGEMAKER_BASE_DIR'], 'output', 'failure')\n"
        "p.parent.mkdir(); p.write_text('its own reason'); raise SystemExit(12)\n"
    )
    code, _, failure = run(tmp_path, bundle(tmp_path, {"train.py": program}))
    assert (code, failure) == (12, "its own reason")


def test_a_killed_program_is_told_by_its_signal(tmp_path: Path) -> None:
    program = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert run(tmp_path, bundle(tmp_path, {"train.py": program}))[0] == 128 + signal.SIGKILL


@pytest.mark.parametrize(("handled", "expected"), [(True, 9), (False, 143)])
def test_sigterm_reaches_the_program(tmp_path: Path, handled: bool, expected: int) -> None:
    program = "import pathlib, signal, sys, time\n"
    if handled:
        program += "signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))\n"
    program += "pathlib.Path('ready').touch()\ntime.sleep(60)\n"
    sha256 = bundle(tmp_path, {"train.py": program})
    with start(tmp_path, sha256) as process:
        wait_until((tmp_path / "code" / "ready").exists)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == expected


NAME = "fedsm_test_requirement"


def wheel() -> bytes:
    """A wheel that an installer takes, made by hand."""
    info = f"{NAME}-1.0.dist-info"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(zipfile.ZipInfo(f"{NAME}.py"), "WORD = 'installed'\n")
        archive.writestr(
            zipfile.ZipInfo(f"{info}/METADATA"),
            f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 1.0\n",
        )
        archive.writestr(
            zipfile.ZipInfo(f"{info}/WHEEL"),
            "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(
            zipfile.ZipInfo(f"{info}/RECORD"),
            f"{NAME}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n",
        )
    return packed.getvalue()


def with_requirement(base: Path, digest: str) -> str:
    return bundle(
        base,
        {
            # joblib is of the image, which the environment lies over
            "train.py": f"import joblib, {NAME}; print({NAME}.WORD)",
            "requirements.txt": f"# pinned\n{NAME}==1.0 \\\n    --hash=sha256:{digest}\n",
            f"wheelhouse/{NAME}-1.0-py3-none-any.whl": wheel(),
        },
    )


def test_a_requirement_comes_from_the_wheelhouse_once(tmp_path: Path) -> None:
    sha256 = with_requirement(tmp_path, hashlib.sha256(wheel()).hexdigest())
    code, log, _ = run(tmp_path, sha256)
    assert code == 0, log
    assert log.endswith("installed\n")
    began = time.monotonic()
    assert run(tmp_path, sha256) == (0, "installed\n", "")  # nothing is installed again
    assert time.monotonic() - began < 5


def test_a_wheel_with_another_hash_is_not_installed(tmp_path: Path) -> None:
    code, _, failure = run(tmp_path, with_requirement(tmp_path, "0" * 64))
    assert code == 53
    assert failure.startswith("The requirements cannot be installed")
    assert not list((tmp_path / "environments").rglob("complete"))


def test_what_the_image_has_is_not_installed(tmp_path: Path) -> None:
    from importlib.metadata import version

    requirements = f"numpy=={version('numpy')}  # of the image\n\njoblib == {version('joblib')}\n"
    sha256 = bundle(
        tmp_path,
        {"train.py": "import sys; print(sys.executable)", "requirements.txt": requirements},
    )
    assert run(tmp_path, sha256) == (0, f"{sys.executable}\n", "")
    assert not (tmp_path / "environments").exists()


def test_it_needs_nothing_newer_than_python_3_9() -> None:
    import ast

    tree = ast.parse(SOURCE.read_text(), feature_version=(3, 9))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= sys.stdlib_module_names
