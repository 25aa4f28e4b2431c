"""The command line of ``jobs/submit.py``: send one job, follow it to its end, or cancel it.

A job goes to a running Ray cluster (``--address``), with an upload of the checkout, or becomes a RayJob with its own cluster
(``--release`` or ``--skeleton``), which runs the image. The exit code is 0 if the job succeeded, 1 if it failed, and 2 if the
input is wrong or the cluster refuses it. Ctrl-C stops following; the job continues, and a message says how to stop it.
"""

import argparse
import logging
import sys
import time
from pathlib import Path

import yaml

from clinical_modernbert import __version__
from clinical_modernbert.cluster.client import Cluster
from clinical_modernbert.cluster.follow import follow
from clinical_modernbert.cluster.kuberay_rules import KubernetesObject
from clinical_modernbert.cluster.skeleton import JOB_KINDS, entrypoint, fill, parse_skeleton
from clinical_modernbert.errors import ClusterError, UserError
from clinical_modernbert.recipe import RECIPE_TYPES, load_recipe, read_recipe

_logger = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> None:
    """Submit or cancel one job from the command line and exit."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    options = _parser().parse_args(arguments)
    try:
        sys.exit(_run_on_ray(options) if options.address else _run_on_kubernetes(options))
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Run jobs/<kind>.py <recipe> on a cluster and follow it, or cancel it."
    )
    parser.add_argument("kind", choices=(*JOB_KINDS, "cancel"))
    parser.add_argument("recipe", help="<kind>/<name> below jobs/recipes; with `cancel` the name of the job")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="PATH=VALUE")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--address", help="URL of a Ray cluster's dashboard, such as http://localhost:8265: submit there")
    way.add_argument("--release", help="full name of the chart's release that a RayJob takes its pods from")
    way.add_argument(
        "--skeleton", "--shape", type=Path, help="YAML file with a RayJob skeleton, as in the release's ConfigMap"
    )
    parser.add_argument("--root", help="with --address: artifact store; default: the one of the cluster")
    parser.add_argument("--workers", action="append", default=[], metavar="GROUP=COUNT", help="of a RayJob; repeatable")
    parser.add_argument("--name", help="name of the RayJob; default: kind, recipe and time")
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--context", help="context of the kubeconfig")
    parser.add_argument("--poll-s", type=float, default=5)
    parser.add_argument("--no-follow", action="store_true", help="submit the job and stop")
    parser.add_argument("--dry-run", action="store_true", help="print what would be submitted and stop")
    return parser


def _run_on_ray(options: argparse.Namespace) -> int:
    from clinical_modernbert.cluster import ray_jobs  # a RayJob needs no Ray on the researcher's machine

    how_to_cancel = f"python jobs/submit.py cancel {{}} --address {options.address}"
    if options.kind == "cancel":
        stopped = ray_jobs.cancel(options.address, options.recipe)
        _logger.info("%s %s", options.recipe, "is stopping" if stopped else "had already ended")
        return 0
    # This checkout is what runs, so a wrong recipe can be refused here.
    recipe_type = RECIPE_TYPES[read_recipe(options.recipe)["kind"]]
    load_recipe(recipe_type, options.recipe, overrides=options.overrides)
    command = entrypoint(options.kind, options.recipe, options.overrides)
    if options.dry_run:
        sys.stdout.write(f"{command}\n")
        return 0
    checkout = Path.cwd()
    _logger.info("clinical-modernbert %s, commit %s, to %s", __version__, ray_jobs.commit(checkout), options.address)
    job_id = ray_jobs.submit(options.address, command, checkout=checkout, root=options.root)
    _logger.info("submitted %s: %s; stop it by: %s", job_id, command, how_to_cancel.format(job_id))
    if options.no_follow:
        return 0
    try:
        return 0 if ray_jobs.follow(options.address, job_id) else 1
    except KeyboardInterrupt:
        _logger.info("%s continues; stop it by: %s", job_id, how_to_cancel.format(job_id))
        return 130


def _run_on_kubernetes(options: argparse.Namespace) -> int:
    cluster = None
    if options.release or options.kind == "cancel" or not options.dry_run:
        cluster = Cluster.connect(namespace=options.namespace, context=options.context)
    if cluster is not None and options.kind == "cancel":
        cluster.delete(options.recipe)
        _logger.info("RayJob %s and its cluster are deleted; its finished artifacts stay in the store", options.recipe)
        return 0
    job = fill(
        _skeleton(options, cluster),
        name=options.name or default_name(options.kind, options.recipe, time.gmtime()),
        namespace=options.namespace,
        command=entrypoint(options.kind, options.recipe, options.overrides),
        workers=parse_workers(options.workers),
    )
    if options.dry_run or cluster is None:
        sys.stdout.write(yaml.safe_dump(job, sort_keys=False))
        return 0
    name = cluster.submit(job)
    _logger.info("submitted RayJob %s: %s", name, job["spec"]["entrypoint"])
    if options.no_follow:
        return 0
    try:
        return 0 if follow(cluster, name, poll_s=options.poll_s) else 1
    except KeyboardInterrupt:
        how_to_cancel = f"python jobs/submit.py cancel {name} --namespace {options.namespace}"
        _logger.info("RayJob %s continues; stop it by: %s", name, how_to_cancel)
        return 130


def _skeleton(options: argparse.Namespace, cluster: Cluster | None) -> KubernetesObject:
    if cluster is not None and options.release:
        return cluster.read_skeleton(options.release, options.kind)
    if options.skeleton is None:
        raise ClusterError("no target: give --address URL for a Ray cluster or --release NAME for a RayJob")
    try:
        text = options.skeleton.read_text(encoding="utf-8")
    except OSError as error:
        raise ClusterError(f"--skeleton {options.skeleton}: {error.strerror}") from None
    return parse_skeleton(text, origin=str(options.skeleton))


def parse_workers(items: list[str]) -> dict[str, int]:
    """Return ``group -> count`` from ``group=count`` texts."""
    workers: dict[str, int] = {}
    for item in items:
        group, _, count = item.partition("=")
        if not group or not count.isdigit() or group in workers:
            raise ClusterError(f"--workers {item!r} must be group=count with each group once, such as cpu=2")
        workers[group] = int(count)
    return workers


def default_name(kind: str, recipe: str, now: time.struct_time) -> str:
    """Return a name within KubeRay's limit: kind and recipe are cut to fit, the time is kept."""
    stem = f"{kind}-{recipe.rpartition('/')[2]}".lower()
    clean = "".join(character if character.isalnum() else "-" for character in stem)
    return f"{clean[:32].strip('-')}-{time.strftime('%m%d-%H%M%S', now)}"
