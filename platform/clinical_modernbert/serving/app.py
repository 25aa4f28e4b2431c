"""The Ray Serve deployment: replicas, reserved CPUs and Ray's back-pressure. Besides it only ``proxy`` and ``notice`` know Ray.

Serve routes requests and manages replicas; each replica has its own queue and batches (``scheduler``). Serve forwards requests
until a replica reaches its limit. The rest wait in Serve's proxy or are rejected there, which is cheaper than rejecting them in
a replica (docs/results/serving.md).
"""

import logging
import math
from functools import partial

from fastapi import FastAPI
from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, BackpressureConfig
from ray.serve.metrics import Counter, Gauge, Histogram

from clinical_modernbert.artifacts import Store, resolve, wait_until_there
from clinical_modernbert.recipe import ServeRecipe
from clinical_modernbert.recipe.serve import ServeScaling
from clinical_modernbert.serving.api import build_api
from clinical_modernbert.serving.engine import load_engine
from clinical_modernbert.serving.free_memory import FreeMemory
from clinical_modernbert.serving.gate import audit_logger
from clinical_modernbert.serving.key_ring import KeyRing
from clinical_modernbert.serving.metrics import METRICS, PROXY_REFUSALS, Record
from clinical_modernbert.serving.models import ServedModels
from clinical_modernbert.serving.notice import put_up
from clinical_modernbert.serving.tracing import Trace, no_trace, open_tracer

# Requests that may wait in the proxy, as a share of those that a replica may hold: enough for a burst of clients.
_PROXY_QUEUE_SHARE = 0.5


@serve.ingress()
class EncoderReplica:
    """One replica. Serve sends requests once the constructor returns; by then each model is loaded and warm."""

    def __init__(self, root: str, recipe: ServeRecipe) -> None:
        self._keys = KeyRing.from_environment(required=recipe.require_keys)
        engines = [load_engine(root, one).warm_up() for one in recipe.each_model()]
        trace: Trace = no_trace
        if recipe.tracing.enabled:
            ids = ", ".join(engine.model_id for engine in engines)
            trace = open_tracer(model_id=ids, fraction=recipe.tracing.fraction)
        self._models = ServedModels.of_engines(engines, record=ray_record(), trace=trace)
        self._free_memory = FreeMemory()
        # Serve's workers log warnings only; audit lines go to the worker's stderr log, one for each request.
        if not audit_logger.handlers:
            audit_logger.addHandler(logging.StreamHandler())
            audit_logger.setLevel(logging.INFO)
            audit_logger.propagate = False

    def __serve_build_asgi_app__(self) -> FastAPI:
        return build_api(*self._models.services, keys=self._keys)

    def check_health(self) -> None:
        """Raise an error if a thread is stuck: Serve then replaces the replica."""
        self._models.check_threads()

    def __del__(self) -> None:
        if hasattr(self, "_models"):
            self._models.close()
        if hasattr(self, "_free_memory"):
            self._free_memory.close()


def build_application(
    store: Store, recipe: ServeRecipe, *, wait_for_model: bool = False, num_nodes: int | None = None
) -> Application:
    """Return the Serve application of a recipe; references are resolved once, so that all replicas serve the same models.

    With ``wait_for_model`` an absent model is waited for, and a notice on each node names it. Meanwhile Serve keeps the
    application that it had, and a new one stays ``DEPLOYING``; an error instead would be final, because KubeRay does not send an
    unchanged configuration again. ``num_nodes`` is how many nodes share the replicas: each takes its share at most, so that none
    stays without, such as the one that replaces a lost node.
    """
    patience_s = float("inf") if wait_for_model else 0
    resolved = [
        wait_until_there(partial(resolve, store, "model", one.model), patience_s=patience_s, on_wait=put_up)
        for one in recipe.each_model()
    ]
    pinned = recipe.pinned([artifact.manifest.id for artifact in resolved])
    scaling, limits = recipe.scaling, recipe.limits
    deployment = serve.deployment(
        EncoderReplica,
        name="encoder",
        max_ongoing_requests=limits.max_requests,
        max_queued_requests=max(int(limits.max_requests * _PROXY_QUEUE_SHARE), 8),
        graceful_shutdown_timeout_s=limits.body_timeout_s + limits.request_timeout_s,
        backpressure_config=BackpressureConfig(status_code=429, retry_after_s=1),
        max_replicas_per_node=replicas_per_node(scaling, num_nodes=num_nodes),
        ray_actor_options={
            "num_cpus": scaling.cpus_per_replica,
            # Maths libraries read it when the process loads them; torch.set_num_threads would affect one thread only.
            "runtime_env": {"env_vars": {"OMP_NUM_THREADS": str(scaling.num_threads)}},
        },
    )
    config = autoscaling(scaling)
    if config is None:
        deployment = deployment.options(num_replicas=scaling.num_replicas)
    else:
        deployment = deployment.options(autoscaling_config=config)
    return deployment.bind(store.uri, pinned)


def replicas_per_node(scaling: ServeScaling, *, num_nodes: int | None) -> int | None:
    """Return how many replicas one of ``num_nodes`` nodes may have, None for as many as fit: also on a single node, where a new
    replica may then start before the old one has ended."""
    if num_nodes is None or num_nodes == 1:
        return None
    return math.ceil((scaling.max_replicas or scaling.num_replicas) / num_nodes)


def autoscaling(scaling: ServeScaling) -> AutoscalingConfig | None:
    """Return how Serve adds and removes replicas, None if their number is fixed."""
    if scaling.max_replicas is None:
        return None
    return AutoscalingConfig(
        min_replicas=scaling.num_replicas,
        initial_replicas=scaling.num_replicas,
        max_replicas=scaling.max_replicas,
        # A replica accepts requests at once and queues their texts itself, so its ongoing requests include the queue.
        target_ongoing_requests=scaling.target_requests,
        upscale_delay_s=scaling.upscale_delay_s,
        downscale_delay_s=scaling.downscale_delay_s,
    )


def ray_record() -> Record:
    """Return a recorder into Ray's metrics, for use inside a replica."""
    metrics = [metric for metric in METRICS if metric is not PROXY_REFUSALS]
    counters = {m.name: Counter(m.name, m.description, m.tags) for m in metrics if m.kind == "counter"}
    gauges = {m.name: Gauge(m.name, m.description, m.tags) for m in metrics if m.kind == "gauge"}
    histograms = {
        m.name: Histogram(m.name, m.description, list(m.buckets), m.tags) for m in metrics if m.kind == "histogram"
    }

    def record(name: str, value: float, tags: dict[str, str]) -> None:
        if name in counters:
            counters[name].inc(value, tags)
        elif name in gauges:
            gauges[name].set(value, tags)
        else:
            histograms[name].observe(value, tags)

    return record
