"""Send RayJobs to Kubernetes and read their state: the only module that calls the ``kubernetes`` client.

It reads and writes ``ray.io/v1`` objects and reads why pods wait. It does not schedule or clean up: KubeRay does. Errors of
the API become ``ClusterError`` with the server's reason and without request headers; those that can pass by themselves become
``UnavailableError``, and an absent object is an ``AbsentError``.
"""

import base64
import json
import os
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection

import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import portforward
from urllib3.exceptions import HTTPError

from clinical_modernbert.cluster.kuberay_rules import KubernetesObject
from clinical_modernbert.cluster.pod_reasons import why_waiting
from clinical_modernbert.cluster.skeleton import QUEUE_LABEL, skeleton_for
from clinical_modernbert.errors import AbsentError, ClusterError, LoginError, UnavailableError

_GROUP, _VERSION, _PLURAL = "ray.io", "v1", "rayjobs"
_PLURALS = {"RayCluster": "rayclusters", "RayService": "rayservices"}
_KUEUE = "kueue.x-k8s.io"
_TIMEOUT_S = 30
_ERRORS: dict[int | None, type[ClusterError]] = {
    HTTPStatus.UNAUTHORIZED: LoginError,
    HTTPStatus.NOT_FOUND: AbsentError,
    **dict.fromkeys((429, 500, 502, 503, 504), UnavailableError),
}
_ENDED = frozenset({"Complete", "Failed", "ValidationFailed"})
# What Kubernetes appends to the name of a pod that has only a prefix.
_RANDOM = r"[bcdfghjklmnpqrstvwxz2456789]{5}\b"
_EXIT_CODE = re.compile(r"failed with exit code (\d+)")


@dataclass(frozen=True, slots=True)
class JobState:
    """The status of a RayJob: ``deployment`` is the state of its cluster, ``job`` the state of the command on it."""

    name: str
    deployment: str
    job: str
    cluster: str
    reason: str
    message: str
    failed_attempts: int
    queue: str
    """Kueue's queue, or an empty text."""
    uid: str

    @property
    def exit_code(self) -> int | None:
        """The exit code of a command that failed, None while it is not known."""
        found = _EXIT_CODE.search(self.message)
        return int(found.group(1)) if found else None

    @property
    def ended(self) -> bool:
        return self.deployment in _ENDED

    @property
    def started(self) -> bool:
        """Whether the command runs or has run; a cluster can be there before."""
        return self.ended or self.job not in ("", "PENDING")

    @property
    def succeeded(self) -> bool:
        return self.deployment == "Complete" and self.job == "SUCCEEDED"


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a Ray cluster that runs: its pod, and the Secret and key of Ray's token."""

    pod: str
    secret: str
    key: str


class Cluster:
    """One namespace of a Kubernetes cluster."""

    def __init__(self, api_client: client.ApiClient, *, namespace: str) -> None:
        self._objects = client.CustomObjectsApi(api_client)
        self._core = client.CoreV1Api(api_client)
        self._address = api_client.configuration.host
        self.namespace = namespace

    @classmethod
    def connect(cls, *, namespace: str, context: str | None = None) -> "Cluster":
        """Connect as kubectl would: by ``context`` of the kubeconfig, or in a pod without one as its service account."""
        settings = client.Configuration()
        settings.retries = 2
        kubeconfig = os.environ.get("KUBECONFIG")
        inside_a_pod = "KUBERNETES_SERVICE_HOST" in os.environ and not kubeconfig and not context
        try:
            if inside_a_pod:
                config.load_incluster_config(client_configuration=settings)
            else:
                config.load_kube_config(config_file=kubeconfig, context=context, client_configuration=settings)
        except (config.ConfigException, yaml.YAMLError) as error:
            raise UnavailableError(
                f"cannot connect to a cluster by {kubeconfig or '~/.kube/config'}: {error}; set KUBECONFIG or another --context"
            ) from None
        return cls(client.ApiClient(settings), namespace=namespace)

    def read_skeleton(self, release: str, kind: str) -> KubernetesObject:
        """Return the RayJob skeleton for jobs of ``kind`` that the chart's release ``release`` (its full name) publishes."""
        name = f"{release}-rayjob"
        with self._explained(f"reading ConfigMap {name}"):
            config_map = self._core.read_namespaced_config_map(name, self.namespace, _request_timeout=_TIMEOUT_S)
        return skeleton_for(kind, config_map.data or {}, origin=f"ConfigMap {self.namespace}/{name}")

    def read(self, kind: str, name: str) -> KubernetesObject:
        """Return a RayCluster or RayService."""
        with self._explained(f"reading {kind} {name}"):
            live: KubernetesObject = self._objects.get_namespaced_custom_object(
                _GROUP, _VERSION, self.namespace, _PLURALS[kind], name, _request_timeout=_TIMEOUT_S
            )
        return live

    def submit(self, job: KubernetesObject) -> str:
        """Create a RayJob and return its name; raises ``ClusterError`` if the name is taken."""
        name: str = job["metadata"]["name"]
        with self._explained(f"creating RayJob {name}"):
            self._objects.create_namespaced_custom_object(
                _GROUP, _VERSION, self.namespace, _PLURAL, job, field_validation="Strict", _request_timeout=_TIMEOUT_S
            )
        return name

    def state(self, name: str) -> JobState:
        """Return the state of a RayJob."""
        with self._explained(f"reading RayJob {name}"):
            job = self._objects.get_namespaced_custom_object(
                _GROUP, _VERSION, self.namespace, _PLURAL, name, _request_timeout=_TIMEOUT_S
            )
        status = job.get("status") or {}
        return JobState(
            name=name,
            deployment=status.get("jobDeploymentStatus") or "New",
            job=status.get("jobStatus") or "",
            cluster=status.get("rayClusterName") or "",
            reason=status.get("reason") or "",
            message=status.get("message") or "",
            failed_attempts=status.get("failed") or 0,
            queue=(job["metadata"].get("labels") or {}).get(QUEUE_LABEL, ""),
            uid=job["metadata"]["uid"],
        )

    def not_admitted(self, uid: str) -> str:
        """Return why Kueue keeps the job with this uid in its queue; an empty text if it is not known, or not for this user."""
        selector = f"{_KUEUE}/job-uid={uid}"
        with self._explained("listing the workloads of Kueue"):
            try:
                workloads = self._objects.list_namespaced_custom_object(
                    _KUEUE, "v1beta2", self.namespace, "workloads", label_selector=selector, _request_timeout=_TIMEOUT_S
                )
            except ApiException as error:
                if error.status in (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND):
                    return ""
                raise
        conditions = [c for item in workloads["items"] for c in item.get("status", {}).get("conditions", ())]
        return next((c["message"] for c in conditions if (c["type"], c["status"]) == ("QuotaReserved", "False")), "")

    def waiting(self, selector: str) -> dict[str, str]:
        """Return ``pod -> why it waits`` for the pods with the labels of ``selector`` that do not start."""
        with self._explained(f"listing the pods with {selector}"):
            pods = self._core.list_namespaced_pod(self.namespace, label_selector=selector, _request_timeout=_TIMEOUT_S)
        reasons = {pod.metadata.name: why_waiting(pod) for pod in pods.items}
        if any(pod.status.phase == "Pending" and not reasons[pod.metadata.name] for pod in pods.items):
            failures = self._pod_failures()
            reasons = {name: reason or failures.get(name, "") for name, reason in reasons.items()}
        return {name: reason for name, reason in reasons.items() if reason}

    def _pod_failures(self) -> dict[str, str]:
        """Return ``pod -> latest failure`` of what comes before its containers, such as its volumes and its network."""
        with self._explained("listing the events of pods"):
            events = self._core.list_namespaced_event(
                self.namespace, field_selector="involvedObject.kind=Pod,type=Warning", _request_timeout=_TIMEOUT_S
            )
        failures = [event for event in events.items if (event.reason or "").startswith("Failed")]
        return {event.involved_object.name: f"{event.reason}: {event.message}" for event in failures}

    def warnings(self, name: str) -> list[str]:
        """Return the latest warning of each reason about an object of this name, such as a quota that refuses its pods.

        KubeRay tries again with a new name of the pod each time, so the random end of a pod's name is left out.
        """
        with self._explained(f"listing the events of {name}"):
            events = self._core.list_namespaced_event(
                self.namespace, field_selector=f"involvedObject.name={name}", _request_timeout=_TIMEOUT_S
            )
        random_name = re.compile(rf"({re.escape(name)}[a-z0-9-]*)-{_RANDOM}")
        warnings = {e.reason: random_name.sub(r"\1", e.message or "") for e in events.items if e.type == "Warning"}
        return [f"{reason}: {message}" for reason, message in warnings.items()]

    def submitters(self, name: str) -> list[str]:
        """Return the submitter pods of a RayJob that have started: their logs contain the output of the job."""
        with self._explained(f"listing the submitters of {name}"):
            pods = self._core.list_namespaced_pod(
                self.namespace, label_selector=f"job-name={name}", _request_timeout=_TIMEOUT_S
            )
        return [pod.metadata.name for pod in pods.items if pod.status.phase in ("Running", "Succeeded", "Failed")]

    def research_head(self, release: str) -> Head | None:
        """Return the head of the research cluster of the chart's release ``release`` (its full name), None if none is ready."""
        selector = f"ray.io/cluster={release}-research,ray.io/node-type=head"
        with self._explained(f"listing the pods with {selector}"):
            pods = self._core.list_namespaced_pod(self.namespace, label_selector=selector, _request_timeout=_TIMEOUT_S)
        for pod in pods.items:
            ready = any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or [])
            for variable in pod.spec.containers[0].env or []:
                if ready and variable.name == "RAY_AUTH_TOKEN" and variable.value_from:
                    reference = variable.value_from.secret_key_ref
                    return Head(pod.metadata.name, reference.name, reference.key)
        return None

    def secret_value(self, name: str, key: str) -> str:
        """Return one value of a Secret."""
        with self._explained(f"reading Secret {name}"):
            secret = self._core.read_namespaced_secret(name, self.namespace, _request_timeout=_TIMEOUT_S)
        return base64.b64decode(secret.data[key]).decode()

    def http(self, pod: str, port: int) -> HTTPConnection:
        """Return a connection to a port of a pod, forwarded by the API server."""
        with self._explained(f"forwarding port {port} of {pod}"):
            forward = portforward(
                self._core.connect_get_namespaced_pod_portforward, pod, self.namespace, ports=str(port)
            )
        connection = HTTPConnection(pod, port, timeout=_TIMEOUT_S)
        connection.sock = forward.socket(port)
        connection.sock.settimeout(_TIMEOUT_S)
        return connection

    def log(self, pod: str) -> Iterator[str]:
        """Yield the lines of a pod's log until it ends or the connection is lost."""
        with self._explained(f"reading the log of {pod}"):
            answer = self._core.read_namespaced_pod_log(pod, self.namespace, follow=True, _preload_content=False)
        unfinished = b""
        with closing(answer), self._explained(f"reading the log of {pod}"):
            for chunk in answer.stream():
                *lines, unfinished = (unfinished + chunk).split(b"\n")
                yield from (f"{line.decode(errors='replace')}\n" for line in lines)
        if unfinished:
            yield f"{unfinished.decode(errors='replace')}\n"

    def last_line(self, pod: str) -> str:
        """Return the last line of a pod's log so far."""
        with self._explained(f"reading the log of {pod}"):
            answer = self._core.read_namespaced_pod_log(
                pod, self.namespace, tail_lines=1, _preload_content=False, _request_timeout=_TIMEOUT_S
            )
        return str(answer.data.decode(errors="replace")).strip()

    def delete(self, name: str) -> None:
        """Delete a RayJob with its cluster and its pods."""
        with self._explained(f"deleting RayJob {name}"):
            self._objects.delete_namespaced_custom_object(
                _GROUP, _VERSION, self.namespace, _PLURAL, name, _request_timeout=_TIMEOUT_S
            )

    @contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        try:
            yield
        except ApiException as error:
            kind = _ERRORS.get(error.status, ClusterError)
            raise kind(f"{doing} in namespace {self.namespace}: {_reason(error)}") from None
        except HTTPError as error:
            raise UnavailableError(f"{doing}: {self._address} does not answer ({type(error).__name__})") from None


def _reason(error: ApiException) -> str:
    try:
        message = json.loads(error.body or "")["message"]
    except (ValueError, KeyError, TypeError):
        message = error.reason
    hints = {
        401: "log in to the cluster again",
        403: "check --release and --namespace, or ask your platform team to add you to rbac.submitters of the chart",
        404: "check the name and --namespace; for a RayJob, check that the KubeRay operator 1.7 is installed",
        409: "choose another --name, or delete the RayJob first",
    }
    hint = (
        "wait until other pods end, or request more quota"
        if "exceeded quota" in message
        else hints.get(error.status or 0)
    )
    return f"{error.status} {message}" + (f" ({hint})" if hint else "")
