"""What an approver sees of a change, and what cannot be hidden from him."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from fedsm.bundle import build
from fedsm.bundle_diff import compare, contents, report, unhashed
from fedsm.errors import BundleError


def archive(*members: tuple[str, bytes | str]) -> bytes:
    """A tar.gz; a text as content makes a link to it."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return raw.getvalue()


def said(before: dict[str, bytes], after: dict[str, bytes]) -> list[str]:
    return list(report(compare(before, after)))


def test_two_real_bundles(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("one\ntwo\n")
    (tmp_path / "requirements.txt").write_text("numpy==1.26\nscikit_learn[x]==1.5  # why\n")
    before = build(tmp_path)
    (tmp_path / "train.py").write_text("one\n2\n")
    (tmp_path / "data.py").write_text("new = 1\n")
    (tmp_path / "requirements.txt").write_text("numpy==2.0\nScikit-Learn==1.5\n")
    after = build(tmp_path)
    lines = said(contents(before.data, "a"), contents(after.data, "b"))
    assert lines[:4] == [
        "added: data.py",
        "changed: requirements.txt",
        "changed: train.py",
        "requirement numpy: 1.26 -> 2.0",
    ]
    assert {"-two", "+2", "+new = 1", "--- a/train.py"} <= set(lines)
    assert not any("fedsm/" in line for line in lines)
    assert said(contents(after.data, "a"), contents(after.data, "b")) == ["nothing differs"]


def test_what_an_index_serves_without_a_hash_is_named() -> None:
    text = b"numpy==2.0  # why\nscipy==1.5 \\\n  --hash=sha256:00\n\n# no more\ntorch[x]==2\x1b\n"
    files = {"requirements.txt": text}
    assert unhashed(files) == ["numpy==2.0", "torch[x]==2\\x1b"]
    assert unhashed({**files, "wheelhouse/numpy.whl": b""}) == []
    assert unhashed({}) == []


def test_what_is_no_text_is_told_by_its_digest() -> None:
    lines = said({"w.whl": b"\0one"}, {"w.whl": b"\0two"})
    assert lines[0] == "changed: w.whl"
    assert "no text; SHA-256 " in lines[-1]
    data = compare({}, {"x": b"\xff"}).as_data()
    assert data["files"][0]["change"] == "added"
    assert data["files"][0]["before"] is None


def test_nothing_hides_in_a_diff() -> None:
    hidden = "x = 1  # \x1b[8m\u202egone\r" + " " * 5000 + "evil()\n"
    lines = said({"app.py": b"x = 1\n"}, {"app.py": hidden.encode()})
    text = "\n".join(lines)
    assert text.isascii()
    assert "\x1b" not in text
    assert "evil()" in text
    assert "\\x1b[8m\\u202egone\\r" in text
    assert said({"a": b"x\n"}, {"a": b"x"})[-1] == "+x (no line break at the end)"


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"no archive", "no tar.gz"),
        (gzip.compress(b"no tar"), "no tar.gz"),
        (archive(("app.py", b"1"))[:60], "no tar.gz"),
        (archive(("app.py", b"1"), ("app.py", b"2")), "twice"),
        (archive(("app.py", "/etc/passwd")), "link"),
    ],
    ids=["text", "gzip", "cut", "twice", "link"],
)
def test_what_no_job_would_unpack_is_refused(data: bytes, what: str) -> None:
    with pytest.raises(BundleError, match=what) as caught:
        contents(data, "s3://code/1")
    assert "do not approve it" in str(caught.value)
