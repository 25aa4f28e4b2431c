"""The command line of ``jobs/submit.py``: send one job, follow it to its end, look at it, or cancel it.

A job goes to a running Ray cluster (``--address``), with an upload of the checkout, or becomes a RayJob with its own cluster
(``--release`` or ``--skeleton``), which runs the image. The recipe is checked against this checkout before it is sent.
The exit code is 0 if the job succeeded, 1 if it failed, 2 if the input is wrong or the cluster refuses it, and 3 if no
cluster is reached or it does not answer. Ctrl-C (130) stops following; the job continues, and a message says how to follow it
again and how to stop it.
"""

import argparse
import logging
import sys
import time
from pathlib import Path

import yaml

from clinical_modernbert import __version__
from clinical_modernbert.cluster.client import Cluster
from clinical_modernbert.cluster.follow import describe, follow, last_words, waiting
from clinical_modernbert.cluster.inputs import check_inputs
from clinical_modernbert.cluster.kuberay_rules import KubernetesObject
from clinical_modernbert.cluster.research import plan_on_research
from clinical_modernbert.cluster.skeleton import JOB_KINDS, entrypoint, fill, parse_skeleton
from clinical_modernbert.errors import ClusterError, UnavailableError, UserError
from clinical_modernbert.recipe import RECIPE_TYPES, Recipe, load_recipe

ACTIONS = ("follow", "status", "cancel")
# Options that have no effect: of an action, of a job for a Ray cluster, and of a RayJob.
_OF_A_NEW_JOB = ("overrides", "release", "skeleton", "root", "workers", "name", "no_follow", "dry_run", "no_check")
_OF_A_RAYJOB = ("workers", "name", "namespace", "context", "no_check")
_RECIPE_KINDS = {"build_corpus": "corpus", "build_pairs": "pairs", "map_codes": "map"}

_logger = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> None:
    """Submit, follow or cancel one job from the command line and exit."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    options = _parser().parse_args(arguments)
    try:
        _refuse_options_without_effect(options)
        sys.exit(_run_on_ray(options) if options.address else _run_on_kubernetes(options))
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.status)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Run jobs/<kind>.py <recipe> on a cluster and follow it, or follow, look at or cancel a job by its name."
    )
    parser.add_argument("kind", choices=(*JOB_KINDS, *ACTIONS))
    parser.add_argument(
        "recipe", help="<kind>/<name> below jobs/recipes; with follow, status and cancel the name of the job"
    )
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
    parser.add_argument("--namespace", help="of the RayJob; default: default")
    parser.add_argument("--context", help="context of the kubeconfig")
    parser.add_argument("--poll-s", type=float, default=5)
    parser.add_argument("--no-follow", action="store_true", help="submit the job and stop")
    parser.add_argument("--no-check", action="store_true", help="send a recipe without a check of it and its inputs")
    parser.add_argument("--dry-run", action="store_true", help="print what would be submitted and stop")
    return parser


def _refuse_options_without_effect(options: argparse.Namespace) -> None:
    without_effect: tuple[str, ...] = ()
    if options.kind in ACTIONS:
        without_effect = _OF_A_NEW_JOB
    if options.address:
        without_effect += _OF_A_RAYJOB
    elif options.root:
        raise ClusterError("--root has no effect on a RayJob: its store is that of the release; use --address")
    for option in without_effect:
        if getattr(options, option):
            flag = "--set" if option == "overrides" else f"--{option.replace('_', '-')}"
            raise ClusterError(f"{flag} has no effect with {options.kind if options.kind in ACTIONS else '--address'}")


def _checked_recipe(options: argparse.Namespace) -> Recipe:
    """Load the recipe: refuse an unknown recipe or key, or a recipe of another kind of job, before a cluster starts for it."""
    expected = RECIPE_TYPES[_RECIPE_KINDS.get(options.kind, options.kind)]
    return load_recipe(expected, options.recipe, overrides=options.overrides)


def _run_on_ray(options: argparse.Namespace) -> int:
    from clinical_modernbert.cluster import ray_jobs  # a RayJob needs no Ray on the researcher's machine

    how_to_cancel = f"python jobs/submit.py cancel {{}} --address {options.address}"
    if options.kind == "cancel":
        stopped = ray_jobs.cancel(options.address, options.recipe)
        _logger.info("%s %s", options.recipe, "is stopping" if stopped else "had already ended")
        return 0
    if options.kind == "follow":
        return 0 if ray_jobs.follow(options.address, options.recipe) else 1
    if options.kind == "status":
        raise ClusterError(f"status is for RayJobs; run: ray job status {options.recipe} --address {options.address}")
    command = entrypoint(options.kind, options.recipe, options.overrides)
    _checked_recipe(options)
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
    namespace = options.namespace or "default"
    if options.kind in ACTIONS:
        return _act(Cluster.connect(namespace=namespace, context=options.context), options)
    command = entrypoint(options.kind, options.recipe, options.overrides)
    recipe = None if options.no_check else _checked_recipe(options)
    cluster = None
    if options.release or not options.dry_run:
        cluster = Cluster.connect(namespace=namespace, context=options.context)
    job = fill(
        _skeleton(options, cluster),
        name=options.name or default_name(options.kind, options.recipe, time.gmtime()),
        namespace=namespace,
        command=command,
        workers=parse_workers(options.workers),
    )
    if options.dry_run or cluster is None:
        sys.stdout.write(yaml.safe_dump(job, sort_keys=False))
        return 0
    if recipe and (reason := check_inputs(recipe, job)):
        if options.release:
            _logger.info("%s: the research cluster of the release makes the plan", reason)
            reason = plan_on_research(cluster, options.release, command)
        if reason:
            _logger.info("inputs are not checked before the cluster starts: %s", reason)
    name = cluster.submit(job)
    _logger.info("submitted RayJob %s: %s", name, job["spec"]["entrypoint"])
    return 0 if options.no_follow else _follow(cluster, name, poll_s=options.poll_s)


def _act(cluster: Cluster, options: argparse.Namespace) -> int:
    name = options.recipe
    if options.kind == "follow":
        return _follow(cluster, name, poll_s=options.poll_s)
    if options.kind == "status":
        state = cluster.state(name)
        lines = (describe(state), *waiting(cluster, state), *last_words(cluster, state))
        sys.stdout.writelines(f"{line}\n" for line in lines)
        return 1 if state.ended and not state.succeeded else 0
    cluster.delete(name)
    _logger.info("RayJob %s and its cluster are deleted; its finished artifacts stay in the store", name)
    return 0


def _follow(cluster: Cluster, name: str, *, poll_s: float) -> int:
    cancel, again = (
        f"python jobs/submit.py {way} {name} --namespace {cluster.namespace}" for way in ("cancel", "follow")
    )
    try:
        return 0 if follow(cluster, name, poll_s=poll_s) else 1
    except KeyboardInterrupt:
        _logger.info("RayJob %s continues; stop it by: %s ; follow it by: %s", name, cancel, again)
        return 130
    except UnavailableError as error:
        raise UnavailableError(f"{error}; the job is not affected, follow it again by: {again}") from None


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
