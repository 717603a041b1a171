"""``python -m fedsm.local``: serve, up, status or down for a project's directory."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from fedsm.errors import FedsmError
from fedsm.local import control


def main(arguments: list[str] | None = None) -> int:
    """Run one command; exit code 0, 1 without a cloud, 6 for an error of the cloud."""
    parser = argparse.ArgumentParser(prog="python -m fedsm.local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("serve", "up", "status", "down"):
        command = commands.add_parser(name)
        command.add_argument("directory", type=Path)
        if name in ("serve", "up"):
            command.add_argument("--stop-grace", type=float, default=None, metavar="SECONDS")
        if name == "up":
            command.add_argument("--account", action="append", default=[], dest="accounts")
        if name == "serve":
            command.add_argument("--ready-fd", type=int, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        if options.command == "serve":
            return _serve(options.directory, options.stop_grace, options.ready_fd)
        if options.command == "down":
            control.down(options.directory)
            return 0
        if options.command == "up":
            found: control.Endpoint | None = control.up(
                options.directory, accounts=options.accounts, stop_grace=options.stop_grace
            )
        else:
            found = control.status(options.directory)
    except FedsmError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    if found is None:
        print(f"no local cloud runs for {options.directory}")
        return 1
    print(f"{found.url} pid {found.pid} isolation {found.isolation}: {', '.join(found.accounts)}")
    print(f"records of jobs and administrators' keys are kept in {found.directory}")
    print(control.NOT_KEPT)
    return 0


def _serve(directory: Path, stop_grace: float | None, ready_fd: int | None) -> int:
    """Serve in the foreground, or with ``ready_fd`` as a daemon that says there when it is up."""
    if ready_fd is not None:
        if os.fork():
            os._exit(0)
        os.setsid()
    # moto reads these when it is imported, which must come after the fork.
    os.environ["MOTO_IAM_LOAD_MANAGED_POLICIES"] = "false"
    os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"
    os.environ["MOTO_S3_ALLOW_CROSSACCOUNT_ACCESS"] = "true"
    from fedsm.local.daemon import serve

    def ready() -> None:
        if ready_fd is not None:
            os.write(ready_fd, b"ready")
            os.close(ready_fd)

    return serve(directory, stop_grace=stop_grace, ready=ready)


if __name__ == "__main__":
    sys.exit(main())
