{{/* The command of a job: {kind, recipe, overrides}. It passes two shells, the submitter's and the driver's: the quotes keep
     a value whole in the first, Ray quotes it again for the second, and the schema keeps out what could end the quotes. */}}
{{- define "cm.entrypoint" -}}
python jobs/{{ .kind }}.py {{ .recipe }}
{{- range .overrides }} --set '{{ . }}'{{ end }}
{{- end -}}

{{/* The pod that calls `ray job submit`: {root, component}. KubeRay fills in its command. */}}
{{- define "cm.submitterPod" -}}
metadata:
  labels: {{- include "cm.podLabels" . | nindent 4 }}
spec:
  {{- include "cm.podBase" (dict "root" .root "serviceAccount" (include "cm.serviceAccountName" .root) "token" false "node" .root.Values.head) | nindent 2 }}
  restartPolicy: Never
  containers:
    - name: ray-job-submitter
      image: {{ include "cm.image" .root }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      resources: {{- include "cm.resources" .root.Values.submitter | nindent 8 }}
      securityContext: {{- include "cm.containerSecurity" false | nindent 8 }}
      volumeMounts: {{- include "cm.mounts" .root | nindent 8 }}
  volumes: {{- include "cm.volumes" (dict "root" .root "scratch" "1Gi") | nindent 4 }}
{{- end -}}

{{/* The store's role of a kind of job: those that write models, and the rest. */}}
{{- define "cm.jobRole" -}}
{{- has . (list "pretrain" "sweep" "evaluate") | ternary "trainer" "publisher" -}}
{{- end -}}

{{/* One machine as jobs/submit.py reads it. */}}
{{- define "cm.shapeNode" -}}
{{- dict "cpu" (toString .cpu) "memory" .memory "gpus" (int (.gpus | default 0)) "scratch" (.scratch | default "20Gi") "node_selector" (.nodeSelector | default dict) "tolerations" (.tolerations | default list) "env" (.env | default dict) "resources" (.resources | default dict) "annotations" (.annotations | default dict) "priority_class" (.priorityClassName | default nil) "runtime_class" (.runtimeClassName | default nil) "ipc_lock" (.ipcLock | default false) | toJson -}}
{{- end -}}
