"""Send jobs to a running Ray cluster through Ray's job API: the only module of this package that imports ``ray``.

The checkout is uploaded and takes precedence over the package in the cluster's image, so the submitted code is what runs. Ray
reads the token from ``RAY_AUTH_TOKEN`` or ``RAY_AUTH_TOKEN_PATH``. Not covered: machines; the cluster's autoscaler starts the
workers that the recipe needs.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiohttp import ClientError
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from clinical_modernbert.errors import WRONG_INPUT, ClusterError, UnavailableError

# Ray applies .gitignore to the working directory, but not to modules.
_NOT_UPLOADED = ["**/__pycache__", "*.pyc", "*.egg-info"]
_PACKAGE = Path("platform", "clinical_modernbert")


def submit(address: str, entrypoint: str, *, checkout: Path, root: str | None) -> str:
    """Submit ``entrypoint`` with an upload of ``checkout`` and return the job's id; raises ``ClusterError``."""
    if not (checkout / _PACKAGE).is_dir():
        raise ClusterError(f"{checkout} has no {_PACKAGE}: submit from the root of a checkout")
    # No keys or tokens: Ray shows these variables in its dashboard. The pods of the cluster have the keys of the store.
    variables = {"CLINICAL_REVISION": commit(checkout)} | ({"ARTIFACT_ROOT": root} if root else {})
    environment = {
        "working_dir": str(checkout),
        "py_modules": [str(checkout / _PACKAGE)],
        "excludes": _NOT_UPLOADED,
        "env_vars": variables,
    }
    with _explained(address, "submitting"):
        return JobSubmissionClient(address).submit_job(entrypoint=entrypoint, runtime_env=environment)


def follow(address: str, job_id: str) -> bool:
    """Write the job's log to stdout until it ends, and return whether it succeeded; raises ``ClusterError`` for a wrong input."""
    with _explained(address, f"following {job_id}"):
        client = JobSubmissionClient(address)
        asyncio.run(_tail(client, job_id))
        while not (status := client.get_job_status(job_id)).is_terminal():
            time.sleep(0.5)
        if status != JobStatus.SUCCEEDED:
            info = client.get_job_info(job_id)
            if info.driver_exit_code == WRONG_INPUT:
                raise ClusterError(
                    f"the input of {job_id} is wrong, its log says why: correct it and submit another job"
                )
            sys.stderr.write(f"{job_id} {status}: {info.message}\n")
        return bool(status == JobStatus.SUCCEEDED)


def cancel(address: str, job_id: str) -> bool:
    """Stop a job; return False if it had already ended."""
    with _explained(address, f"stopping {job_id}"):
        return bool(JobSubmissionClient(address).stop_job(job_id))


def commit(checkout: Path) -> str:
    """Return the commit of a checkout, with ``-dirty`` if files differ from it; "unknown" without git."""
    try:
        head = _git(checkout, "rev-parse", "--short=12", "HEAD")
        return f"{head}-dirty" if _git(checkout, "status", "--porcelain") else head
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


async def _tail(client: JobSubmissionClient, job_id: str) -> None:
    async for lines in client.tail_job_logs(job_id):
        sys.stdout.write(lines)
        sys.stdout.flush()


@contextmanager
def _explained(address: str, doing: str) -> Iterator[None]:
    """Turn the errors of Ray's client, RuntimeErrors with the answer's text and those of HTTP, into ``ClusterError``."""
    try:
        yield
    except (OSError, ClientError) as error:  # requests' errors are OSErrors
        raise UnavailableError(f"{doing}: {address} does not answer ({type(error).__name__})") from None
    except AuthenticationError:
        raise ClusterError(
            f"{doing} at {address}: the token is missing or wrong; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
        ) from None
    except RuntimeError as error:
        if "WebSocket" in str(error):
            raise UnavailableError(
                f"{doing}: the connection to {address} was lost; if the head ended, the job did too"
            ) from None
        raise ClusterError(f"{doing} at {address}: {str(error).strip().splitlines()[0]}") from None


def _git(checkout: Path, *arguments: str) -> str:
    result = subprocess.run(["git", "-C", str(checkout), *arguments], capture_output=True, text=True, check=True)
    return result.stdout.strip()
