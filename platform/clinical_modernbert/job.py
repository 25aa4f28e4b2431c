"""The frame of every job around its one function: parse, load the recipe, plan, run, report; bad input exits with 2.

``--dry-run`` prints the resolved recipe, the fingerprint and the output URI, and loads neither torch nor ray.
"""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

import yaml

from clinical_modernbert import __version__
from clinical_modernbert.artifacts import Artifact, InputEntry, Plan, Store, make_plan, open_store, wait_until_there
from clinical_modernbert.artifacts.leftovers import sweep_leftovers
from clinical_modernbert.artifacts.manifest import signing_key
from clinical_modernbert.attempts import run_attempts
from clinical_modernbert.errors import RunStopped, StoreError, UserError, disk_full
from clinical_modernbert.recipe import Recipe, load_recipe

T = TypeVar("T", bound=Recipe)

_logger = logging.getLogger(__name__)


def main(
    recipe_type: type[T],
    run: Callable[[Plan[T]], Artifact],
    *,
    raw_inputs: Callable[[T], tuple[InputEntry, ...]] = lambda recipe: (),
    planned: Callable[[T, Store], Plan[T]] | None = None,
    arguments: list[str] | None = None,
) -> None:
    """Run one job from the command line; a wrong input is one message and exit code 2, an outage of the store code 3.

    ``raw_inputs`` returns what the recipe reads besides artifacts. ``planned`` makes the plan instead, where more than the
    recipe's references must be resolved.
    """
    options = _parser(recipe_type).parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if options.retries and not options.dry_run:
        command = [sys.executable, sys.argv[0], *(sys.argv[1:] if arguments is None else arguments)]
        sys.exit(run_attempts([*command, "--retries", "0"], retries=options.retries))
    try:
        recipe = load_recipe(recipe_type, options.recipe, overrides=options.overrides)

        def look() -> Plan[T]:
            store = open_root(options.root)
            return planned(recipe, store) if planned else make_plan(recipe, store, raw_inputs=raw_inputs(recipe))

        plan = wait_until_there(look, patience_s=0 if options.dry_run else options.wait_for_inputs)
        if options.dry_run:
            _show(plan)
            return
        # Logged first: a cluster's image may hold another version of the package than the one submitted.
        _logger.info("clinical-modernbert %s, commit %s, from %s", __version__, _commit(), Path(__file__).parent)
        _logger.info("fingerprint %s, output %s", plan.fingerprint, plan.uri)
        signing_key()  # an empty one would end the job when it publishes
        artifact = plan.existing()
        if artifact:
            _logger.info("already built, nothing to do: %s", artifact.uri)
        else:
            plan.check_writable()  # now, not after hours
            artifact = run(plan)
            _logger.info("finished %s", artifact.uri)
        sweep_leftovers(plan, artifact)
    except UserError as error:
        end(error)
    except RunStopped as stopped:
        sys.stderr.write(f"stopped: {stopped}\n")
        sys.exit(128 + signal.SIGTERM)
    except Exception as error:
        full = disk_full(error)
        if full is None:
            raise
        end(full)
    sys.stdout.write(f"{artifact.uri}\n")


def _parser(recipe_type: type[Recipe]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=f"Run a {recipe_type.model_fields['kind'].default} recipe.")
    parser.add_argument("recipe", help="<kind>/<name> below jobs/recipes, or the path of a YAML file")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="PATH=VALUE")
    parser.add_argument(
        "--root", default=None, help="artifact store: file:///folder or s3://bucket/prefix (or ARTIFACT_ROOT)"
    )
    parser.add_argument("--dry-run", action="store_true", help="print recipe, fingerprint and output URI, and stop")
    parser.add_argument(
        "--wait-for-inputs",
        type=float,
        default=0,
        metavar="SECONDS",
        help="wait for the store and for unfinished inputs",
    )
    parser.add_argument(
        "--retries", type=_count, default=0, metavar="N", help="start again after a failure other than a wrong input"
    )
    return parser


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number, 0 or more")
    return int(text)


def end(error: UserError) -> NoReturn:
    """Print the error that ends a job, and exit with its status."""
    sys.stderr.write(f"error: {error}\n")
    sys.exit(error.status)


def _commit() -> str:
    """The revision that the image was built from, or that was submitted."""
    return os.environ.get("CLINICAL_REVISION") or "unknown"


def open_root(root: str | None = None) -> Store:
    """Open the artifact store at ``root``, else at ``ARTIFACT_ROOT``, else in ``./artifacts``.

    A job submitted to Ray runs in a copy of the working directory that is deleted afterwards: there the root must be absolute.
    """
    address = root or os.environ.get("ARTIFACT_ROOT") or "artifacts"
    relative = not address.startswith(("s3://", "file:///", "/"))
    if relative and os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"):
        raise StoreError(
            f"artifact root {address!r} is relative, and a submitted job's working directory is deleted after it: "
            "give --root or ARTIFACT_ROOT as s3://bucket/prefix or file:///shared/folder"
        )
    return open_store(address)


def _show(plan: Plan[Recipe]) -> None:
    resolved = plan.recipe.model_dump(mode="json")
    sys.stdout.write(yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True))
    sys.stdout.write(f"# fingerprint: {plan.fingerprint}\n# output: {plan.uri}\n")
    for entry in plan.inputs:
        sys.stdout.write(f"# input: {entry.name} {entry.id} {entry.digest[:12]}\n")
    sys.stdout.write(f"# finished: {'yes' if plan.existing() else 'no'}\n")
