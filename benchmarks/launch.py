"""From ``train()`` to the first round on the local cloud, and the AWS calls that it took.

Real jobs in real processes; what a user waits for before anything is learned.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from fedsm import Federation, local
from fedsm.datasets import breast_cancer, write_channels
from fedsm.scaffold import local_federation
from fedsm.studies import study


def prepare(directory: Path, sites: int) -> None:
    """A federation of ``sites`` sites, each with rows of the breast-cancer data."""
    rows = breast_cancer()
    tables = list(rows.sites.values())
    many = {f"site-{i}": tables[i % len(tables)] for i in range(sites)}
    dataset = type(rows)(rows.name, rows.features, rows.label, many, rows.test)
    write_channels(dataset, directory / "data")
    text = yaml.safe_dump(local_federation(study("breast-cancer"), list(dataset.sites)))
    (directory / "federation.yaml").write_text(text, encoding="utf-8")


def measure(federation: Federation) -> dict[str, Any]:
    """Seconds to the first round, and calls by site."""
    began = time.monotonic()
    first: list[float] = []

    def at_round(number: int) -> Mapping[str, Any]:
        if not first:
            first.append(time.monotonic() - began)
        return {}

    run = federation.train(config_fn=at_round)
    return {"seconds_to_first_round": first[0], "calls": run.status().calls}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=int, default=8)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        prepare(directory, options.sites)
        federation = Federation.load(directory, {"training.rounds": 1})
        try:
            federation.cloud  # noqa: B018  # started before the clock, as in daily use
            runs = [measure(federation) for _ in range(options.runs)]
        finally:
            local.down(directory)
    seconds = [run["seconds_to_first_round"] for run in runs]
    result = {
        "sites": options.sites,
        "seconds_to_first_round": statistics.median(seconds),
        "all_seconds": seconds,
        "calls": runs[-1]["calls"],
    }
    if options.json:
        print(json.dumps(result))
        return
    print(f"{options.sites} sites: {result['seconds_to_first_round']:.1f} s to the first round")
    for where, calls in runs[-1]["calls"].items():
        print(f"  {where}: {', '.join(f'{name} {n}' for name, n in calls.items())}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
