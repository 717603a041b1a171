"""The two ends of each path of :mod:`benchmarks.model_size`, one process each.

``python -m benchmarks._model_peers PATH ROLE JSON``. A coordinator first says where it listens and
at the end what it measured; a client says at the end what it measured. Each end holds a model of
its own; the coordinator's goes there, the client's comes back.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc.aio
import numpy as np

from benchmarks._processes import free_port, localhost_certificate, peak_mb, say

ARRAYS = 32
CHUNK = 1 << 20
METHOD = "/bare/Exchange"
NO_LIMIT = 2**31 - 1


def make_arrays(mb: int, seed: int) -> Iterator[Any]:
    """Yield float32 arrays of random bits, ``mb`` times 10^6 bytes in all, no two alike."""
    random = np.random.default_rng(seed)
    for _ in range(ARRAYS):
        yield random.random(mb * 1_000_000 // ARRAYS // 4, dtype=np.float32)


def fedsm_coordinator(mb: int, exchanges: int) -> None:
    """Send the model and take the reply, ``exchanges`` times."""
    from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

    from benchmarks._fedsm import open_grid

    grid, certificate, port = open_grid(["site"])
    say(port=port, certificate=certificate.der_base64)
    model = ArrayRecord({str(i): Array(a) for i, a in enumerate(make_arrays(mb, 1))})
    grid.wait_for_sites(1, 120)
    seconds: list[float] = []
    replies: list[Any] = []
    for number in range(exchanges):
        replies.clear()
        config = ConfigRecord({"last": number == exchanges - 1})
        content = RecordDict({"arrays": model, "config": config})
        message = grid.create_message(content, "train", next(iter(grid.get_node_ids())), "1")
        start = time.perf_counter()
        replies = list(grid.send_and_receive([message], timeout=300))
        seconds.append(time.perf_counter() - start)
        del content, message
    returned = replies[0].content["arrays"]
    assert isinstance(returned, ArrayRecord)
    start = time.perf_counter()
    assert len(returned.to_numpy_ndarrays()) == ARRAYS
    convert = time.perf_counter() - start
    grid.finish(None, 10)
    grid.close()
    say(seconds=seconds, convert=convert, peak_mb=peak_mb())


def fedsm_client(mb: int, port: int, certificate: str) -> None:
    """Take the model and answer with another."""
    from flwr.app import Array, ArrayRecord, Message, RecordDict

    from benchmarks._fedsm import open_session

    model = ArrayRecord({str(i): Array(a) for i, a in enumerate(make_arrays(mb, 2))})
    last: list[Any] = []

    def handle(message: Message) -> Message:
        if message.content["config"]["last"]:
            last.append(message.content["arrays"])
        return Message(RecordDict({"arrays": model}), reply_to=message)

    open_session("site", port, base64.b64decode(certificate)).serve(handle)
    assert len(last.pop().to_numpy_ndarrays()) == ARRAYS
    say(peak_mb=peak_mb())


def legacy_coordinator(mb: int, exchanges: int) -> None:
    """The same with Flower's legacy server and a strategy that aggregates nothing."""
    from flwr.common import FitIns, Parameters, parameters_to_ndarrays
    from flwr.server import ServerConfig, SimpleClientManager, start_server
    from flwr.server.strategy import FedAvg

    tensors = [_npy(array) for array in make_arrays(mb, 1)]
    seconds: list[float] = []
    returned: list[Parameters] = []

    class Exchange(FedAvg):
        start = 0.0

        def model(self) -> Parameters:
            return Parameters(list(tensors), "numpy.ndarray")  # Flower empties the list it is given

        def initialize_parameters(self, client_manager: Any) -> Any:
            return self.model()

        def configure_fit(self, server_round: int, parameters: Any, client_manager: Any) -> Any:
            returned.clear()
            client_manager.wait_for(1)
            instruction = FitIns(self.model(), {"last": server_round == exchanges})
            clients = client_manager.sample(1)
            self.start = time.perf_counter()
            return [(client, instruction) for client in clients]

        def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
            seconds.append(time.perf_counter() - self.start)
            if failures:
                raise RuntimeError(f"the exchange failed: {failures[0]!r}"[:300])
            returned.append(results[0][1].parameters)
            return self.model(), {}

        def configure_evaluate(self, *_args: Any, **_kwargs: Any) -> Any:
            return []

    port = free_port()
    certificate, key = localhost_certificate()
    say(port=port, certificate=base64.b64encode(certificate).decode())
    start_server(
        server_address=f"127.0.0.1:{port}",
        config=ServerConfig(num_rounds=exchanges),
        strategy=Exchange(),
        client_manager=SimpleClientManager(),
        grpc_max_message_length=NO_LIMIT,
        certificates=(certificate, certificate, key),
    )
    start = time.perf_counter()
    assert len(parameters_to_ndarrays(returned[0])) == ARRAYS
    say(seconds=seconds, convert=time.perf_counter() - start, peak_mb=peak_mb())


def legacy_client(mb: int, port: int, certificate: str) -> None:
    """The same with Flower's legacy client."""
    from flwr.client import Client, start_client
    from flwr.common import Code, FitRes, Parameters, Status, parameters_to_ndarrays

    tensors = [_npy(array) for array in make_arrays(mb, 2)]
    last: list[Parameters] = []

    class Exchange(Client):
        def fit(self, ins: Any) -> Any:
            if ins.config["last"]:
                last.append(ins.parameters)
            model = Parameters(list(tensors), "numpy.ndarray")  # Flower empties the list
            return FitRes(Status(Code.OK, ""), model, 1, {})

    start_client(
        server_address=f"localhost:{port}",
        client=Exchange(),
        grpc_max_message_length=NO_LIMIT,
        root_certificates=base64.b64decode(certificate),
        max_wait_time=30,
    )
    assert len(parameters_to_ndarrays(last.pop())) == ARRAYS
    say(peak_mb=peak_mb())


def _npy(array: Any) -> bytes:
    from flwr.app import Array

    return Array(array).data


def _handlers(behavior: Any) -> tuple[Any]:
    handler = grpc.stream_stream_rpc_method_handler(behavior)
    return (grpc.method_handlers_generic_handler("bare", {"Exchange": handler}),)


def bare_sync_coordinator(mb: int, exchanges: int) -> None:
    """Send 1 MiB messages and take as many back: gRPC's blocking API."""
    chunk, count = bytes(CHUNK), _chunks(mb)
    seconds: list[float] = []
    done = threading.Event()

    def exchange(requests: Iterator[bytes], _context: Any) -> Iterator[bytes]:
        for _ in range(exchanges):
            next(requests)
            start = time.perf_counter()
            for _ in range(count):
                yield chunk
            for _ in range(count):
                next(requests)
            seconds.append(time.perf_counter() - start)
        done.set()

    server = grpc.server(ThreadPoolExecutor(4), options=_OPTIONS)
    server.add_generic_rpc_handlers(_handlers(exchange))
    certificate, key = localhost_certificate()
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, certificate)]))
    server.start()
    say(port=port, certificate=base64.b64encode(certificate).decode())
    done.wait(300)
    say(seconds=seconds, convert=None, peak_mb=peak_mb())
    server.stop(1).wait()


def bare_sync_client(mb: int, port: int, certificate: str, exchanges: int) -> None:
    """The other end of it."""
    chunk, count = bytes(CHUNK), _chunks(mb)
    received = threading.Semaphore(0)

    def requests() -> Iterator[bytes]:
        for _ in range(exchanges):
            yield b"go"
            received.acquire()
            for _ in range(count):
                yield chunk

    credentials = grpc.ssl_channel_credentials(base64.b64decode(certificate))
    with grpc.secure_channel(f"localhost:{port}", credentials, options=_OPTIONS) as channel:
        for number, _ in enumerate(channel.stream_stream(METHOD)(requests()), start=1):
            if number % count == 0:
                received.release()
    say(peak_mb=peak_mb())


def bare_aio_coordinator(mb: int, exchanges: int) -> None:
    """The same with gRPC's asyncio API."""

    async def serve() -> None:
        chunk, count = bytes(CHUNK), _chunks(mb)
        seconds: list[float] = []
        done = asyncio.Event()

        async def exchange(_requests: AsyncIterator[bytes], context: Any) -> None:
            for _ in range(exchanges):
                await context.read()
                start = time.perf_counter()
                for _ in range(count):
                    await context.write(chunk)
                for _ in range(count):
                    await context.read()
                seconds.append(time.perf_counter() - start)
            done.set()

        server = grpc.aio.server(options=_OPTIONS)
        server.add_generic_rpc_handlers(_handlers(exchange))
        certificate, key = localhost_certificate()
        credentials = grpc.ssl_server_credentials([(key, certificate)])
        port = server.add_secure_port("127.0.0.1:0", credentials)
        await server.start()
        say(port=port, certificate=base64.b64encode(certificate).decode())
        await done.wait()
        say(seconds=seconds, convert=None, peak_mb=peak_mb())
        await server.stop(1)

    asyncio.run(serve())


def bare_aio_client(mb: int, port: int, certificate: str, exchanges: int) -> None:
    """The other end of it."""

    async def run() -> None:
        chunk, count = bytes(CHUNK), _chunks(mb)
        credentials = grpc.ssl_channel_credentials(base64.b64decode(certificate))
        address = f"localhost:{port}"
        async with grpc.aio.secure_channel(address, credentials, options=_OPTIONS) as channel:
            call = channel.stream_stream(METHOD)()
            for _ in range(exchanges):
                await call.write(b"go")
                for _ in range(count):
                    await call.read()
                for _ in range(count):
                    await call.write(chunk)
            await call.done_writing()
            await call.read()
        say(peak_mb=peak_mb())

    asyncio.run(run())


def _chunks(mb: int) -> int:
    return round(mb * 1_000_000 / CHUNK)


_OPTIONS = [("grpc.max_receive_message_length", CHUNK), ("grpc.so_reuseport", 0)]

ROLES: dict[tuple[str, str], Callable[..., None]] = {
    ("fedsm", "coordinator"): fedsm_coordinator,
    ("fedsm", "client"): fedsm_client,
    ("flower-legacy", "coordinator"): legacy_coordinator,
    ("flower-legacy", "client"): legacy_client,
    ("bare-grpc sync", "coordinator"): bare_sync_coordinator,
    ("bare-grpc sync", "client"): bare_sync_client,
    ("bare-grpc aio", "coordinator"): bare_aio_coordinator,
    ("bare-grpc aio", "client"): bare_aio_client,
}

if __name__ == "__main__":
    ROLES[sys.argv[1], sys.argv[2]](**json.loads(sys.argv[3]))
