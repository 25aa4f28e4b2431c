{{/* A Grafana dashboard as JSON from a file of dashboards/, with two panels in a row and a variable for the namespace. */}}
{{- define "cm.dashboard" -}}
{{- $source := dict "type" "prometheus" "uid" "${datasource}" -}}
{{- $panels := list -}}
{{- range $number, $panel := .panels -}}
{{- $targets := list -}}
{{- range $legend, $expression := $panel.series -}}
{{- $targets = append $targets (dict "expr" $expression "legendFormat" $legend "refId" (printf "q%d" (len $targets)) "datasource" $source) -}}
{{- end -}}
{{- $place := dict "h" 8 "w" 12 "x" (mul 12 (mod $number 2)) "y" (mul 8 (div $number 2)) -}}
{{- $defaults := dict "unit" $panel.unit "min" 0 -}}
{{- $panels = append $panels (dict "id" (add1 $number) "type" "timeseries" "title" $panel.title "datasource" $source "targets" $targets "gridPos" $place "fieldConfig" (dict "defaults" $defaults "overrides" list)) -}}
{{- end -}}
{{- $datasource := dict "name" "datasource" "type" "datasource" "query" "prometheus" -}}
{{- $namespace := dict "name" "namespace" "type" "query" "datasource" $source "query" "label_values(ray_node_cpu_count, namespace)" "refresh" 2 -}}
{{- dict "title" .title "uid" .uid "tags" (list "clinical-modernbert") "schemaVersion" 39 "editable" false "refresh" "30s" "time" (dict "from" "now-3h" "to" "now") "templating" (dict "list" (list $datasource $namespace)) "panels" $panels | toPrettyJson -}}
{{- end -}}
