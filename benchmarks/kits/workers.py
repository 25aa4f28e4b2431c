"""Worker processes of one thread, joined by gloo, whose objects are called side by side."""

import os
import socket
from collections.abc import Callable
from multiprocessing import get_context
from typing import Any

import torch
import torch.distributed as dist


class Workers:
    """Processes that each hold the object that ``make(rank)`` returns there."""

    def __init__(self, make: Callable[[int], Any], *, num: int, exchange: bool = True) -> None:
        """``make`` must be picklable; without ``exchange`` the workers do not know of each other."""
        context, port = get_context("spawn"), _free_port()
        self._pipes, self._processes = [], []
        for rank in range(num):
            here, there = context.Pipe()
            process = context.Process(
                target=_serve, args=(there, make, rank, num if exchange else 1, port), daemon=True
            )
            process.start()
            self._pipes.append(here)
            self._processes.append(process)
        for pipe in self._pipes:
            pipe.recv()

    def call(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method of every worker's object at the same time; an exception of one of them is returned as its result."""
        for pipe in self._pipes:
            pipe.send((method, arguments))
        return [pipe.recv() for pipe in self._pipes]

    def end(self) -> None:
        """End the processes."""
        for pipe, process in zip(self._pipes, self._processes, strict=True):
            pipe.close()
            process.join(timeout=30)


def _serve(pipe: Any, make: Callable[[int], Any], rank: int, num: int, port: int) -> None:
    torch.set_num_threads(1)
    if num > 1:
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(num)}
        dist.init_process_group("gloo", rank=rank, world_size=num)
    held = make(rank)
    pipe.send("ready")
    while True:
        try:
            method, arguments = pipe.recv()
        except EOFError:  # the row is done
            return
        try:
            pipe.send(getattr(held, method)(*arguments))
        except Exception as error:  # noqa: BLE001  # it is the result
            pipe.send(error)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
