"""Jobs on Kubernetes: fill the chart's RayJob skeleton, submit the job, follow it to its end; checks of an installation."""
