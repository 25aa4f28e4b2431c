"""An S3 server behind a proxy that breaks connections: it can be killed and started again, also under another key.

While it runs, the variables of this process name the proxy, so a job that is started meets each of its faults.
"""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.kits.fault_proxy import FaultProxy, running_fault_proxy
from benchmarks.kits.tests import helper_of_tests

_VARIABLES = ("S3_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")


@dataclass(slots=True)
class StoreServer:
    """A running server; its files survive its death."""

    folder: Path
    bucket: str = ""
    reader: dict[str, str] = field(default_factory=dict)
    """Variables with the keys of an identity that may only read and list."""
    _proxy: FaultProxy | None = None
    _process: ExitStack = field(default_factory=ExitStack)

    @property
    def proxy(self) -> FaultProxy:
        """What is between the server and its clients."""
        assert self._proxy is not None
        return self._proxy

    def die_for(self, seconds: float, *, secret_key: str | None = None) -> None:
        """Kill the server by SIGKILL and start it again after ``seconds``; with ``secret_key``, the old key is not valid then."""
        self.kill()
        time.sleep(seconds)
        self.revive(secret_key=secret_key)

    def kill(self) -> None:
        """Kill the server by SIGKILL; its address refuses connections."""
        self._process.close()
        self.proxy.target = ("127.0.0.1", 9)  # the port of the old process may belong to another one soon
        self.proxy.drop_connections()

    def revive(self, *, secret_key: str | None = None) -> None:
        """Start the server again on its files, and wait until it can be written."""
        self.proxy.target, _ = self._start(secret_key)

    def _start(self, secret_key: str | None) -> tuple[tuple[str, int], dict[str, str]]:
        helper = helper_of_tests("s3_server")
        keys = {} if secret_key is None else {"secret_key": secret_key}
        server = self._process.enter_context(helper.running_s3_server(self.folder, **keys))
        self.bucket = server.bucket
        self.reader = {
            "AWS_ACCESS_KEY_ID": server.reader_access_key,
            "AWS_SECRET_ACCESS_KEY": server.reader_secret_key,
        }
        host, _, port = server.endpoint.removeprefix("http://").partition(":")
        return (host, int(port)), server.environment()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Start server and proxy, and name them in the variables of this process, for the length of the block."""
        before = {name: os.environ.get(name) for name in _VARIABLES}
        with self._process:
            address, variables = self._start(None)
            with running_fault_proxy(*address) as self._proxy:
                os.environ.update({**variables, "S3_ENDPOINT_URL": f"http://127.0.0.1:{self._proxy.port}"})
                try:
                    yield
                finally:
                    for name, value in before.items():
                        if value is None:
                            os.environ.pop(name, None)
                        else:
                            os.environ[name] = value


@contextmanager
def running_store_server(folder: Path) -> Iterator[StoreServer]:
    """Start a server that keeps its data in ``folder``, and its proxy, for the length of the block."""
    folder.mkdir()
    server = StoreServer(folder)
    with server.running():
        yield server
