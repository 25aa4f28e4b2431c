{{/* Parts of NetworkPolicies: selected pods, peers and ports. */}}

{{/* First fields of a policy: {root, name}. */}}
{{- define "cm.policy" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "cm.fullname" .root }}-{{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "cm.labels" (dict "root" .root "component" "network") | nindent 4 }}
{{- end -}}

{{/* Labels of every pod of the release. */}}
{{- define "cm.releaseLabels" -}}
app.kubernetes.io/part-of: {{ include "cm.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Selector of the pods of one of several components: {root, components}. */}}
{{- define "cm.componentSelector" -}}
matchLabels: {{- include "cm.releaseLabels" .root | nindent 2 }}
matchExpressions:
  - key: app.kubernetes.io/component
    operator: In
    values: {{ .components | toJson }}
{{- end -}}

{{/* Labels of the pods of the Gateway that KubeRay creates for an incremental upgrade: the Gateway API gives them to pods in its namespace. */}}
{{- define "cm.gatewaySelector" -}}
matchLabels:
  gateway.networking.k8s.io/gateway-name: {{ include "cm.endpointName" . }}-gateway
{{- end -}}

{{/* Peers: every pod of the listed namespaces. */}}
{{- define "cm.namespacePeers" -}}
{{- $peers := list -}}
{{- range . -}}
{{- $peers = append $peers (dict "namespaceSelector" (dict "matchLabels" (dict "kubernetes.io/metadata.name" .))) -}}
{{- end -}}
{{- toYaml $peers -}}
{{- end -}}

{{/* TCP ports: a list. */}}
{{- define "cm.tcp" -}}
{{- $ports := list -}}
{{- range . }}{{ $ports = append $ports (dict "protocol" "TCP" "port" (int .)) }}{{ end -}}
{{- toYaml $ports -}}
{{- end -}}

{{/* Egress rule: {ports, cidrs}; any address without ranges. */}}
{{- define "cm.egressRule" -}}
- ports: {{- include "cm.tcp" .ports | nindent 4 }}
  {{- with .cidrs }}
  to:
    {{- range . }}
    - ipBlock:
        cidr: {{ . }}
    {{- end }}
  {{- end }}
{{- end -}}

{{/* Port of the store's URL. */}}
{{- define "cm.storePort" -}}
{{- $url := urlParse .Values.objectStore.endpoint -}}
{{- $named := regexFind ":[0-9]+$" $url.host | trimPrefix ":" -}}
{{- default (eq $url.scheme "https" | ternary "443" "80") $named -}}
{{- end -}}

{{/* The components that run Ray. Jobs always belong to them, because jobs/submit.py can submit one at any time. */}}
{{- define "cm.rayComponents" -}}
{{- $components := list "job" -}}
{{- if .Values.research.enabled }}{{ $components = append $components "research" }}{{ end -}}
{{- if .Values.endpoint.enabled }}{{ $components = append $components "endpoint" }}{{ end -}}
{{- $components | sortAlpha | toJson -}}
{{- end -}}
