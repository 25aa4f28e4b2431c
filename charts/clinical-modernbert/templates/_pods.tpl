{{/* Parts of pods. All pods satisfy Pod Security "restricted" and have a read-only root; processes write to named volumes. */}}

{{/* Security context of a container: whether to add IPC_LOCK, the only capability that can be added (`rdma.ipcLock`). */}}
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

{{/* Security context of a pod: the root. A null leaves the field to the platform. */}}
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

{{/* First fields of a pod's specification: {root, serviceAccount, node}; node has nodeSelector, tolerations, affinity and classes. No pod mounts
     the token of its account by itself. */}}
{{- define "cm.podBase" -}}
automountServiceAccountToken: false
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
{{- with .node.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .node.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .node.resourceClaims }}
resourceClaims: {{- toYaml . | nindent 2 }}
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
{{- if not (kindIs "invalid" .node.terminationGracePeriodSeconds) }}
terminationGracePeriodSeconds: {{ .node.terminationGracePeriodSeconds }}
{{- end }}
{{- with $tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Resources, with requests equal to limits because Ray reads the limits: {cpu, memory, gpus, resources, diskRequest, resourceClaims, queued}.
     Disk is requested only: each volume has its own limit. Pods that Kueue admits (`queued`) request none, because a ClusterQueue admits no
     pod with a resource that it does not name. */}}
{{- define "cm.resources" -}}
{{- $amounts := dict "cpu" (toString .cpu) "memory" .memory -}}
{{- range $name, $count := .resources }}{{ $_ := set $amounts $name (toString $count) }}{{ end -}}
{{- if and (gt (int (.gpus | default 0)) 0) (not .resourceClaims) }}{{ $_ := set $amounts "nvidia.com/gpu" (toString .gpus) }}{{ end -}}
{{- $requests := deepCopy $amounts -}}
{{- if and .diskRequest (not .queued) }}{{ $_ := set $requests "ephemeral-storage" .diskRequest }}{{ end -}}
{{- $resources := dict "limits" $amounts "requests" $requests -}}
{{- with .resourceClaims }}
{{- $claims := list }}
{{- range . }}{{ $claims = append $claims (dict "name" .name) }}{{ end }}
{{- $_ := set $resources "claims" $claims }}
{{- end }}
{{- toYaml $resources -}}
{{- end -}}

{{/* Spread the pods of one component over nodes if possible: the labels that select them. */}}
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
labels: {{- merge (include "cm.podLabels" . | fromYaml) (.node.labels | default dict) | toYaml | nindent 2 }}
{{- end -}}

{{/* The mounts that a node adds to its container: the node. A mount is read-only unless it says otherwise. */}}
{{- define "cm.extraMounts" -}}
{{- $mounts := list -}}
{{- range .volumeMounts }}
{{- $mounts = append $mounts (hasKey . "readOnly" | ternary . (set (deepCopy .) "readOnly" true)) }}
{{- end }}
{{- with $mounts }}{{ toYaml . }}{{ end -}}
{{- end -}}

{{/* Environment of every container that runs the platform: {root, role, env, cache}; role is the role in the store, and cache is true if the
     container mounts the cache. The values are in the pod and not in a ConfigMap, so that a changed value replaces the pod. */}}
{{- define "cm.env" -}}
{{- $store := .root.Values.objectStore -}}
- name: ARTIFACT_ROOT
  value: {{ $store.root | quote }}
- name: S3_ENDPOINT_URL
  value: {{ include "cm.storeEndpoint" .root | quote }}
- name: AWS_REGION
  value: {{ $store.region | quote }}
{{- if not $store.workloadIdentity }}
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
{{- end }}
- name: HF_HUB_OFFLINE
  value: {{ ternary "1" "0" .root.Values.hubOffline | quote }}
- name: RAY_USAGE_STATS_ENABLED
  value: "0"
{{- if $store.caConfigMap }}
- name: SSL_CERT_FILE
  value: /etc/clinical-modernbert/ca.crt
{{- end }}
{{- if and .cache .root.Values.cache.existingClaim }}
- name: CLINICAL_CACHE
  value: /var/cache/clinical-modernbert
{{- end }}
{{- range $name, $value := .env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{/* Mounts of every container that runs the platform: the root. Their volumes: {root, scratch}. */}}
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
{{- range $name := list "tmp" "home" }}
{{ include "cm.scratchVolume" (dict "name" $name "size" $.scratch "class" ($.class | default "")) }}
{{- end }}
{{- with .root.Values.objectStore.caConfigMap }}
- name: store-ca
  configMap:
    name: {{ . }}
{{- end }}
{{- end -}}

{{/* A volume that lives as long as its pod: {name, size, class}; on the node's disk, or of a StorageClass. */}}
{{- define "cm.scratchVolume" -}}
- name: {{ .name }}
  {{- if .class }}
  ephemeral:
    volumeClaimTemplate:
      spec:
        accessModes: [ReadWriteOnce]
        storageClassName: {{ .class }}
        resources:
          requests:
            storage: {{ .size }}
  {{- else }}
  emptyDir:
    sizeLimit: {{ .size }}
  {{- end }}
{{- end -}}

{{/* Mounts of a Ray container: the root. KubeRay adds unnamed volumes for /dev/shm and /tmp/ray unless these paths are mounted. */}}
{{- define "cm.rayMounts" -}}
{{ include "cm.mounts" . }}
- name: ray-logs
  mountPath: /tmp/ray
- name: shared-mem
  mountPath: /dev/shm
{{- if .Values.cache.existingClaim }}
- name: artifact-cache
  mountPath: /var/cache/clinical-modernbert
{{- end }}
{{- end -}}

{{/* Volumes of a Ray pod: {root, node}. */}}
{{- define "cm.rayVolumes" -}}
{{- $scratch := .node.scratch -}}
{{- $class := .node.scratchStorageClass | default "" }}
{{ include "cm.volumes" (dict "root" .root "scratch" $scratch "class" $class) }}
{{ include "cm.scratchVolume" (dict "name" "ray-logs" "size" $scratch "class" $class) }}
- name: shared-mem
  emptyDir:
    medium: Memory
    sizeLimit: {{ .node.memory }}
{{- with .root.Values.cache.existingClaim }}
- name: artifact-cache
  persistentVolumeClaim:
    claimName: {{ . }}
{{- end }}
{{- with .node.volumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Init container that fills the Hugging Face cache before Ray starts: {root, role, image}. */}}
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
