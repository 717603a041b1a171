"""Start a job's process: in bubblewrap where it can run, else as a plain process.

In bubblewrap a job sees ``/usr``, the few files of ``/etc`` that programs need, the interpreter,
its own ``/opt/ml`` and its account's cache of environments, and nothing else of this machine. The
program is process 1 of its namespace, so signals behave as in a container: one that it does not
handle is ignored, apart from SIGKILL. The network is the host's.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

BUBBLEWRAP = "bubblewrap"
PROCESS = "process"
ENVIRONMENTS = "/var/cache/fedsm"
"""Where a job finds its account's cache of environments (``FEDSM_ENV_DIR``)."""

HOME = "/run"
"""A job's home: empty, and never where an interpreter lies."""

SCRIPT_MODE = "/opt/fedsm/script_mode.py"
_ETC = (
    "alternatives",
    "ca-certificates",
    "ca-certificates.conf",
    "group",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "pki",
    "protocols",
    "resolv.conf",
    "services",
    "ssl",
    "timezone",
)
_USER = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/tmp:/bin/sh\n"


@dataclass(frozen=True, slots=True)
class Process:
    """A started job.

    Attributes
    ----------
    popen : Popen
        What to wait for; its standard output carries standard error too.
    pid : int
        Where signals go: the job's own program, not the sandbox around it.
    """

    popen: subprocess.Popen[bytes]
    pid: int
    isolation: str

    @property
    def output(self) -> IO[bytes]:
        if self.popen.stdout is None:
            raise ValueError("the job was started without a pipe")
        return self.popen.stdout

    def terminate(self) -> None:
        """SIGTERM to the job's program."""
        self._send(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to the job and all its descendants."""
        if self.isolation == BUBBLEWRAP:
            self._send(self.pid, signal.SIGKILL)  # the end of process 1 ends its namespace
        else:
            self._send(-self.pid, signal.SIGKILL)

    def _send(self, pid: int, number: signal.Signals) -> None:
        if self.popen.poll() is not None and pid > 0:
            return
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return


def probe() -> str:
    """The isolation that this machine allows: runs ``true`` once in the sandbox."""
    if shutil.which("bwrap") is None:
        return PROCESS
    argv = ["bwrap", *_namespaces(), *_system(), "--", "/usr/bin/true"]
    try:
        done = subprocess.run(argv, capture_output=True, timeout=10, check=False, env={})
    except (OSError, subprocess.TimeoutExpired):
        return PROCESS
    return BUBBLEWRAP if done.returncode == 0 else PROCESS


def python_path() -> str:
    """``PATH`` of a job: the interpreter's scripts first, as ``python3`` must be this one."""
    return f"{sysconfig.get_path('scripts')}:/usr/local/bin:/usr/bin:/bin"


def start(
    isolation: str,
    *,
    ml: Path,
    environments: Path,
    command: Sequence[str],
    environment: Mapping[str, str],
) -> Process:
    """Start a job's command.

    Parameters
    ----------
    ml : Path
        The job's ``/opt/ml`` on this machine.
    environments : Path
        The account's cache of environments on this machine.
    environment : Mapping[str, str]
        All that the job sees; nothing of this process's environment is passed on.

    Raises
    ------
    OSError, ValueError
        The program cannot be started, or a variable holds a null byte.
    """
    if isolation == BUBBLEWRAP:
        return _start_isolated(ml, environments, command, environment)
    popen = subprocess.Popen(
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=ml / "code",
        env=dict(environment),
        start_new_session=True,
    )
    return Process(popen, popen.pid, isolation)


def _start_isolated(
    ml: Path, environments: Path, command: Sequence[str], environment: Mapping[str, str]
) -> Process:
    etc = ml.parent / "etc"
    etc.mkdir(exist_ok=True)
    (etc / "passwd").write_text(_USER)
    (etc / "hosts").write_text("127.0.0.1 localhost algo-1\n")
    options = [*_namespaces(), *_system(), *_interpreter()]
    for name in ("passwd", "hosts"):
        options += ["--ro-bind", str(etc / name), f"/etc/{name}"]
    options += ["--ro-bind", str(Path(__file__).with_name("script_mode.py")), SCRIPT_MODE]
    options += ["--bind", str(environments), ENVIRONMENTS, "--bind", str(ml), "/opt/ml"]
    options += ["--remount-ro", "/", "--chdir", "/opt/ml/code"]
    # The job's variables are set inside: LD_PRELOAD among them would otherwise reach bubblewrap
    # itself, which runs outside. Through a file, since command lines are public.
    for name, value in environment.items():
        options += ["--setenv", name, value]
    if any("\0" in option for option in options):
        raise ValueError("a variable holds a null byte")  # it would begin an option of its own
    info, info_write = os.pipe()
    with os.fdopen(info, "rb") as pipe, tempfile.TemporaryFile() as listed:
        listed.write(b"".join(option.encode() + b"\0" for option in options))
        listed.seek(0)
        passed = ["--info-fd", str(info_write), "--args", str(listed.fileno())]
        try:
            popen = subprocess.Popen(
                ["bwrap", *passed, "--", *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={"PATH": os.defpath + os.pathsep + os.environ.get("PATH", "")},
                pass_fds=(info_write, listed.fileno()),
                start_new_session=True,
            )
        finally:
            os.close(info_write)
        said = pipe.read()
    try:
        pid = int(json.loads(said)["child-pid"])
    except (ValueError, KeyError):
        pid = popen.pid  # bubblewrap itself failed, and says why on the job's output
    return Process(popen, pid, BUBBLEWRAP)


def _namespaces() -> list[str]:
    return [
        "--unshare-user",
        "--uid",
        "1000",
        "--gid",
        "1000",
        "--unshare-pid",
        "--unshare-ipc",
        "--unshare-uts",
        "--hostname",
        "algo-1",
        "--as-pid-1",
        "--die-with-parent",
        "--new-session",
        "--cap-drop",
        "ALL",
        "--unsetenv",
        "PATH",
    ]


def _system() -> list[str]:
    """Mounts that every sandbox has."""
    argv = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        path = Path("/", name)
        if path.is_symlink():
            argv += ["--symlink", str(path.readlink()), str(path)]
        elif path.exists():
            argv += ["--ro-bind", str(path), str(path)]
    for name in _ETC:
        argv += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    return [*argv, "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", HOME]  # noqa: S108


def _interpreter() -> list[str]:
    """Mounts of the interpreter's prefixes, each also under the name by which it is referred to."""
    executable = Path(sys.executable)
    wanted = [Path(sys.prefix), Path(sys.base_prefix)]
    while executable.is_symlink():
        target = executable.parent / executable.readlink()
        wanted.append(Path(os.path.normpath(target)).parent.parent)
        executable = Path(os.path.normpath(target))
    argv: list[str] = []
    seen: set[Path] = set()
    for path in [p for prefix in wanted for p in (prefix.resolve(), prefix)]:
        if path not in seen and not path.is_relative_to("/usr") and path != Path("/"):
            argv += ["--ro-bind", str(path.resolve()), str(path)]
        seen.add(path)
    return argv
