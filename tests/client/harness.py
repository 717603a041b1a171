"""A coordinator's grid in this process, and jobs under the SageMaker contract around it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flwr.app import ConfigRecord, Message, MessageType, RecordDict

from fedsm.contract import JobSettings
from fedsm.learning.preparation import Summary, combine
from fedsm.learning.tables import Table, write_csv
from fedsm.transport.grid import StreamGrid
from fedsm.transport.identity import Certificate, Expected, make_certificate
from fedsm.transport.notes import JOURNAL, Head

ROOT = Path(__file__).resolve().parents[2]
RUN = "run-1"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "AWS_SESSION_TOKEN": "token",
}
HEAD = Head(1, 0, "0" * 64).record()


class Hub:
    """A started grid that believes every proof to be of the site it waits for."""

    def __init__(self, sites: tuple[str, ...]) -> None:
        self.certificate: Certificate = make_certificate()
        self.sites = sites
        self.grid = StreamGrid(
            listen="127.0.0.1:0",
            certificate=self.certificate,
            run_id=RUN,
            sites=[
                Expected(site, node_id, "111122223333", "fedsm-job", f"join-{site}")
                for node_id, site in enumerate(sites, start=2)
            ],
            check=lambda proof, binding, region: ("111122223333", "fedsm-job"),
            sts_region="eu-west-1",
        )
        self.port = self.grid.start()

    def settings(self, site: str, **changes: Any) -> JobSettings:
        values = {
            "run": RUN,
            "site": site,
            "partition": self.sites.index(site),
            "partitions": len(self.sites),
            "address": f"127.0.0.1:{self.port}",
            "certificate": self.certificate.der_base64,
            "join_id": f"join-{site}",
            "sts_region": "eu-west-1",
            "max_wait": 30.0,
            "bundle_sha256": "",
            "rounds": 3,
        }
        return JobSettings(**{**values, **changes})

    def join(self, timeout: float = 60.0) -> None:
        joined = self.grid.wait_for_sites(len(self.sites), timeout)
        assert len(joined) == len(self.sites), f"only {joined} joined"

    def query(self, action: str, config: Mapping[str, Any] | None = None) -> dict[str, RecordDict]:
        replies = self.send(f"{MessageType.QUERY}.{action}", {}, config or {})
        for site, reply in replies.items():
            assert reply.has_content(), f"{site}: {reply.error}"
        return {site: reply.content for site, reply in replies.items()}

    def summary(self) -> Summary:
        return combine(self.query("statistics"))

    def send(
        self, kind: str, records: Mapping[str, Any], config: Mapping[str, Any]
    ) -> dict[str, Message]:
        content = RecordDict({**records, "config": ConfigRecord(dict(config)), JOURNAL: HEAD})
        messages = [
            Message(content=content, message_type=kind, dst_node_id=node)
            for node in self.grid.get_node_ids()
        ]
        replies = self.grid.send_and_receive(messages, timeout=60)
        return {self.grid.site_of(r.metadata.src_node_id): r for r in replies}


@contextmanager
def hub(*sites: str) -> Iterator[Hub]:
    made = Hub(sites)
    try:
        yield made
    finally:
        made.grid.close()


def workplace(
    base: Path,
    channels: Mapping[str, Table | None],
    hyperparameters: Mapping[str, object] | None = None,
) -> Path:
    """Lay out ``/opt/ml`` below ``base``; a channel without a table is an empty folder."""
    config = base / "input" / "config"
    config.mkdir(parents=True)
    encoded = {key: json.dumps(value) for key, value in (hyperparameters or {}).items()}
    (config / "hyperparameters.json").write_text(json.dumps(encoded))
    names = [*channels, "fedsm-code"]
    (config / "inputdataconfig.json").write_text(json.dumps({name: {} for name in names}))
    for name, table in channels.items():
        folder = base / "input" / "data" / name
        folder.mkdir(parents=True)
        if table is not None:
            write_csv(table, folder / f"{name}.csv", label="target")
    return base


def environment(base: Path, settings: JobSettings) -> dict[str, str]:
    return {
        **{k: os.environ[k] for k in ("PATH", "HOME") if k in os.environ},
        **CREDENTIALS,
        **settings.to_environment(),
        "SAGEMAKER_BASE_DIR": str(base),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }


@contextmanager
def job(base: Path, code: Path, settings: JobSettings) -> Iterator[subprocess.Popen[str]]:
    """``train.py`` of the folder ``code`` as a process; killed if the test left it running."""
    with subprocess.Popen(
        [sys.executable, "train.py"],
        cwd=code,
        env=environment(base, settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def client_code(folder: Path, app: str, **modules: str) -> Path:
    """A folder with the shipped ``train.py`` and the given ``app.py``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.py").write_text((ROOT / "client_code" / "train.py").read_text())
    (folder / "app.py").write_text(app)
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def wait_until(happened: Callable[[], bool], seconds: float = 30.0) -> None:
    import time

    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
