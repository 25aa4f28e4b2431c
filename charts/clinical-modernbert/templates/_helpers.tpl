{{/* Names and labels: every object takes them from here. */}}

{{- define "cm.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 35 | trimSuffix "-" -}}
{{- end -}}

{{- define "cm.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains (include "cm.name" .) .Release.Name -}}
{{- .Release.Name -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "cm.name" .) -}}
{{- end -}}
{{- end -}}

{{/* Name of a Ray object: {root, suffix, limit}. KubeRay appends to it, so a name that is too long is refused, never cut. */}}
{{- define "cm.rayName" -}}
{{- $name := printf "%s-%s" (include "cm.fullname" .root) .suffix -}}
{{- if gt (len $name) (int .limit) -}}
{{- fail (printf "\n\n%q has %d characters, and %d are allowed, since KubeRay appends to it: set fullnameOverride, or shorten %q\n" $name (len $name) (int .limit) .suffix) -}}
{{- end -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) -}}
{{- fail (printf "\n\n%q must start with a letter and hold lower-case letters, digits and inner dashes: set fullnameOverride\n" $name) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{/* KubeRay allows 53 characters, and cuts the name of the Secret with the token at 50. */}}
{{- define "cm.researchName" -}}
{{- include "cm.rayName" (dict "root" . "suffix" "research" "limit" 50) -}}
{{- end -}}

{{- define "cm.endpointName" -}}
{{- include "cm.rayName" (dict "root" . "suffix" "encoder" "limit" 47) -}}
{{- end -}}

{{/* Name of a job: {root, job}. */}}
{{- define "cm.jobName" -}}
{{- include "cm.rayName" (dict "root" .root "suffix" .job "limit" 47) -}}
{{- end -}}

{{- define "cm.explorerName" -}}
{{- printf "%s-explorer" (include "cm.fullname" .) -}}
{{- end -}}

{{- define "cm.shapeName" -}}
{{- printf "%s-shape" (include "cm.fullname" .) -}}
{{- end -}}

{{- define "cm.serviceAccountName" -}}
{{- default (include "cm.fullname" .) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "cm.headServiceAccountName" -}}
{{- default (printf "%s-head" (include "cm.fullname" .)) .Values.serviceAccount.headName -}}
{{- end -}}

{{/* Labels that stay the same from version to version: {root, component}. Pods carry these alone, so that an upgrade of
     nothing but the chart does not replace them. */}}
{{- define "cm.podLabels" -}}
app.kubernetes.io/name: {{ include "cm.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "cm.labels" -}}
{{ include "cm.podLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Image reference: {root, image} with the values of image or gpuImage. */}}
{{- define "cm.imageReference" -}}
{{- $repository := .image.repository -}}
{{- with .root.Values.image.registry }}{{ $repository = printf "%s/%s" (trimSuffix "/" .) $repository }}{{ end -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .root.Chart.AppVersion .image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "cm.image" -}}
{{- include "cm.imageReference" (dict "root" . "image" .Values.image) -}}
{{- end -}}

{{- define "cm.gpuImage" -}}
{{- include "cm.imageReference" (dict "root" . "image" .Values.gpuImage) -}}
{{- end -}}

{{/* Worker group by name: {root, group, where}. */}}
{{- define "cm.workerGroup" -}}
{{- $groups := .root.Values.workerGroups -}}
{{- if not (hasKey $groups .group) -}}
{{- fail (printf "\n\n%s names the worker group %q; workerGroups has: %s\n" .where .group (keys $groups | sortAlpha | join ", ")) -}}
{{- end -}}
{{- get $groups .group | toYaml -}}
{{- end -}}

{{/* What must be set before anything is rendered: the store, and KubeRay's API for each kind in use. */}}
{{- define "cm.check" -}}
{{- $store := .Values.objectStore -}}
{{- if not $store.root }}{{ fail "\n\nobjectStore.root is required: set it to s3://bucket/prefix\n" }}{{ end -}}
{{- if not $store.endpoint }}{{ fail "\n\nobjectStore.endpoint is required: set it to the URL of your S3 service\n" }}{{ end -}}
{{- if not $store.existingSecret }}{{ fail "\n\nobjectStore.existingSecret is required: name a Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY\n" }}{{ end -}}
{{- if .Values.operatorCheck -}}
{{- $needed := list -}}
{{- if .Values.research.enabled }}{{ $needed = append $needed "RayCluster" }}{{ end -}}
{{- if .Values.jobs }}{{ $needed = append $needed "RayJob" }}{{ end -}}
{{- if .Values.endpoint.enabled }}{{ $needed = append $needed "RayService" }}{{ end -}}
{{- range $needed -}}
{{- if not ($.Capabilities.APIVersions.Has (printf "ray.io/v1/%s" .)) -}}
{{- fail (printf "\n\nThis cluster does not serve ray.io/v1 %s: install the KubeRay operator 1.7 first:\n  helm repo add kuberay https://ray-project.github.io/kuberay-helm/\n  helm install kuberay-operator kuberay/kuberay-operator --version 1.7.0 --namespace kuberay --create-namespace\nTo render without a cluster (helm template, GitOps), set operatorCheck=false.\n" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
