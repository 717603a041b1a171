"""The gRPC side of the link: method, options and TLS credentials; messages are raw bytes."""

from __future__ import annotations

import grpc
import grpc.aio

from fedsm.transport.identity import SERVER_NAME, Certificate, pem_from_der
from fedsm.transport.wire import Limits

SERVICE, METHOD = "fedsm.v1.Fleet", "Session"
PATH = f"/{SERVICE}/{METHOD}"


def _sizes(limits: Limits) -> list[tuple[str, int]]:
    # HTTP/2 cuts messages into frames of 16 KiB by default, which costs a large model a fifth.
    frame = min(max(limits.chunk, 16 << 10), (16 << 20) - 1)
    return [
        ("grpc.max_receive_message_length", limits.chunk),
        ("grpc.max_send_message_length", limits.chunk),
        ("grpc.http2.max_frame_size", frame),
    ]


def server_options(limits: Limits) -> list[tuple[str, int]]:
    """Options of the coordinator's server.

    A port in use is an error (no ``SO_REUSEPORT``), and a connection that does not finish its TLS
    handshake, or opens no stream, is closed.
    """
    return [
        *_sizes(limits),
        ("grpc.so_reuseport", 0),
        ("grpc.max_concurrent_streams", 4),
        ("grpc.server_handshake_timeout_ms", int(limits.hello_timeout * 1000)),
        ("grpc.max_connection_idle_ms", int(max(limits.hello_timeout, 1) * 1000)),
    ]


def client_options(limits: Limits) -> list[tuple[str, int | str]]:
    """Options of a job's channel: no proxy, no retries of gRPC's own, nothing shared."""
    return [
        *_sizes(limits),
        ("grpc.ssl_target_name_override", SERVER_NAME),
        ("grpc.enable_http_proxy", 0),
        ("grpc.enable_retries", 0),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.service_config_disable_resolution", 1),
    ]


def server_credentials(certificate: Certificate) -> grpc.ServerCredentials:
    """TLS with the run's certificate."""
    pair = (certificate.pem_key, certificate.pem_certificate)
    return grpc.ssl_server_credentials([pair])


def open_channel(address: str, certificate_der: bytes, limits: Limits) -> grpc.aio.Channel:
    """A channel that trusts the given certificate alone."""
    credentials = grpc.ssl_channel_credentials(root_certificates=pem_from_der(certificate_der))
    return grpc.aio.secure_channel(address, credentials, options=client_options(limits))
