"""A coordinator in a process of its own: ``python -m tests.transport.coordinator SITES``.

Says where it listens, waits for all sites, exchanges a message with each, and says how many threads
it has.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.transport.world import World, records


def say(**fields: object) -> None:
    print(json.dumps(fields), flush=True)


def main() -> None:
    sites = [f"site-{number}" for number in range(int(sys.argv[1]))]
    world = World(sites)
    say(port=world.port, certificate=world.certificate.der_base64)
    joined = world.grid.wait_for_sites(len(sites), 60)
    content = records()
    messages = [world.message(site, content) for site in sites]
    replies = list(world.grid.send_and_receive(messages, timeout=60))
    status = Path("/proc/self/status").read_text()
    threads = next(int(line.split()[1]) for line in status.splitlines() if "Threads:" in line)
    told = world.grid.finish(None, 30)
    say(joined=len(joined), replies=len(replies), threads=threads, told=len(told))
    world.close()


if __name__ == "__main__":
    main()
