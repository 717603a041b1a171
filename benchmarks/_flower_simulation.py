"""Flower's own simulation of the sites of :mod:`benchmarks._studies_sites`; needs flwr[simulation].

Run by the interpreter that ``FEDSM_FLOWER_SIMULATION_PYTHON`` names, with the sites' number; prints
one line of JSON. Its ClientApp is fedsm's, over the same rows, and its ServerApp is Flower's own
round loop over the same stock FedAvg.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from typing import Any

import psutil
from flwr.app import ConfigRecord, Context
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

from benchmarks._site_rows import rows_of_site
from fedsm.learning.models import adapter
from fedsm.learning.preparation import combine, statistics
from fedsm.learning.site_app import tabular_app

PROCESSORS = 2


def site_of(context: Context) -> int:
    """The partition of a virtual client."""
    return int(str(context.node_config["partition-id"]))


def client() -> ClientApp:
    """Fedsm's app over the rows of a partition."""
    return tabular_app(
        lambda context: rows_of_site(site_of(context)).train,
        lambda context: rows_of_site(site_of(context)).validation,
        adapter("logistic-regression"),
    )


def main(sites: int, rounds: int) -> None:
    """Simulate and print."""
    told: dict[str, Any] = {}
    server = ServerApp()
    summary = combine({str(i): statistics(rows_of_site(i).train) for i in range(sites)})

    @server.main()
    def run(grid: Grid, context: Context) -> None:
        while len(list(grid.get_node_ids())) < sites:
            time.sleep(0.05)
        config = ConfigRecord(summary.to_config())
        strategy = FedAvg(
            min_train_nodes=sites, min_evaluate_nodes=sites, min_available_nodes=sites
        )
        began = time.monotonic()
        strategy.start(
            grid=grid,
            initial_arrays=adapter("logistic-regression").initial(summary, {}),
            num_rounds=rounds,
            train_config=config,
            evaluate_config=config,
            timeout=600,
        )
        told["seconds_per_round"] = (time.monotonic() - began) / rounds

    peak, over = [0.0], threading.Event()

    def watch() -> None:
        me = psutil.Process()
        while not over.wait(0.2):
            sizes = [me.memory_full_info().uss]
            for child in me.children(recursive=True):
                try:
                    sizes.append(child.memory_full_info().uss)
                except psutil.Error:
                    continue
            peak[0] = max(peak[0], sum(sizes) / 1e6)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    run_simulation(
        server_app=server,
        client_app=client(),
        num_supernodes=sites,
        backend_config={
            "init_args": {"num_cpus": PROCESSORS},
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        },
    )
    over.set()
    watcher.join()
    print(json.dumps({"sites": sites, **told, "peak_mb": peak[0]}), flush=True)


if __name__ == "__main__":
    logging.getLogger("flwr").setLevel(logging.ERROR)
    main(int(sys.argv[1]), int(sys.argv[2]))
