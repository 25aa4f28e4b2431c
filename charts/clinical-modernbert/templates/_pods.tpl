{{/* The parts of a pod. All pods keep Pod Security "restricted" with a read-only root; what is written goes to named volumes. */}}

{{/* IPC_LOCK alone can be added, by the profile `rdma`. */}}
{{- define "cm.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities:
  {{- if . }}
  add: [IPC_LOCK]
  {{- end }}
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
{{- with .node.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .node.runtimeClassName }}
runtimeClassName: {{ . }}
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

{{/* Pods of one component rather on different nodes: the labels that select them. */}}
{{- define "cm.spread" -}}
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {{- . | nindent 6 }}
{{- end -}}

{{/* Metadata of a pod: {root, component, node}. */}}
{{- define "cm.podMetadata" -}}
{{- with .node.annotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
labels: {{- include "cm.podLabels" . | nindent 2 }}
{{- end -}}

{{/* Environment of every container that runs the platform: {root, role, env}, role being the store's. Written out rather than taken from a ConfigMap, so
     that a changed value changes the pod and rolls it. */}}
{{- define "cm.env" -}}
{{- $store := .root.Values.objectStore -}}
- name: ARTIFACT_ROOT
  value: {{ $store.root | quote }}
- name: S3_ENDPOINT_URL
  value: {{ include "cm.storeEndpoint" .root | quote }}
- name: AWS_REGION
  value: {{ $store.region | quote }}
- name: AWS_ACCESS_KEY_ID
  valueFrom:
    secretKeyRef:
      name: {{ include "cm.storeSecret" . }}
      key: {{ $store.accessKeyIdKey }}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom:
    secretKeyRef:
      name: {{ include "cm.storeSecret" . }}
      key: {{ $store.secretAccessKeyKey }}
- name: HF_HUB_OFFLINE
  value: {{ ternary "1" "0" .root.Values.hubOffline | quote }}
- name: RAY_USAGE_STATS_ENABLED
  value: "0"
{{- if $store.caConfigMap }}
- name: SSL_CERT_FILE
  value: /etc/clinical-modernbert/ca.crt
{{- end }}
{{- range $name, $value := .env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{/* Mounts and volumes of every container that runs the platform: {root, scratch}. */}}
{{- define "cm.mounts" -}}
- name: tmp
  mountPath: /tmp
- name: home
  mountPath: /home/ray
{{- if .Values.objectStore.caConfigMap }}
- name: store-ca
  mountPath: /etc/clinical-modernbert
  readOnly: true
{{- end }}
{{- end -}}

{{- define "cm.volumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: {{ .scratch }}
- name: home
  emptyDir:
    sizeLimit: {{ .scratch }}
{{- with .root.Values.objectStore.caConfigMap }}
- name: store-ca
  configMap:
    name: {{ . }}
{{- end }}
{{- end -}}

{{/* KubeRay adds volumes of its own for /dev/shm and /tmp/ray unless these paths are mounted: here they have names and sizes. */}}
{{- define "cm.rayMounts" -}}
{{ include "cm.mounts" . }}
- name: ray-logs
  mountPath: /tmp/ray
- name: shared-mem
  mountPath: /dev/shm
{{- end -}}

{{/* {root, node}. */}}
{{- define "cm.rayVolumes" -}}
{{- $scratch := .node.scratch | default "20Gi" -}}
{{ include "cm.volumes" (dict "root" .root "scratch" $scratch) }}
- name: ray-logs
  emptyDir:
    sizeLimit: {{ $scratch }}
- name: shared-mem
  emptyDir:
    medium: Memory
    sizeLimit: {{ .node.memory }}
{{- end -}}

{{/* Fills the Hugging Face cache before Ray starts: {root, role, image}. */}}
{{- define "cm.hubCacheContainer" -}}
- name: hub-cache
  image: {{ .image }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  workingDir: /app
  command: [python, jobs/hub_cache.py, pull]
  env: {{- include "cm.env" . | nindent 4 }}
  resources: {{- include "cm.resources" (dict "cpu" "500m" "memory" "1Gi") | nindent 4 }}
  securityContext: {{- include "cm.containerSecurity" false | nindent 4 }}
  volumeMounts: {{- include "cm.mounts" .root | nindent 4 }}
{{- end -}}
