{{/* What the schema can refuse but not explain, for each node: variables as Kubernetes' list, a name of a volume that is taken, a mount without
     its volume. The argument is the root. */}}
{{- define "cm.checkNodes" -}}
{{- $nodes := dict "head" .Values.head "explorer" .Values.explorer -}}
{{- range $group, $node := .Values.workerGroups }}{{ $_ := set $nodes (printf "workerGroups.%s" $group) $node }}{{ end -}}
{{- range $where, $node := merge (dict "login" .Values.login "rdma" .Values.rdma) $nodes -}}
{{- if kindIs "slice" $node.env -}}
{{- fail (printf "\n\n%s.env is a list; it maps each variable to its text, such as {HTTPS_PROXY: http://proxy:3128}. Variables from Secrets and ConfigMaps go to envFrom\n" $where) -}}
{{- end -}}
{{- end -}}
{{- $taken := list "tmp" "home" "store-ca" "ray-logs" "shared-mem" "api-keys" "autoscaler-token" "artifact-cache" -}}
{{- range $where, $node := $nodes -}}
{{- $own := list -}}
{{- range $number, $volume := $node.volumes -}}
{{- if has $volume.name $taken -}}
{{- fail (printf "\n\n%s.volumes[%d].name %q is taken by a volume of the chart; choose a name other than %s\n" $where $number $volume.name (join ", " $taken)) -}}
{{- end -}}
{{- if has $volume.name $own -}}
{{- fail (printf "\n\n%s.volumes[%d].name %q is there twice\n" $where $number $volume.name) -}}
{{- end -}}
{{- $own = append $own $volume.name -}}
{{- end -}}
{{- range $number, $mount := $node.volumeMounts -}}
{{- if not (has $mount.name (concat $own $taken)) -}}
{{- fail (printf "\n\n%s.volumeMounts[%d].name %q is not in %s.volumes, which has: %s\n" $where $number $mount.name $where (join ", " $own | default "none")) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
