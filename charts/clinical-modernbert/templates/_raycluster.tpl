{{/* The specification of a Ray cluster for the research cluster, jobs and the endpoint:
     {root, component, role, where, workers, autoscale, serve, queued}. workers is group -> {replicas, minReplicas, maxReplicas}, and where is
     the value that names the groups, for error messages. With an autoscaler, replicas belongs to the autoscaler: an upgrade
     must not reset it. */}}

{{- define "cm.rayCluster" -}}
{{- $root := .root -}}
rayVersion: {{ $root.Values.rayVersion | quote }}
authOptions:
  mode: token
{{- with $root.Values.auth.existingSecret }}
  secretName: {{ . }}
{{- end }}
{{- if .autoscale }}
enableInTreeAutoscaling: true
autoscalerOptions:
  version: v2
  # The container is not restarted, and it ends if the API server does not answer when it starts: a cluster without it never gets a worker.
  # The shell passes on SIGTERM, so that the pod stops at once.
  args:
    - >-
      trap 'kill -TERM $child; exit 0' TERM;
      until { $KUBERAY_GEN_AUTOSCALER_START_CMD & child=$!; wait $child; };
      do echo 'the autoscaler ended; next start in 5 s'; sleep 5 & child=$!; wait $child; done
  idleTimeoutSeconds: {{ $root.Values.research.idleTimeoutSeconds }}
  imagePullPolicy: {{ $root.Values.image.pullPolicy }}
  env:
    - name: RAY_USAGE_STATS_ENABLED
      value: "0"
  resources: {{- include "cm.resources" (dict "cpu" "500m" "memory" "1Gi") | nindent 4 }}
  securityContext: {{- include "cm.containerSecurity" false | nindent 4 }}
  volumeMounts:
    - name: tmp
      mountPath: /tmp
    - name: ray-logs
      mountPath: /tmp/ray
    - name: home
      mountPath: /home/ray
    - name: autoscaler-token
      mountPath: /var/run/secrets/kubernetes.io/serviceaccount
      readOnly: true
{{- end }}
{{- if .serve }}
{{- with $root.Values.endpoint.headRecovery }}
{{- if .redisAddress }}
gcsFaultToleranceOptions:
  backend: redis
  redisAddress: {{ .redisAddress }}
  redisPassword:
    valueFrom:
      secretKeyRef:
        name: {{ required "\n\nendpoint.headRecovery.existingSecret is required with redisAddress\n" .existingSecret }}
        key: {{ .passwordKey }}
{{- end }}
{{- end }}
{{- end }}
headGroupSpec:
  rayStartParams: {{- merge (deepCopy $root.Values.head.rayStartParams) (dict "num-cpus" "0") | toYaml | nindent 4 }}
  template: {{- include "cm.headPod" . | nindent 4 }}
workerGroupSpecs:
{{- range $group, $count := .workers }}
{{- $node := include "cm.workerGroup" (dict "root" $root "group" $group "where" $.where) | fromYaml }}
{{- if and $.serve (not $.autoscale) }}
{{- /* KubeRay does not change the number of workers of a running RayService; it makes a new cluster if a pod's template changes. */}}
{{- $_ := set $node "annotations" (merge (dict "clinical-modernbert/workers" (toString $count.replicas)) ($node.annotations | default dict)) }}
{{- end }}
  - groupName: {{ $group }}
    {{- if not $.autoscale }}
    replicas: {{ $count.replicas }}
    {{- end }}
    minReplicas: {{ $count.minReplicas }}
    maxReplicas: {{ $count.maxReplicas }}
    {{- $parameters := $node.rayStartParams | default dict }}
    {{- if and $node.resourceClaims (gt (int ($node.gpus | default 0)) 0) }}
    {{- /* KubeRay counts GPUs in the limits, and claimed devices are not there. */}}
    {{- $parameters = merge $parameters (dict "num-gpus" (toString $node.gpus)) }}
    {{- end }}
    rayStartParams: {{- toYaml $parameters | nindent 6 }}
    template: {{- include "cm.workerPod" (dict "root" $root "component" $.component "role" $.role "serve" $.serve "queued" $.queued "node" $node) | nindent 6 }}
{{- end }}
{{- end -}}

{{/* Pod of a head: the arguments of cm.rayCluster. The account of a head that scales workers may change Ray clusters and pods, so its
     token is a volume that only the autoscaler's container mounts, not the container that runs users' code. A restarted head has lost the state of its cluster, so the head of a job is not
     restarted; the head of an endpoint is restarted and waits for the operator. */}}
{{- define "cm.headPod" -}}
{{- $node := include "cm.headNode" .root | fromYaml -}}
{{- $account := ternary (include "cm.headServiceAccountName" .root) (include "cm.serviceAccountName" .root) .autoscale -}}
metadata: {{- include "cm.podMetadata" (dict "root" .root "component" .component "node" $node) | nindent 2 }}
spec:
  {{- include "cm.podBase" (dict "root" .root "serviceAccount" $account "node" $node) | nindent 2 }}
  {{- if not .serve }}
  restartPolicy: Never
  {{- end }}
  {{- with $node.topologySpreadConstraints }}
  topologySpreadConstraints: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with include "cm.initContainers" (dict "root" .root "role" .role "image" (include "cm.image" .root) "node" $node) }}{{ . | nindent 2 }}{{ end }}
  containers:
    - name: ray-head
      image: {{ include "cm.image" .root }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      workingDir: /app
      env:
        {{- include "cm.env" (dict "root" .root "role" .role "env" $node.env "cache" true) | nindent 8 }}
        {{- if .serve }}{{ include "cm.waitNotice" . | nindent 8 }}{{ end }}
      {{- with $node.envFrom }}
      envFrom: {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - name: gcs-server
          containerPort: 6379
        - name: dashboard
          containerPort: 8265
        - name: client
          containerPort: 10001
        - name: metrics
          containerPort: 8080
        - name: as-metrics
          containerPort: 44217
        - name: dash-metrics
          containerPort: 44227
        {{- if .serve }}
        - name: serve
          containerPort: 8000
        {{- end }}
      resources: {{- include "cm.resources" (set (deepCopy $node) "queued" .queued) | nindent 8 }}
      securityContext: {{- include "cm.containerSecurity" false | nindent 8 }}
      volumeMounts:
        {{- include "cm.rayMounts" .root | nindent 8 }}
        {{- with include "cm.extraMounts" $node }}{{ . | nindent 8 }}{{ end }}
    {{- with $node.sidecars }}{{ toYaml . | nindent 4 }}{{ end }}
  volumes:
    {{- include "cm.rayVolumes" (dict "root" .root "node" $node) | nindent 4 }}
    {{- if .autoscale }}
    {{- include "cm.tokenVolume" "autoscaler-token" | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* Names the file of serving/notice.py. The head runs the process that waits; each worker's startup probe prints the file. */}}
{{- define "cm.waitNotice" -}}
- name: CLINICAL_WAIT_NOTICE
  value: /tmp/wait-notice
{{- end -}}

{{/* The values of `head` with a shorter wait for a node that is lost. KubeRay ends a job, without a retry, whose head does not answer for five
     minutes, and Kubernetes waits as long before it replaces a pod of such a node. */}}
{{- define "cm.headNode" -}}
{{- $tolerations := .Values.head.tolerations | default list }}
{{- range $key := list "node.kubernetes.io/not-ready" "node.kubernetes.io/unreachable" }}
{{- $set := false }}
{{- range $tolerations }}{{ if eq (.key | default "") $key }}{{ $set = true }}{{ end }}{{ end }}
{{- if not $set }}
{{- $tolerations = append $tolerations (dict "key" $key "operator" "Exists" "effect" "NoExecute" "tolerationSeconds" 30) }}
{{- end }}
{{- end }}
{{- set (deepCopy .Values.head) "tolerations" $tolerations | toYaml }}
{{- end -}}

{{/* Pod of a worker: {root, component, role, serve, queued, node}. */}}
{{- define "cm.workerPod" -}}
{{- $keys := ternary .root.Values.endpoint.apiKeys.existingSecret "" .serve -}}
{{- $drain := int .root.Values.endpoint.drainSeconds -}}
{{- $node := .node -}}
{{- if and .serve (kindIs "invalid" $node.terminationGracePeriodSeconds) -}}
{{- $node = set (deepCopy $node) "terminationGracePeriodSeconds" (add $drain 50) -}}
{{- end -}}
metadata: {{- include "cm.podMetadata" . | nindent 2 }}
spec:
  {{- include "cm.podBase" (dict "root" .root "serviceAccount" (include "cm.serviceAccountName" .root) "node" $node) | nindent 2 }}
  {{- if not .serve }}
  restartPolicy: Never
  {{- with .node.topologySpreadConstraints }}
  topologySpreadConstraints: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- else }}
  topologySpreadConstraints:
    {{- include "cm.spread" (include "cm.podLabels" .) | nindent 4 }}
    {{- with .node.topologySpreadConstraints }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- end }}
  {{- $image := gt (int (.node.gpus | default 0)) 0 | ternary (include "cm.gpuImage" .root) (include "cm.image" .root) }}
  {{- with include "cm.initContainers" (dict "root" .root "role" .role "image" $image "node" .node) }}{{ . | nindent 2 }}{{ end }}
  containers:
    - name: ray-worker
      image: {{ $image }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      workingDir: /app
      env:
        {{- include "cm.env" (dict "root" .root "role" .role "env" .node.env "cache" true) | nindent 8 }}
        {{- if .serve }}{{ include "cm.waitNotice" . | nindent 8 }}{{ end }}
        {{- if $keys }}
        - name: CLINICAL_API_KEYS_FILE
          value: /etc/clinical-modernbert-keys/{{ .root.Values.endpoint.apiKeys.fileKey }}
        {{- end }}
      {{- with .node.envFrom }}
      envFrom: {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - name: metrics
          containerPort: 8080
        {{- if .serve }}
        - name: serve
          containerPort: 8000
        {{- end }}
      {{- if .serve }}
      lifecycle:
        preStop:
          exec:
            # Serve sends this node no new request and lets it finish the open ones; its proxy ends when none is left. Where the head is
            # gone too, as in an uninstall, nothing can be drained: Ray gives up after 5 s instead of a minute.
            command:
              - /bin/bash
              - -c
              - >-
                RAY_gcs_rpc_server_reconnect_timeout_s=5 timeout 30 ray drain-node --reason DRAIN_NODE_REASON_PREEMPTION --reason-message 'the pod stops'
                --deadline-remaining-seconds {{ $drain }} &&
                for second in $(seq {{ $drain }}); do (: < /dev/tcp/127.0.0.1/8000) 2> /dev/null || break; sleep 1; done;
                ray stop
      # Fails until Serve's proxy runs in this pod. What it prints is an event of the pod (Unhealthy): what the endpoint waits for, if
      # serving/notice.py wrote it within two minutes. It never gives up, because a model may take days. The other probes start after it.
      startupProbe:
        exec:
          command:
            - /bin/bash
            - -c
            - >-
              (: < /dev/tcp/127.0.0.1/8000) 2> /dev/null && exit;
              find "$CLINICAL_WAIT_NOTICE" -mmin -2 -exec cat {} + 2> /dev/null | grep . || echo 'Ray Serve has no proxy in this pod yet';
              exit 1
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 2147483647
      # KubeRay's own probe for Serve workers calls wget, which the image does not have. One late answer of a busy node must not take a worker
      # out of the Service: in an upgrade all can be late together, and a Service without a ready pod does not answer. KubeRay moves the Service
      # when Serve has started the application, not when the pods are ready, so the probe looks often.
      readinessProbe:
        httpGet:
          path: /-/healthz
          port: serve
        periodSeconds: 2
        timeoutSeconds: 5
        failureThreshold: 8
      {{- end }}
      resources: {{- include "cm.resources" (set (deepCopy .node) "queued" .queued) | nindent 8 }}
      securityContext: {{- include "cm.containerSecurity" (.node.ipcLock | default false) | nindent 8 }}
      volumeMounts:
        {{- include "cm.rayMounts" .root | nindent 8 }}
        {{- if $keys }}
        - name: api-keys
          mountPath: /etc/clinical-modernbert-keys
          readOnly: true
        {{- end }}
        {{- with include "cm.extraMounts" .node }}{{ . | nindent 8 }}{{ end }}
    {{- with .node.sidecars }}{{ toYaml . | nindent 4 }}{{ end }}
  volumes:
    {{- include "cm.rayVolumes" (dict "root" .root "node" .node) | nindent 4 }}
    {{- with $keys }}
    - name: api-keys
      secret:
        secretName: {{ . }}
        defaultMode: 0440
    {{- end }}
{{- end -}}

{{/* The specification of the research cluster. */}}
{{- define "cm.researchSpec" -}}
{{- $workers := dict }}
{{- range $group, $count := .Values.research.workers }}
{{- if gt (int $count.minReplicas) (int $count.maxReplicas) }}
{{- fail (printf "\n\nresearch.workers.%s: minReplicas=%d is above maxReplicas=%d\n" $group (int $count.minReplicas) (int $count.maxReplicas)) }}
{{- end }}
{{- $_ := set $workers $group (dict "minReplicas" $count.minReplicas "maxReplicas" $count.maxReplicas) }}
{{- if $.Values.research.queue }}
{{- $_ := set $workers $group (dict "replicas" $count.maxReplicas "minReplicas" $count.maxReplicas "maxReplicas" $count.maxReplicas) }}
{{- end }}
{{- end }}
{{- $queued := not (empty .Values.research.queue) }}
{{- include "cm.rayCluster" (dict "root" . "component" "research" "role" "" "where" "research.workers" "workers" $workers "autoscale" (not $queued) "serve" false "queued" $queued) -}}
{{- end -}}

{{/* The specification of the endpoint's cluster. */}}
{{- define "cm.endpointSpec" -}}
{{- $scales := not (empty (include "cm.endpointScales" .)) }}
{{- $workers := dict }}
{{- range $group, $count := .Values.endpoint.workers }}
{{- if gt (int (dig $group "gpus" 0 $.Values.workerGroups)) 0 }}
{{- fail (printf "\n\nendpoint.workers.%s: the endpoint computes on CPUs, and this group has GPUs, which would be idle; name a group without GPUs\n" $group) }}
{{- end }}
{{- $_ := set $workers $group (dict "replicas" $count "minReplicas" (ternary 1 $count $scales) "maxReplicas" $count) }}
{{- end }}
{{- include "cm.rayCluster" (dict "root" . "component" "endpoint" "role" "reader" "where" "endpoint.workers" "workers" $workers "autoscale" $scales "serve" true "queued" (not (empty .Values.endpoint.queue))) -}}
{{- end -}}

{{/* The init containers of a Ray pod, if it has any: {root, role, image, node}. */}}
{{- define "cm.initContainers" -}}
{{- if or .root.Values.hubCache.enabled .node.initContainers -}}
initContainers:
  {{- if .root.Values.hubCache.enabled }}{{ include "cm.hubCacheContainer" . | nindent 2 }}{{ end }}
  {{- with .node.initContainers }}{{ toYaml . | nindent 2 }}{{ end }}
{{- end -}}
{{- end -}}
