{{/* The RayCluster and the RayService of the release. They are rendered twice: as objects, and into the ConfigMap that `helm test`
     compares the live objects with. */}}

{{- define "cm.researchObject" -}}
apiVersion: ray.io/v1
kind: RayCluster
metadata:
  name: {{ include "cm.researchName" . }}
  namespace: {{ .Release.Namespace }}
  labels: {{- include "cm.labels" (dict "root" . "component" "research") | nindent 4 }}
    {{- with include "cm.queueLabels" .Values.research }}{{ . | nindent 4 }}{{ end }}
spec:
  upgradeStrategy:
    type: {{ .Values.research.upgradeStrategy }}
  {{- include "cm.researchSpec" . | nindent 2 }}
{{- end -}}

{{- define "cm.endpointObject" -}}
{{- $arguments := deepCopy .Values.endpoint.overrides }}
{{- range $field, $instead := dict "root" "set objectStore.root" "recipe" "set endpoint.recipe" "model" "set endpoint.model" "require_keys" "set endpoint.apiKeys.existingSecret" "wait_for_model" "the endpoint always waits" "num_nodes" "set endpoint.workers" }}
{{- if hasKey $arguments $field }}
{{- fail (printf "\n\nendpoint.overrides.%s is set by the chart: %s\n" $field $instead) }}
{{- end }}
{{- end }}
{{- with .Values.endpoint.recipe }}{{ $_ := set $arguments "recipe" . }}{{ end }}
{{- with .Values.endpoint.model }}{{ $_ := set $arguments "model" . }}{{ end }}
{{- if .Values.endpoint.apiKeys.existingSecret }}{{ $_ := set $arguments "require_keys" true }}{{ end }}
{{- if not (or .Values.endpoint.recipe .Values.endpoint.model) }}
{{- fail "\n\nendpoint.model is required if endpoint.enabled without a recipe: name a model of the artifact store\n" }}
{{- end }}
{{- /* An error of the build would be final: KubeRay does not send an unchanged configuration again. */}}
{{- $_ := set $arguments "wait_for_model" true }}
{{- $pods := include "cm.endpointPods" . | int }}
{{- /* Without a limit the replica of a lost worker starts next to another, and the worker that replaces the lost one has none. */}}
{{- $_ := set $arguments "num_nodes" $pods }}
{{- /* A worker without a replica never becomes ready, and a drain of the other worker is then refused. */}}
{{- if not (or (hasKey $arguments "scaling.num_replicas") (hasKey $arguments "scaling.max_replicas")) }}
{{- $_ := set $arguments "scaling.num_replicas" $pods }}
{{- else if and (hasKey $arguments "scaling.num_replicas") (not (hasKey $arguments "scaling.max_replicas")) (lt (int (get $arguments "scaling.num_replicas")) (int $pods)) }}
{{- fail (printf "\n\nendpoint.workers are %d pods, and scaling.num_replicas is %v: a worker without a replica never becomes ready; use as many replicas as workers or more\n" (int $pods) (get $arguments "scaling.num_replicas")) }}
{{- end }}
{{- $scales := not (empty (include "cm.endpointScales" .)) }}
apiVersion: ray.io/v1
kind: RayService
metadata:
  name: {{ include "cm.endpointName" . }}
  namespace: {{ .Release.Namespace }}
  labels: {{- include "cm.labels" (dict "root" . "component" "endpoint") | nindent 4 }}
    {{- with include "cm.queueLabels" .Values.endpoint }}{{ . | nindent 4 }}{{ end }}
spec:
  upgradeStrategy:
    type: {{ .Values.endpoint.upgradeStrategy }}
    {{- if $scales }}
    clusterUpgradeOptions:
      {{- with .Values.endpoint.incrementalUpgrade }}
      gatewayClassName: {{ required "\n\nendpoint.incrementalUpgrade.gatewayClassName is required for NewClusterWithIncrementalUpgrade\n" .gatewayClassName }}
      stepSizePercent: {{ .stepSizePercent }}
      intervalSeconds: {{ .intervalSeconds }}
      maxSurgePercent: {{ .maxSurgePercent }}
      {{- end }}
    {{- end }}
  rayClusterDeletionDelaySeconds: {{ .Values.endpoint.deletionDelaySeconds }}
  excludeHeadPodFromServeSvc: true
  serveConfigV2: |
    proxy_location: EveryNode
    http_options:
      host: 0.0.0.0
      port: 8000
    applications:
      - name: encoder
        route_prefix: /
        import_path: apps.encoder:build
        args: {{ set $arguments "root" .Values.objectStore.root | toJson }}
  rayClusterConfig: {{- include "cm.endpointSpec" . | nindent 4 }}
{{- end -}}
