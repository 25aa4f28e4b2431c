"""The command line of ``jobs/check_install.py``: all checks of a running release, each with one line.

A check that fails does not stop the others. The exit code is 1 if one failed.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import yaml

from clinical_modernbert.cluster.checks import check_endpoint, check_explorer, check_model, check_store, check_token
from clinical_modernbert.cluster.client import Cluster
from clinical_modernbert.cluster.drift import differences
from clinical_modernbert.cluster.kuberay_rules import KubernetesObject
from clinical_modernbert.errors import ClusterError, UserError
from clinical_modernbert.job import open_root
from clinical_modernbert.recipe import read_recipe

Check = Callable[[], str]

_MOST_DIFFERENCES = 5


def main(arguments: list[str] | None = None) -> None:
    """Check what the command line names and exit."""
    results = [_passes(check) for check in _checks(_parser().parse_args(arguments))]
    sys.exit(0 if all(results) else 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Check a running release; `helm test` runs this inside the cluster.")
    parser.add_argument("--root", help="artifact store, a folder or s3://bucket/prefix (or ARTIFACT_ROOT)")
    parser.add_argument("--research", help="URL of the research cluster's Ray dashboard; RAY_AUTH_TOKEN has its token")
    parser.add_argument("--endpoint", help="URL of the endpoint; ENDPOINT_KEY has an API key of it")
    parser.add_argument("--model", help="model that the endpoint must serve, a reference into the store")
    parser.add_argument("--recipe", help="recipe of the endpoint, which names the model if --model does not")
    parser.add_argument("--explorer", help="URL of the explorer")
    parser.add_argument(
        "--manifests", type=Path, help="file with the release's Ray objects, to compare with the live ones"
    )
    return parser


def _checks(options: argparse.Namespace) -> Iterator[Check]:
    model = options.model or (read_recipe(options.recipe).get("model") if options.recipe else None)
    yield lambda: check_store(open_root(options.root))
    if options.manifests:
        for manifest in yaml.safe_load_all(options.manifests.read_text(encoding="utf-8")):
            yield partial(check_manifest, manifest)
    if options.research:
        yield lambda: check_token(options.research, os.environ.get("RAY_AUTH_TOKEN"))
    if model:
        yield lambda: check_model(open_root(options.root), model)
    if options.endpoint:
        yield lambda: check_endpoint(options.endpoint, model=model, key=os.environ.get("ENDPOINT_KEY"))
    if options.explorer:
        yield lambda: check_explorer(options.explorer)


def check_manifest(manifest: KubernetesObject) -> str:
    """Check that the live object is the one that the release says it installed."""
    kind, metadata = manifest["kind"], manifest["metadata"]
    live = Cluster.connect(namespace=metadata["namespace"]).read(kind, metadata["name"])
    found = differences(manifest, live)
    if found:
        more = f"; {len(found) - _MOST_DIFFERENCES} more" if len(found) > _MOST_DIFFERENCES else ""
        raise ClusterError(
            f"{kind} {metadata['name']} is not what the release installed: {'; '.join(found[:_MOST_DIFFERENCES])}{more}. It was "
            "changed by hand, or an upgrade followed a failed one: docs/platform-team.md, Upgrade and roll back"
        )
    return f"{kind} {metadata['name']}: as the release installed it"


def _passes(check: Check) -> bool:
    try:
        sys.stdout.write(f"{check()}\n")
    except UserError as error:
        sys.stdout.write(f"error: {error}\n")
        return False
    return True
