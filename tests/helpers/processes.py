"""Processes that tests start."""

import subprocess
from contextlib import suppress

import psutil


def kill_with_all_it_started(job: subprocess.Popen[bytes]) -> None:
    """Kill a process that may have ended, and all that it started."""
    if job.poll() is not None:
        return
    processes = [job, *psutil.Process(job.pid).children(recursive=True)]
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    job.wait()
    psutil.wait_procs(processes[1:], timeout=10)
