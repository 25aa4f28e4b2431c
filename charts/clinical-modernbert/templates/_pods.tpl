{{/* The parts of a pod. All pods keep Pod Security "restricted" with a read-only root; what is written goes to named volumes. */}}

{{- define "cm.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "cm.podSecurity" -}}
runAsNonRoot: true
{{- with .Values.security }}
{{- if not (kindIs "invalid" .runAsUser) }}
runAsUser: {{ .runAsUser }}
{{- end }}
{{- if not (kindIs "invalid" .runAsGroup) }}
runAsGroup: {{ .runAsGroup }}
{{- end }}
{{- if not (kindIs "invalid" .fsGroup) }}
fsGroup: {{ .fsGroup }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* The head of a pod specification: {root, serviceAccount, token, node} where node has nodeSelector and tolerations. */}}
{{- define "cm.podBase" -}}
automountServiceAccountToken: {{ .token }}
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- with .node.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext: {{- include "cm.podSecurity" .root | nindent 2 }}
serviceAccountName: {{ .serviceAccount }}
{{- $tolerations := .node.tolerations | default list -}}
{{- if gt (int (.node.gpus | default 0)) 0 -}}
{{- $tolerations = append $tolerations (dict "key" "nvidia.com/gpu" "operator" "Exists" "effect" "NoSchedule") -}}
{{- end -}}
{{- with $tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Requests equal limits: {cpu, memory, gpus, resources}. */}}
{{- define "cm.resources" -}}
{{- $amounts := dict "cpu" (toString .cpu) "memory" .memory -}}
{{- range $name, $count := .resources }}{{ $_ := set $amounts $name (toString $count) }}{{ end -}}
{{- if gt (int (.gpus | default 0)) 0 }}{{ $_ := set $amounts "nvidia.com/gpu" (toString .gpus) }}{{ end -}}
{{- dict "limits" $amounts "requests" $amounts | toYaml -}}
{{- end -}}

{{/* Environment of every container that runs the platform: {root, env}. Written out rather than taken from a ConfigMap, so
     that a changed value changes the pod and rolls it. */}}
{{- define "cm.env" -}}
{{- $store := .root.Values.objectStore -}}
- name: ARTIFACT_ROOT
  value: {{ $store.root | quote }}
- name: S3_ENDPOINT_URL
  value: {{ $store.endpoint | quote }}
- name: AWS_REGION
  value: {{ $store.region | quote }}
- name: AWS_ACCESS_KEY_ID
  valueFrom:
    secretKeyRef:
      name: {{ $store.existingSecret }}
      key: {{ $store.accessKeyIdKey }}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom:
    secretKeyRef:
      name: {{ $store.existingSecret }}
      key: {{ $store.secretAccessKeyKey }}
- name: HF_HUB_OFFLINE
  value: {{ ternary "1" "0" .root.Values.hubOffline | quote }}
- name: RAY_USAGE_STATS_ENABLED
  value: "0"
{{- range $name, $value := .env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{/* KubeRay adds volumes of its own for /dev/shm and /tmp/ray unless these paths are mounted: here they have names and sizes. */}}
{{- define "cm.rayMounts" -}}
- name: tmp
  mountPath: /tmp
- name: ray-logs
  mountPath: /tmp/ray
- name: home
  mountPath: /home/ray
- name: shared-mem
  mountPath: /dev/shm
{{- end -}}

{{- define "cm.rayVolumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: {{ .scratch | default "20Gi" }}
- name: ray-logs
  emptyDir:
    sizeLimit: {{ .scratch | default "20Gi" }}
- name: home
  emptyDir:
    sizeLimit: {{ .scratch | default "20Gi" }}
- name: shared-mem
  emptyDir:
    medium: Memory
    sizeLimit: {{ .memory }}
{{- end -}}
