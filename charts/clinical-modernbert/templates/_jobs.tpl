{{/* The command of a job: {kind, recipe, overrides, retries, inputWaitSeconds}. Two shells read it, the submitter's and the driver's: the quotes keep a value
     whole in the first, Ray quotes it again for the second, and the schema refuses characters that could end the quotes. */}}
{{- define "cm.entrypoint" -}}
python jobs/{{ .kind }}.py {{ .recipe }}
{{- range .overrides }} --set '{{ . }}'{{ end }}
{{- with .inputWaitSeconds }} --wait-for-inputs {{ int64 . }}{{ end }}
{{- with include "cm.retries" . }} {{ . }}{{ end }}
{{- end -}}

{{/* The option of a job's command that starts it again. KubeRay's own backoffLimit would also repeat a wrong input, on new clusters. */}}
{{- define "cm.retries" -}}
{{- with .retries }}--retries {{ int64 . }}{{ end }}
{{- end -}}

{{/* The pod that calls `ray job submit`: {root, component}. KubeRay fills in its command. The pod is scheduled after the cluster of its
     job, which holds its nodes while this pod finds no room, so it requests little. KubeRay's SidecarMode would run it in the head's pod,
     but its container has no securityContext, and Pod Security "restricted" refuses it. */}}
{{- define "cm.submitterPod" -}}
metadata:
  labels: {{- include "cm.podLabels" . | nindent 4 }}
spec:
  {{- include "cm.podBase" (dict "root" .root "serviceAccount" (include "cm.serviceAccountName" .root) "node" .root.Values.head) | nindent 2 }}
  restartPolicy: Never
  containers:
    - name: ray-job-submitter
      image: {{ include "cm.image" .root }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      resources:
        limits: {cpu: {{ .root.Values.submitter.cpu | quote }}, memory: {{ .root.Values.submitter.memory }}}
        {{- with .root.Values.submitter.requests }}
        requests: {cpu: {{ .cpu | quote }}, memory: {{ .memory }}}
        {{- end }}
      securityContext: {{- include "cm.containerSecurity" false | nindent 8 }}
      volumeMounts: {{- include "cm.mounts" .root | nindent 8 }}
  volumes: {{- include "cm.volumes" (dict "root" .root "scratch" "1Gi") | nindent 4 }}
{{- end -}}

{{/* The role in the object store of each kind of job. jobs/submit.py reads it from the ConfigMap of jobs/configmap.yaml. */}}
{{- define "cm.jobRoles" -}}
build_corpus: publisher
build_pairs: publisher
contrast: trainer
embed: publisher
evaluate: trainer
extract: publisher
map_codes: publisher
merge: trainer
pretrain: trainer
project: publisher
sweep: trainer
{{- end -}}

{{/* Labels by which Kueue admits a job, the research cluster or the endpoint, none without a queue: its settings. */}}
{{- define "cm.queueLabels" -}}
{{- if .queue -}}
kueue.x-k8s.io/queue-name: {{ .queue }}
{{- with .queuePriority }}
kueue.x-k8s.io/priority-class: {{ . }}
{{- end }}
{{- end -}}
{{- end -}}

{{/* The specification of a RayJob without its entrypoint: {root, settings, role, where, workers}. The RayJobs of `jobs` and the
     skeletons that jobs/submit.py fills are both made here. KubeRay retries every failure of a driver that backoffLimit allows, whatever
     its exit code: so it retries none, and the command itself does (cm.retries). */}}
{{- define "cm.rayJobSpec" -}}
{{- $settings := .settings -}}
submissionMode: K8sJobMode
backoffLimit: 0
activeDeadlineSeconds: {{ $settings.activeDeadlineSeconds | int64 }}
preRunningDeadlineSeconds: {{ $settings.preRunningDeadlineSeconds | int64 }}
{{- if $settings.queue }}
# Kueue suspends the job until it is admitted, and KubeRay does not suspend a job that has deletion rules. Kueue frees the quota when the
# job ends, so the cluster must not occupy the nodes of the next job for long, also after a failure.
shutdownAfterJobFinishes: true
ttlSecondsAfterFinished: {{ min $settings.keepFailedSeconds $settings.keepSucceededSeconds | int64 }}
{{- else }}
deletionStrategy:
  deletionRules:
    - policy: DeleteWorkers
      condition:
        jobStatus: SUCCEEDED
        ttlSeconds: 0
    - policy: DeleteCluster
      condition:
        jobStatus: SUCCEEDED
        ttlSeconds: {{ $settings.keepSucceededSeconds | int64 }}
    # A job can fail without a job status: after a deadline, or if it was never submitted.
    {{- range $condition := list "jobStatus: FAILED" "jobDeploymentStatus: Failed" }}
    - policy: DeleteWorkers
      condition:
        {{ $condition }}
        ttlSeconds: 0
    - policy: DeleteCluster
      condition:
        {{ $condition }}
        ttlSeconds: {{ $settings.keepFailedSeconds | int64 }}
    {{- end }}
{{- end }}
submitterConfig:
  backoffLimit: {{ .root.Values.submitter.backoffLimit }}
submitterPodTemplate: {{- include "cm.submitterPod" (dict "root" .root "component" "job") | nindent 2 }}
rayClusterSpec: {{- include "cm.rayCluster" (dict "root" .root "component" "job" "role" .role "where" .where "workers" .workers "autoscale" false "serve" false "queued" (not (empty $settings.queue))) | nindent 2 }}
{{- end -}}

{{/* The specification of the skeleton of a role, with every worker group: {root, role}. */}}
{{- define "cm.skeletonSpec" -}}
{{- $workers := dict }}
{{- range $group, $_ := .root.Values.workerGroups }}
{{- $_ := set $workers $group (dict "replicas" 0 "minReplicas" 0 "maxReplicas" 0) }}
{{- end }}
{{- include "cm.rayJobSpec" (dict "root" .root "settings" .root.Values.jobDefaults "role" .role "where" "workerGroups" "workers" $workers) -}}
{{- end -}}

{{/* The specifications of the skeletons of all roles: all that the pods of a job may have. */}}
{{- define "cm.jobSpecs" -}}
{{- range $role := list "publisher" "trainer" }}
{{ $role }}: {{- include "cm.skeletonSpec" (dict "root" $ "role" $role) | nindent 2 }}
{{- end }}
{{- end -}}
