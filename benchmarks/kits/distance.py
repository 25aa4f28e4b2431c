"""A TCP proxy that holds each request back for some milliseconds, as a distant S3 service does.

``python -m benchmarks.kits.distance HOST PORT MILLISECONDS`` prints the port it listens on. It is a process of its own, so that
its work is not measured as that of the client. Connections are independent: requests side by side wait side by side.
"""

import asyncio
import sys
from contextlib import suppress

_CHUNK_BYTES = 1 << 16


async def serve(host: str, port: int, delay_s: float) -> None:
    """Forward connections until the process ends."""

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pause_s: float) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(_CHUNK_BYTES):
                await asyncio.sleep(pause_s)
                writer.write(data)
                await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(host, port)
        await asyncio.gather(forward(reader, inner_writer, delay_s), forward(inner_reader, writer, 0.0))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) / 1000))
