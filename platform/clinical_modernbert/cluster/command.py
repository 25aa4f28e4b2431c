"""The command line of ``jobs/submit.py``: read the release's shape, build a RayJob, send it, follow it to its end.

Ends with 0 where the job succeeded, 1 where it did not, 2 where the input is wrong or the cluster refuses it. Leaving by
Ctrl-C leaves the job running: it says how to come back and how to stop it.
"""

import argparse
import logging
import sys
import time
from pathlib import Path

import yaml

from clinical_modernbert.cluster.client import Cluster, JobState
from clinical_modernbert.cluster.objects import JOB_KINDS, ray_job
from clinical_modernbert.cluster.shape import Shape, parse_shape
from clinical_modernbert.errors import ClusterError, UserError

_logger = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> None:
    """Submit one job from the command line and exit."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    options = _parser().parse_args(arguments)
    try:
        sys.exit(_run(options))
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Run jobs/<kind>.py <recipe> as a RayJob on Kubernetes, and follow it."
    )
    parser.add_argument("kind", choices=JOB_KINDS)
    parser.add_argument("recipe", help="<kind>/<name> below jobs/recipes of the image")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="PATH=VALUE")
    parser.add_argument("--workers", action="append", required=True, metavar="GROUP=COUNT", help="may be repeated")
    shape = parser.add_mutually_exclusive_group(required=True)
    shape.add_argument("--release", help="full name of the chart's release, whose images and machines are used")
    shape.add_argument("--shape", type=Path, help="YAML file with the same content as the release's ConfigMap")
    parser.add_argument("--name", help="name of the RayJob; kind, recipe and time where not given")
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--context", help="context of the kubeconfig")
    parser.add_argument("--poll-s", type=float, default=5)
    parser.add_argument("--no-follow", action="store_true", help="stop once it is submitted")
    parser.add_argument("--dry-run", action="store_true", help="print the RayJob and stop")
    return parser


def _run(options: argparse.Namespace) -> int:
    cluster = None
    if options.release or not options.dry_run:
        cluster = Cluster.connect(namespace=options.namespace, context=options.context)
    job = ray_job(
        options.name or default_name(options.kind, options.recipe, time.gmtime()),
        kind=options.kind,
        recipe=options.recipe,
        overrides=options.overrides,
        shape=_shape(options, cluster),
        workers=parse_workers(options.workers),
        namespace=options.namespace,
    )
    if options.dry_run or cluster is None:
        sys.stdout.write(yaml.safe_dump(job, sort_keys=False))
        return 0
    name = cluster.submit(job)
    _logger.info("submitted RayJob %s: %s", name, job["spec"]["entrypoint"])
    if options.no_follow:
        return 0
    try:
        return _follow(cluster, name, poll_s=options.poll_s)
    except KeyboardInterrupt:
        _logger.info(
            "RayJob %s goes on; kubectl --namespace %s delete rayjob %s stops it", name, options.namespace, name
        )
        return 130


def _shape(options: argparse.Namespace, cluster: Cluster | None) -> Shape:
    if cluster is not None and options.release:
        return cluster.read_shape(options.release)
    try:
        text = options.shape.read_text(encoding="utf-8")
    except OSError as error:
        raise ClusterError(f"--shape {options.shape}: {error.strerror}") from None
    return parse_shape(text, origin=str(options.shape))


def _follow(cluster: Cluster, name: str, *, poll_s: float) -> int:
    """Log each change, and while the cluster is not there yet, what its pods wait for."""
    said: set[str] = set()
    for state in cluster.follow(name, poll_s=poll_s):
        lines = [_line(state)]
        if state.cluster and state.deployment == "Initializing":
            lines += [f"pod {pod} waits: {reason}" for pod, reason in cluster.waiting(state.cluster).items()]
        for line in lines:
            if line not in said:
                _logger.info("%s", line)
        said = set(lines)
    return 0 if state.succeeded else 1


def _line(state: JobState) -> str:
    parts = [f"RayJob {state.name}", state.deployment, state.job, state.reason, state.message]
    if state.failed_attempts:
        parts.append(f"failed attempts: {state.failed_attempts}")
    return " · ".join(part for part in parts if part)


def parse_workers(items: list[str]) -> dict[str, int]:
    """Return ``group -> count`` from ``group=count`` texts."""
    workers: dict[str, int] = {}
    for item in items:
        group, _, count = item.partition("=")
        if not group or not count.isdigit() or group in workers:
            raise ClusterError(f"--workers {item!r} must be group=count, each group once, such as cpu=2")
        workers[group] = int(count)
    return workers


def default_name(kind: str, recipe: str, now: time.struct_time) -> str:
    """Return a name within KubeRay's limit: the recipe's own name is cut, the time is not."""
    stem = f"{kind}-{recipe.rpartition('/')[2]}".lower()
    clean = "".join(character if character.isalnum() else "-" for character in stem)
    return f"{clean[:32].strip('-')}-{time.strftime('%m%d-%H%M%S', now)}"
