{{/* Names of all objects begin with this: that of the release, with the chart's where it is not in it. Pods add "-0", and are
the gateway's id, so two releases that share logic services need names of their own. */}}
{{- define "gateway.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "gateway.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "gateway.labels" -}}
{{ include "gateway.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "gateway.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* What is listened on: names of listeners, then of containers' ports, of Services' ports and of the keys that set them. */}}
{{- define "gateway.listeners" -}}
quic: {protocol: UDP, variable: GATEWAY__QUIC__LISTEN}
tls: {protocol: TCP, variable: GATEWAY__TCP__TLS_LISTEN}
tcp: {protocol: TCP, variable: GATEWAY__TCP__LISTEN}
wss: {protocol: TCP, variable: GATEWAY__WEBSOCKET__TLS_LISTEN}
ws: {protocol: TCP, variable: GATEWAY__WEBSOCKET__LISTEN}
{{- end -}}

{{- define "gateway.address" -}}
{{- if contains ":" .address -}}[{{ .address }}]:{{ .port }}{{- else -}}{{ .address }}:{{ .port }}{{- end -}}
{{- end -}}

{{/* Of every container. */}}
{{- define "gateway.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}
