"""A job in a process of its own: ``python -m tests.transport.job PORT SITE HEARTBEAT``."""

from __future__ import annotations

import base64
import sys
from dataclasses import replace

from fedsm.transport.session import Session
from tests.transport.world import QUICK, RUN, echo, sign


def main() -> None:
    port, site, heartbeat, certificate = sys.argv[1:]
    session = Session(
        address=f"127.0.0.1:{port}",
        certificate_der=base64.b64decode(certificate),
        run=RUN,
        site=site,
        join_id=f"join-{site}",
        sign=sign,
        max_wait=20.0,
        limits=replace(QUICK, heartbeat=float(heartbeat)),
    )
    print(session.serve(echo).reason)


if __name__ == "__main__":
    main()
