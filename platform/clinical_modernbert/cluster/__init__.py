"""Ray on Kubernetes: build RayJob and RayService objects, submit one, follow it to its end."""

from clinical_modernbert.cluster.client import Cluster
from clinical_modernbert.cluster.objects import ray_job, ray_service
from clinical_modernbert.cluster.settings import Shape, parse_shape

__all__ = ["Cluster", "Shape", "parse_shape", "ray_job", "ray_service"]
