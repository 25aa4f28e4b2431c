"""What a platform team decides about Ray on its cluster: images, machines, store, limits.

The chart writes it into a ConfigMap, so that a submitted job gets the pods that the chart's own jobs get. Not covered: which
recipe runs on how many of these machines; that is the researcher's.
"""

from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError

from clinical_modernbert.errors import ClusterError
from clinical_modernbert.recipe.section import Section

Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$")]


class Node(Section):
    """One kind of pod: what it asks for and where it may run."""

    cpu: Quantity
    """CPUs, requested and limited."""
    memory: Quantity
    """Memory, requested and limited."""
    gpus: int = Field(default=0, ge=0)
    """GPUs; above 0 the pod runs ``gpu_image`` and tolerates ``nvidia.com/gpu``."""
    scratch: Quantity = "20Gi"
    """Size of each volume for temporary files, logs and caches."""
    node_selector: dict[str, str] = Field(default_factory=dict)
    """Labels of the nodes that may run it."""
    tolerations: tuple[dict[str, Any], ...] = ()
    """Taints that it tolerates."""
    env: dict[str, str] = Field(default_factory=dict)
    """Further environment variables."""
    resources: dict[str, int] = Field(default_factory=dict)
    """Further extended resources, such as ``rdma/ib``."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """Annotations of the pod."""
    priority_class: str | None = None
    """PriorityClass; the cluster's default where None."""
    runtime_class: str | None = None
    """RuntimeClass; the cluster's default where None."""
    ipc_lock: bool = False
    """Let the pod lock memory for RDMA, which Pod Security "restricted" forbids."""


class Submitter(Section):
    """The pod that calls ``ray job submit``."""

    cpu: Quantity = "500m"
    """CPUs, requested and limited."""
    memory: Quantity = "1Gi"
    """Memory, requested and limited."""
    backoff_limit: int = Field(default=2, ge=0)
    """Times the submission is tried again."""


class StoreSecrets(Section):
    """The Secret with the store's keys for each role: what its keys may do is the store's to enforce."""

    reader: str = Field(min_length=1)
    """For the explorer and the endpoint, which only read artifacts."""
    trainer: str = Field(min_length=1)
    """For pretraining, sweeps and evaluation, which also write models and keep checkpoints."""
    publisher: str = Field(min_length=1)
    """For all other jobs."""


class ObjectStore(Section):
    """The S3 service that holds the artifacts; keys stay in their Secrets."""

    root: str = Field(pattern=r"^s3://[^/]+")
    """Root of the artifact store."""
    endpoint: str = Field(pattern=r"^https?://.+")
    """URL of the S3 service."""
    region: str = "us-east-1"
    """Region that requests are signed for."""
    secrets: StoreSecrets
    access_key_id_key: str = "AWS_ACCESS_KEY_ID"
    """Key of the Secret that holds the access key id."""
    secret_access_key_key: str = "AWS_SECRET_ACCESS_KEY"
    """Key of the Secret that holds the secret access key."""
    ca_config_map: str | None = None
    """ConfigMap with the store's certificate authority under ``ca.crt``; the image's own authorities where None."""


class Security(Section):
    """User and groups of every process; None leaves the choice to the platform."""

    run_as_user: int | None = Field(default=1000, ge=1)
    """User id."""
    run_as_group: int | None = Field(default=1000, ge=1)
    """Group id."""
    fs_group: int | None = Field(default=1000, ge=1)
    """Group that owns the writable volumes."""


class Limits(Section):
    """How long a job may take and what is kept of it."""

    backoff_limit: int = Field(default=2, ge=0)
    """New clusters after a failure; each goes on from the last checkpoint."""
    active_deadline_s: int = Field(default=1_209_600, ge=1)
    """Seconds after which a job that still runs is ended."""
    pre_running_deadline_s: int = Field(default=7200, ge=1)
    """Seconds a job may wait to run."""
    keep_failed_s: int = Field(default=3600, ge=0)
    """Seconds the head of a failed job is kept for its logs."""
    keep_succeeded_s: int = Field(default=300, ge=0)
    """Seconds the cluster of a finished job is kept."""
    queue: str | None = None
    """Kueue's LocalQueue that admits the job; None asks no queue."""
    queue_priority: str | None = None
    """Kueue's WorkloadPriorityClass."""


class Shape(Section):
    """All of it."""

    image: str
    """Image of pods without a GPU."""
    gpu_image: str
    """Image of worker groups with GPUs."""
    image_pull_policy: str = "IfNotPresent"
    """When the kubelet pulls either image."""
    image_pull_secrets: tuple[str, ...] = ()
    """Secrets with registry credentials."""
    ray_version: str = Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$")
    """Ray's version in the images."""
    auth_secret: str | None = None
    """Secret with Ray's token under ``auth_token``; KubeRay makes one where None."""
    service_account: str
    """ServiceAccount of all pods."""
    hub_offline: bool = True
    """Keep Hugging Face libraries from calling the hub."""
    hub_cache: bool = False
    """Fill each Ray pod's Hugging Face cache from the store before Ray starts."""
    security: Security = Security()
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels of every pod."""
    object_store: ObjectStore
    head: Node
    submitter: Submitter = Submitter()
    worker_groups: dict[str, Node]
    """Machines for workers, by name."""
    limits: Limits = Limits()


def parse_shape(text: str, *, origin: str) -> Shape:
    """Return the shape written in YAML; ``origin`` is named in the ``ClusterError`` of one that is not valid."""
    try:
        return Shape.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise ClusterError(f"{origin} is not valid YAML: {error}") from None
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors(include_url=False)]
        raise ClusterError(f"{origin} does not describe a cluster:\n  " + "\n  ".join(lines)) from None
