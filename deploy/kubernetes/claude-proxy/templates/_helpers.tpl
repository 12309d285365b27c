{{- define "claude-proxy.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 63 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "claude-proxy.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "claude-proxy.labels" -}}
{{ include "claude-proxy.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "claude-proxy.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "claude-proxy.name" .) }}{{ else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{- define "claude-proxy.secret" -}}
{{ .Values.existingSecret | default (include "claude-proxy.name" .) }}
{{- end }}

{{- define "claude-proxy.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* The names under which clients call it: ALLOWED_HOSTS and those of the ingresses. */}}
{{- define "claude-proxy.hosts" -}}
{{- $hosts := list -}}
{{- with .Values.config.ALLOWED_HOSTS }}{{ $hosts = append $hosts . }}{{ end -}}
{{- if .Values.ingress.enabled }}{{ $hosts = concat $hosts .Values.ingress.hosts }}{{ end -}}
{{- if .Values.ingressRoute.enabled }}{{ $hosts = concat $hosts .Values.ingressRoute.hosts }}{{ end -}}
{{ $hosts | uniq | join "," }}
{{- end }}
