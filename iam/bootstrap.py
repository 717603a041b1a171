"""Starts a fedsm job in a SageMaker training container; the job's entry point.

It lies outside the code that it checks. In order:

1. finds the one ``*.tar.gz`` of the channel ``fedsm-code`` and compares its SHA-256 with
   FEDSM_BUNDLE_SHA256, before anything in it is read;
2. unpacks it to ``<base>/code``: plain files and folders only;
3. installs requirements.txt, unless the image satisfies it, into a virtual environment over the
   image's packages: from the bundle's wheelhouse with hashes, or else from pip's index;
4. runs train.py, hands SIGTERM on to it and keeps its exit code.

Exit codes of its own: 50 no bundle, 51 another bundle, 52 unsafe to unpack, 53 requirements cannot
be installed, 143 stopped. Standard library only, Python 3.9 or newer.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
from importlib import metadata
from pathlib import Path, PurePosixPath

BASE = Path(os.environ.get("SAGEMAKER_BASE_DIR") or "/opt/ml")
CHANNEL = BASE / "input" / "data" / "fedsm-code"
CODE = BASE / "code"
FAILURE = BASE / "output" / "failure"
ENVIRONMENTS = Path(os.environ.get("FEDSM_ENV_DIR") or "/tmp/fedsm-env")  # noqa: S108

MAX_MEMBERS = 5_000
MAX_BYTES = 4 << 30

STOPPED = 128 + signal.SIGTERM


class Refused(Exception):  # noqa: N818
    """The job cannot start; carries the exit code and the sentence for output/failure."""


class Child:
    """The one running subprocess, to which SIGTERM is handed on."""

    process = None
    stopping = False

    def on_sigterm(self, *_):
        self.stopping = True
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)

    def run(self, command, **options):
        """Run a command to its end; returns its exit code, 128 + n for signal n."""
        if not self.stopping:
            self.process = subprocess.Popen(command, **options)
            if self.stopping:  # the signal came while the process was being made
                self.process.send_signal(signal.SIGTERM)
            code = self.process.wait()
            self.process = None
            return code if code >= 0 else 128 - code
        return STOPPED


child = Child()


def main():
    signal.signal(signal.SIGTERM, child.on_sigterm)
    try:
        with approved_bundle() as bundle:
            unpack(bundle)
        python = environment()
        code = child.run(
            [python, "train.py"], cwd=CODE, env={"PYTHONUNBUFFERED": "1", **os.environ}
        )
    except Refused as refused:
        code, sentence = refused.args
        say(sentence)
        write_failure(sentence)
    if code == STOPPED and child.stopping:
        write_failure("Stopped: the job was told to stop before the run was over.")
    elif code:
        write_failure(
            f"train.py ended with exit code {code} and left no reason; see the job's log."
        )
    return code


def approved_bundle():
    """Open the bundle once its digest is the approved one."""
    want = os.environ.get("FEDSM_BUNDLE_SHA256", "")
    found = sorted(p for p in CHANNEL.rglob("*.tar.gz") if p.is_file())
    if len(found) != 1:
        raise Refused(50, f"Channel fedsm-code holds {len(found)} bundles instead of one.")
    file = open(found[0], "rb")  # noqa: SIM115
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    if digest.hexdigest() != want:
        file.close()
        raise Refused(
            51, f"The bundle has SHA-256 {digest.hexdigest()}, approved is {want or 'none'}."
        )
    file.seek(0)
    return file


def unpack(bundle):
    """Unpack plain files and folders below CODE; nothing is written before all is checked."""
    shutil.rmtree(CODE, ignore_errors=True)
    CODE.mkdir(parents=True)
    try:
        with tarfile.open(fileobj=bundle, mode="r:gz") as archive:
            for member in checked_members(archive):
                target = CODE / member.name
                if member.isdir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.extractfile(member) as source, open(target, "xb") as file:
                    shutil.copyfileobj(source, file)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise Refused(52, f"The bundle cannot be unpacked ({type(error).__name__}).") from error
    if not (CODE / "train.py").is_file():
        raise Refused(52, "The bundle holds no train.py.")


def checked_members(archive):
    members, size = [], 0
    for member in archive:
        members.append(member)
        size += member.size
        if len(members) > MAX_MEMBERS or size > MAX_BYTES:
            raise Refused(52, "The bundle is larger than allowed.")
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts or "\\" in member.name:
            raise Refused(52, "The bundle holds a path that leaves its folder.")
        if not (member.isreg() or member.isdir()):
            raise Refused(52, "The bundle holds a link or a device.")
    return members


def environment():
    """Path of a Python that has the requirements."""
    file, wheelhouse = CODE / "requirements.txt", CODE / "wheelhouse"
    if not file.is_file() or satisfied(file.read_text(encoding="utf-8")):
        return sys.executable
    digest = hashlib.sha256(repr((sys.version, sys.prefix)).encode())
    for path in [file, *sorted(wheelhouse.glob("*"))]:
        digest.update(hashlib.sha256(path.name.encode() + b"\0" + path.read_bytes()).digest())
    ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    folder = ENVIRONMENTS / digest.hexdigest()[:32]
    python = folder / "bin" / "python"
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            install(folder, python, file, wheelhouse)
            (folder / "complete").touch()
    return str(python)


def satisfied(requirements):
    """Whether the image has every ``name==version``; anything else counts as not."""
    for line in requirements.replace("\\\n", " ").splitlines():
        line = line.split("#")[0].strip()
        if not line:
            continue
        pin = re.match(r"([A-Za-z0-9._-]+)\s*==\s*([^\s;]+)\s*(--hash=\S+\s*)*$", line)
        try:
            if pin is None or metadata.version(pin[1]) != pin[2]:
                return False
        except metadata.PackageNotFoundError:
            return False
    return True


def install(folder, python, requirements, wheelhouse):
    """Make the virtual environment; it uses the image's pip."""
    say(f"installing the requirements into {folder}")
    make = [sys.executable, "-m", "venv", "--system-site-packages", "--without-pip", str(folder)]
    if code := child.run(make):
        raise not_installed(code)
    if sys.prefix != sys.base_prefix:
        # The image's Python is itself a virtual environment, which venv would skip.
        inside = "import sysconfig; print(sysconfig.get_path('purelib'))"
        site = subprocess.run([python, "-c", inside], check=True, stdout=subprocess.PIPE)
        image = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
        Path(site.stdout.decode().strip(), "image.pth").write_text("\n".join(sorted(image)))
    pip = [str(python), "-m", "pip", "install", "--quiet", "--no-input", "-r", str(requirements)]
    pip += ["--disable-pip-version-check", "--no-warn-script-location"]
    if wheelhouse.is_dir():
        pip += ["--no-index", "--find-links", str(wheelhouse), "--require-hashes"]
    if code := child.run(pip):
        raise not_installed(code)


def not_installed(code):
    if child.stopping:
        return Refused(STOPPED, "Stopped: the job was told to stop while it was installed.")
    return Refused(53, f"The requirements cannot be installed (exit code {code}); see the log.")


def say(sentence):
    print("fedsm bootstrap:", sentence, flush=True)


def write_failure(sentence):
    """Leave the reason, unless train.py has left its own."""
    with contextlib.suppress(OSError):
        FAILURE.parent.mkdir(parents=True, exist_ok=True)
        with open(FAILURE, "x", encoding="utf-8") as file:
            file.write(sentence)


if __name__ == "__main__":
    sys.exit(main())
