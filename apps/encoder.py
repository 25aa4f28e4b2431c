"""The encoder endpoint as a Ray Serve application.

    serve run apps.encoder:build model=demo root=file:///data/artifacts
    serve run apps.encoder:build recipe=serve/demo limits.max_texts=32

Every argument other than ``recipe``, ``root``, ``wait_for_model`` and ``num_nodes`` overrides a field of the recipe, with the
same dotted paths as ``--set``.
"""

import json

from clinical_modernbert.artifacts import wait_until_there
from clinical_modernbert.job import open_root
from clinical_modernbert.recipe import ServeRecipe, build_recipe, read_recipe
from clinical_modernbert.serving.app import build_application
from clinical_modernbert.serving.notice import put_up
from pydantic import BaseModel, ConfigDict, Field
from ray.serve import Application


class ServingArgs(BaseModel):
    """Arguments of ``serve run``, or ``args`` of a Serve config file."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)

    recipe: str | None = None
    """``serve/<name>`` below jobs/recipes, or the path of a YAML file; without it the schema's defaults apply and ``model=`` is
    required."""
    root: str | None = None
    """Artifact store, file:///folder or s3://bucket/prefix; by default ARTIFACT_ROOT."""
    wait_for_model: bool = False
    """Wait for a model that is not finished yet, as the chart sets it; otherwise an absent model is an error."""
    num_nodes: int | None = Field(default=None, ge=1)
    """Nodes that share the replicas, as the chart sets it: each takes its share at most. Without it replicas go where they
    fit."""


def build(args: ServingArgs) -> Application:
    """Return the application that ``args`` describe."""
    patience_s = float("inf") if args.wait_for_model else 0
    store = wait_until_there(lambda: open_root(args.root), patience_s=patience_s, on_wait=put_up)
    return build_application(store, recipe_of(args), wait_for_model=args.wait_for_model, num_nodes=args.num_nodes)


def recipe_of(args: ServingArgs) -> ServeRecipe:
    """Return the validated recipe of ``args`` with their overrides."""
    values = read_recipe(args.recipe) if args.recipe else {"kind": "serve", "name": "encoder"}
    extra = (args.model_extra or {}).items()
    overrides = [f"{path}={value if isinstance(value, str) else json.dumps(value)}" for path, value in extra]
    return build_recipe(ServeRecipe, values, overrides=overrides, origin=args.recipe or "apps.encoder:build")
