from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

from fedsm.transport.session import Session
from tests.transport.world import RUN, Job, echo, sign, with_limits

SITES = 256


def test_256_sites_need_no_more_than_32_threads() -> None:
    coordinator = subprocess.Popen(
        [sys.executable, "-m", "tests.transport.coordinator", str(SITES)],
        cwd=Path(__file__).resolve().parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert coordinator.stdout is not None
        where = json.loads(coordinator.stdout.readline())
        jobs = [
            Job(
                Session(
                    address=f"127.0.0.1:{where['port']}",
                    certificate_der=base64.b64decode(where["certificate"]),
                    run=RUN,
                    site=f"site-{number}",
                    join_id=f"join-site-{number}",
                    sign=sign,
                    max_wait=60,
                    limits=with_limits(heartbeat=5.0, hello_timeout=30.0, check_timeout=30.0),
                ),
                echo,
            )
            for number in range(SITES)
        ]
        seen = json.loads(coordinator.stdout.readline())
        assert all(job.result(30).reason == "over" for job in jobs)
        assert coordinator.wait(30) == 0
    finally:
        coordinator.kill()
        coordinator.communicate()
    assert seen.pop("threads") <= 32
    assert seen == {"joined": SITES, "replies": SITES, "told": SITES}
