{{/* How helpers work, for readers who are new to Helm:

- `define "cm.x"` names a piece of text, and `include "cm.x" ARGUMENT` renders it. The prefix `cm.` keeps the names apart from
  those of a parent chart, because all charts of a release share one set of names.
- Inside a helper `.` is its ARGUMENT, and nothing else of the caller is visible. A helper with one argument gets the root
  (`include "cm.fullname" .`). A helper with several gets a dict, and its comment lists the keys: {root, suffix, limit} is called by
  `include "cm.rayName" (dict "root" . "suffix" "research" "limit" 50)`.
- `range` and `with` change `.` too. `$` is the argument of the helper or the root of the file, in any depth.
- A helper returns text. `include ... | nindent 4` puts YAML text at its depth; `include ... | fromYaml` turns it into a dict,
  which is how "cm.node" returns one. A helper that answers yes or no returns "true" or an empty text ("cm.endpointScales").
- {{- and -}} remove the white space before and after, so that a helper adds no empty lines.

Where to look: names, labels, images, the store and checks of the values are in this file; parts of pods in _pods.tpl; Ray
clusters in _raycluster.tpl; RayJobs in _jobs.tpl; NetworkPolicies in _network.tpl. To see what one file renders:
`helm template cm . --values ci/cpu-values.yaml --set operatorCheck=false --show-only templates/jobs/rayjob.yaml`. */}}

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

{{/* Name of a Ray object: {root, suffix, limit}. KubeRay appends to it, so a name that is too long is refused and not cut. */}}
{{- define "cm.rayName" -}}
{{- $name := printf "%s-%s" (include "cm.fullname" .root) .suffix -}}
{{- if gt (len $name) (int .limit) -}}
{{- fail (printf "\n\n%q has %d characters, and %d are allowed because KubeRay appends to it: set fullnameOverride or shorten %q\n" $name (len $name) (int .limit) .suffix) -}}
{{- end -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) -}}
{{- fail (printf "\n\n%q must start with a letter and contain lower-case letters, digits and inner dashes: set fullnameOverride\n" $name) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{/* KubeRay allows 53 characters and cuts the name of the Secret with the token at 50. */}}
{{- define "cm.researchName" -}}
{{- include "cm.rayName" (dict "root" . "suffix" "research" "limit" 50) -}}
{{- end -}}

{{- define "cm.endpointName" -}}
{{- include "cm.rayName" (dict "root" . "suffix" "encoder" "limit" 47) -}}
{{- end -}}

{{/* Name of a job: {root, job, scheduled}. A RayCronJob's name is part of the names of its RayJobs. */}}
{{- define "cm.jobName" -}}
{{- include "cm.rayName" (dict "root" .root "suffix" .job "limit" (ternary 36 47 .scheduled)) -}}
{{- end -}}

{{- define "cm.explorerName" -}}
{{- printf "%s-explorer" (include "cm.fullname" .) -}}
{{- end -}}

{{- define "cm.skeletonName" -}}
{{- printf "%s-rayjob" (include "cm.fullname" .) -}}
{{- end -}}

{{- define "cm.serviceAccountName" -}}
{{- default (include "cm.fullname" .) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "cm.headServiceAccountName" -}}
{{- default (printf "%s-head" (include "cm.fullname" .)) .Values.serviceAccount.headName -}}
{{- end -}}

{{/* Labels that are the same in every version: {root, component}. Pods have only these, so a new version of the chart alone does
     not replace them. KubeRay's Services of a RayJob and a RayService select heads by its own name. */}}
{{- define "cm.podLabels" -}}
app.kubernetes.io/name: {{ has .component (list "research" "job" "endpoint") | ternary "kuberay" (include "cm.name" .root) }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/part-of: {{ include "cm.name" .root }}
{{- end -}}

{{- define "cm.labels" -}}
app.kubernetes.io/name: {{ include "cm.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/part-of: {{ include "cm.name" .root }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Image reference: {root, image, registry, tag}; global.imageRegistry replaces the image's registry. */}}
{{- define "cm.imageReference" -}}
{{- $repository := .image.repository -}}
{{- with default .registry .root.Values.global.imageRegistry }}{{ $repository = printf "%s/%s" (trimSuffix "/" .) $repository }}{{ end -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .tag .image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "cm.image" -}}
{{- include "cm.imageReference" (dict "root" . "image" .Values.image "registry" .Values.image.registry "tag" .Chart.AppVersion) -}}
{{- end -}}

{{- define "cm.gpuImage" -}}
{{- include "cm.imageReference" (dict "root" . "image" .Values.gpuImage "registry" .Values.image.registry "tag" .Chart.AppVersion) -}}
{{- end -}}

{{/* Image of another project: {root, image, where}. */}}
{{- define "cm.foreignImage" -}}
{{- if not (or .image.tag .image.digest) }}{{ fail (printf "\n\n%s.tag or %s.digest is required\n" .where .where) }}{{ end -}}
{{- include "cm.imageReference" (dict "root" .root "image" .image "registry" .image.registry "tag" "") -}}
{{- end -}}

{{/* The URL of the store, and the Secret with the keys of a role: {root, role}; an empty role has all rights. */}}
{{- define "cm.storeEndpoint" -}}
{{- $devStore := printf "http://%s.%s.svc:%d" (include "cm.devStoreName" .) .Release.Namespace (include "cm.devStorePort" . | int) -}}
{{- default (ternary $devStore "" .Values.devStore.enabled) .Values.objectStore.endpoint -}}
{{- end -}}

{{- define "cm.storeSecret" -}}
{{- $ofRole := "" -}}
{{- if .role }}{{ $ofRole = get .root.Values.objectStore.roleSecrets .role }}{{ end -}}
{{- default .root.Values.objectStore.existingSecret $ofRole -}}
{{- end -}}

{{- define "cm.devStoreName" -}}
{{- printf "%s-store" (include "cm.fullname" .) -}}
{{- end -}}

{{/* Role to Secret, as YAML, of the roles that have keys of their own: the trial store makes a user for each. */}}
{{- define "cm.devStoreRoles" -}}
{{- $roles := dict -}}
{{- if not .Values.objectStore.endpoint -}}
{{- range $role, $secret := .Values.objectStore.roleSecrets }}{{ if $secret }}{{ $_ := set $roles $role $secret }}{{ end }}{{ end -}}
{{- end -}}
{{- if and $roles (eq .Values.devStore.flavor "minio") -}}
{{- fail (printf "\n\ndevStore.flavor=minio has one user, and objectStore.roleSecrets names keys of others (%s): leave roleSecrets empty, or use seaweedfs\n" (keys $roles | sortAlpha | join ", ")) -}}
{{- end -}}
{{- $names := append (values $roles) .Values.objectStore.existingSecret -}}
{{- if lt (len (uniq $names)) (len $names) -}}
{{- fail "\n\nobjectStore.roleSecrets and existingSecret name one Secret twice: the trial store needs another key for each role\n" -}}
{{- end -}}
{{- toYaml $roles -}}
{{- end -}}

{{- define "cm.devStorePort" -}}
{{- eq .Values.devStore.flavor "seaweedfs" | ternary 8333 9000 -}}
{{- end -}}

{{/* Worker group by name: {root, group, where}. */}}
{{- define "cm.workerGroup" -}}
{{- $groups := .root.Values.workerGroups -}}
{{- if not (hasKey $groups .group) -}}
{{- fail (printf "\n\n%s names the worker group %q; workerGroups has: %s\n" .where .group (keys $groups | sortAlpha | join ", ")) -}}
{{- end -}}
{{- include "cm.node" (dict "root" .root "node" (get $groups .group)) -}}
{{- end -}}

{{/* A worker group with the settings of `rdma` merged in, as YAML: {root, node}; values of the group take precedence. */}}
{{- define "cm.node" -}}
{{- $node := deepCopy .node -}}
{{- $_ := set $node "scratch" ($node.scratch | default "20Gi") -}}
{{- $_ := set $node "diskRequest" ($node.diskRequest | default "10Gi") -}}
{{- if .node.rdma -}}
{{- $profile := .root.Values.rdma -}}
{{- $_ := set $node "resources" (merge (get $node "resources" | default dict) (dict $profile.resource $profile.count)) -}}
{{- $_ := set $node "env" (merge (get $node "env" | default dict) $profile.env) -}}
{{- $_ := set $node "ipcLock" $profile.ipcLock -}}
{{- end -}}
{{- unset $node "rdma" | toYaml -}}
{{- end -}}

{{/* Checks before anything is rendered: the store is set, and the cluster serves KubeRay's API for each kind in use. */}}
{{- define "cm.check" -}}
{{- $store := .Values.objectStore -}}
{{- if not $store.root }}{{ fail "\n\nobjectStore.root is required: set it to s3://bucket/prefix\n" }}{{ end -}}
{{- if not (include "cm.storeEndpoint" .) }}{{ fail "\n\nobjectStore.endpoint is required: set it to the URL of your S3 service, or devStore.enabled=true for a trial\n" }}{{ end -}}
{{- if and .Values.rbac.submitters .Values.rbac.admissionPolicy.enabled (semverCompare "<1.30.0-0" .Capabilities.KubeVersion.Version) -}}
{{- fail "\n\nrbac.admissionPolicy needs Kubernetes 1.30: set rbac.admissionPolicy.enabled=false, and keep other Secrets in another namespace\n" -}}
{{- end -}}
{{- if and (not $store.existingSecret) (or (not $store.workloadIdentity) .Values.devStore.enabled) -}}
{{- fail "\n\nobjectStore.existingSecret is required: name a Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or set objectStore.workloadIdentity=true\n" -}}
{{- end -}}
{{- if and .Values.serviceAccount.create (eq (include "cm.serviceAccountName" .) (include "cm.headServiceAccountName" .)) -}}
{{- fail (printf "\n\nserviceAccount.name and serviceAccount.headName are both %q: KubeRay lets the second one change Ray clusters, which jobs must not\n" (include "cm.serviceAccountName" .)) -}}
{{- end -}}
{{- include "cm.checkWaysIn" . -}}
{{- include "cm.checkNodes" . -}}
{{- if .Values.operatorCheck -}}
{{- $needed := list -}}
{{- if .Values.research.enabled }}{{ $needed = append $needed "RayCluster" }}{{ end -}}
{{- if .Values.jobs }}{{ $needed = append $needed "RayJob" }}{{ end -}}
{{- range .Values.jobs }}{{ if and (dig "enabled" true .) .schedule }}{{ $needed = append $needed "RayCronJob" }}{{ end }}{{ end -}}
{{- if .Values.endpoint.enabled }}{{ $needed = append $needed "RayService" }}{{ end -}}
{{- range uniq $needed -}}
{{- if not ($.Capabilities.APIVersions.Has (printf "ray.io/v1/%s" .)) -}}
{{- fail (printf "\n\nThis cluster does not serve ray.io/v1 %s: install the KubeRay operator 1.7 first:\n  helm repo add kuberay https://ray-project.github.io/kuberay-helm/\n  helm install kuberay-operator kuberay/kuberay-operator --version 1.7.0 --namespace kuberay --create-namespace\nTo render without a cluster (helm template, GitOps), set operatorCheck=false.\n" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Users of the dashboard can run any code, and the explorer has no login: both are reachable from outside only through the proxy. */}}
{{- define "cm.checkWaysIn" -}}
{{- $ingress := .Values.ingress -}}
{{- range $host := list "explorerHost" "dashboardHost" -}}
{{- if and (get $ingress $host) (not $.Values.login.enabled) -}}
{{- fail (printf "\n\ningress.%s needs login.enabled=true: it is not authenticated otherwise\n" $host) -}}
{{- end -}}
{{- end -}}
{{- if and (or $ingress.explorerHost $ingress.endpointHost $ingress.dashboardHost) (not (or $ingress.tlsSecret $ingress.parentRefs)) -}}
{{- fail "\n\ningress.tlsSecret is required if a host is set: name a Secret with certificate and key, or HTTPS listeners of a Gateway in ingress.parentRefs\n" -}}
{{- end -}}
{{- if and $ingress.endpointHost (not .Values.endpoint.apiKeys.existingSecret) -}}
{{- fail "\n\ningress.endpointHost needs endpoint.apiKeys.existingSecret: without keys the endpoint is unauthenticated\n" -}}
{{- end -}}
{{- if and (include "cm.endpointScales" .) (not .Values.endpoint.apiKeys.existingSecret) -}}
{{- fail "\n\nendpoint.upgradeStrategy=NewClusterWithIncrementalUpgrade needs endpoint.apiKeys.existingSecret: KubeRay's Gateway listens without TLS, and without keys the endpoint is unauthenticated\n" -}}
{{- end -}}
{{- if and .Values.endpoint.enabled .Values.explorer.enabled .Values.endpoint.apiKeys.existingSecret (not .Values.explorer.endpointKey.existingSecret) -}}
{{- fail "\n\nexplorer.endpointKey.existingSecret is required with endpoint.apiKeys: name a Secret with the explorer's key, or set explorer.enabled=false\n" -}}
{{- end -}}
{{- range $host, $component := dict "explorerHost" "explorer" "endpointHost" "endpoint" "dashboardHost" "research" -}}
{{- if and (get $ingress $host) (not (get $.Values $component).enabled) -}}
{{- fail (printf "\n\ningress.%s has no target: %s.enabled is false\n" $host $component) -}}
{{- end -}}
{{- end -}}
{{- if .Values.login.enabled -}}
{{- if not .Values.login.issuerUrl }}{{ fail "\n\nlogin.issuerUrl is required if login.enabled\n" }}{{ end -}}
{{- if not .Values.login.existingSecret }}{{ fail "\n\nlogin.existingSecret is required: name a Secret with client-id, client-secret and cookie-secret\n" }}{{ end -}}
{{- if not (or .Values.login.emailDomains .Values.login.allowedGroups) -}}
{{- fail "\n\nlogin.emailDomains or login.allowedGroups is required: without them every user of the issuer can log in\n" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* `component: host` of each login proxy, as YAML. */}}
{{- define "cm.loginHosts" -}}
{{- if .Values.login.enabled -}}
{{- with .Values.ingress.explorerHost }}
explorer: {{ . }}
{{- end }}
{{- with .Values.ingress.dashboardHost }}
dashboard: {{ . }}
{{- end }}
{{- end -}}
{{- end -}}

{{- define "cm.loginName" -}}
{{- printf "%s-login-%s" (include "cm.fullname" .root) .part -}}
{{- end -}}

{{/* The Service of the endpoint, and its URL. With incremental upgrades KubeRay names a Service after each Ray cluster; the one that stays
     is that of the Gateway, which the controller of the GatewayClass names. */}}
{{- define "cm.endpointService" -}}
{{- if include "cm.endpointScales" . -}}
{{- required "\n\nendpoint.incrementalUpgrade.gatewayService is required for NewClusterWithIncrementalUpgrade: KubeRay creates the Gateway <endpoint>-gateway, and its controller a Service for it\n" .Values.endpoint.incrementalUpgrade.gatewayService -}}
{{- else -}}
{{- include "cm.endpointName" . }}-serve-svc
{{- end -}}
{{- end -}}

{{- define "cm.endpointPort" -}}
{{- include "cm.endpointScales" . | empty | ternary 8000 80 -}}
{{- end -}}

{{- define "cm.endpointUrl" -}}
http://{{ include "cm.endpointService" . }}:{{ include "cm.endpointPort" . }}
{{- end -}}

{{/* The number of the endpoint's workers. */}}
{{- define "cm.endpointPods" -}}
{{- $pods := 0 -}}
{{- range .Values.endpoint.workers }}{{ $pods = add $pods . }}{{ end -}}
{{- $pods -}}
{{- end -}}

{{/* "true" if the endpoint uses KubeRay's autoscaler, which an incremental upgrade needs; all other endpoints have a fixed size. */}}
{{- define "cm.endpointScales" -}}
{{- if and .Values.endpoint.enabled (eq .Values.endpoint.upgradeStrategy "NewClusterWithIncrementalUpgrade") }}true{{ end -}}
{{- end -}}

{{/* "true" if `helm test` compares live Ray objects with the release's: it needs an account of its own. */}}
{{- define "cm.testsCompare" -}}
{{- if and .Values.serviceAccount.create (or .Values.research.enabled .Values.endpoint.enabled) }}true{{ end -}}
{{- end -}}

{{/* A volume with the token of the pod's account, for a single container: its name. */}}
{{- define "cm.tokenVolume" -}}
- name: {{ . }}
  projected:
    sources:
      - serviceAccountToken:
          path: token
          expirationSeconds: 3607
      - configMap:
          name: kube-root-ca.crt
          items:
            - key: ca.crt
              path: ca.crt
      - downwardAPI:
          items:
            - path: namespace
              fieldRef:
                fieldPath: metadata.namespace
{{- end -}}

{{/* The Secrets that an object names anywhere below it, except for pulling images, one a line and sorted: the object. */}}
{{- define "cm.secretNames" -}}
{{- regexFindAll "[^ \n]+" (include "cm.eachSecretName" .) -1 | uniq | sortAlpha | join "\n" -}}
{{- end -}}

{{- define "cm.eachSecretName" -}}
{{- if kindIs "map" . }}
{{- range $key, $value := . }}
{{- if eq $key "secretName" }}
{{ $value }}
{{- else if and (has $key (list "secret" "secretKeyRef" "secretRef" "nodePublishSecretRef")) (hasKey $value "name") }}
{{ $value.name }}
{{- end }}
{{- include "cm.eachSecretName" $value }}
{{- end }}
{{- else if kindIs "slice" . }}
{{- range . }}{{ include "cm.eachSecretName" . }}{{ end }}
{{- end }}
{{- end -}}

{{/* A list of texts as CEL, without empty ones. */}}
{{- define "cm.celList" -}}
{{- $quoted := list -}}
{{- range compact . | uniq }}{{ $quoted = append $quoted (printf "'%s'" .) }}{{ end -}}
[{{ join ", " $quoted }}]
{{- end -}}
