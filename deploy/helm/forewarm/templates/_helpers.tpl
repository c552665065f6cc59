{{/* Names. "." is the root everywhere; parts are given by a dict of root, part (as in names) and values. */}}

{{- define "forewarm.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "forewarm.name" -}}
{{ include "forewarm.fullname" .root }}-{{ .part }}
{{- end -}}

{{- define "forewarm.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end -}}

{{- define "forewarm.labels" -}}
{{ include "forewarm.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | quote }}
{{- end -}}

{{- define "forewarm.meta" -}}
metadata:
  name: {{ include "forewarm.name" . }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "forewarm.labels" . | nindent 4 }}
{{- end -}}

{{/* The same for what has no namespace: two releases in two namespaces must not meet. */}}
{{- define "forewarm.clusterName" -}}
{{ .root.Release.Namespace }}-{{ include "forewarm.name" . }}
{{- end -}}

{{- define "forewarm.clusterMeta" -}}
metadata:
  name: {{ include "forewarm.clusterName" . }}
  labels: {{- include "forewarm.labels" . | nindent 4 }}
{{- end -}}

{{- define "forewarm.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What every pod has but its containers: at most what the restricted Pod Security Standard allows. */}}
{{- define "forewarm.pod" -}}
serviceAccountName: {{ include "forewarm.name" . }}
automountServiceAccountToken: {{ .token }}
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
{{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
- topologyKey: {{ $key }}
  maxSkew: 1
  whenUnsatisfiable: ScheduleAnyway
  matchLabelKeys: [pod-template-hash]
  labelSelector:
    matchLabels: {{- include "forewarm.selector" $ | nindent 6 }}
{{- end }}
{{- end -}}

{{/* What every container has but its arguments, ports and probes. */}}
{{- define "forewarm.container" -}}
name: {{ .part }}
image: {{ include "forewarm.image" .root | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
resources: {{- toYaml .values.resources | nindent 2 }}
{{- end -}}

{{- define "forewarm.log" -}}
- --log={{ .Values.log.filter }}
- --log-format={{ .Values.log.format }}
{{- end -}}

{{- define "forewarm.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: {{ . }}}
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: {{ . }}}
  periodSeconds: 10
readinessProbe:
  httpGet: {path: /readyz, port: {{ . }}}
  periodSeconds: 2
{{- end -}}

{{/* New pods first, then old ones go: there are never fewer than there should be. */}}
{{- define "forewarm.rollout" -}}
replicas: {{ .values.replicas }}
strategy:
  type: RollingUpdate
  rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
selector:
  matchLabels: {{- include "forewarm.selector" . | nindent 4 }}
{{- end -}}

{{- define "forewarm.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
{{ include "forewarm.meta" . }}
{{- with (.values.serviceAccount).annotations }}
  annotations: {{- toYaml . | nindent 4 }}
{{- end }}
automountServiceAccountToken: false
{{- end -}}

{{/* With one replica it would only stand in the way of whoever drains the node. */}}
{{- define "forewarm.disruptions" -}}
{{- if gt (int .values.replicas) 1 }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
{{ include "forewarm.meta" . }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels: {{- include "forewarm.selector" . | nindent 6 }}
{{- end }}
{{- end -}}

{{- define "forewarm.serviceMonitor" -}}
{{- if .root.Values.serviceMonitor.enabled }}
---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: {{ include "forewarm.name" . }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "forewarm.labels" . | nindent 4 }}
    {{- with .root.Values.serviceMonitor.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  endpoints:
  - port: {{ .port }}
    interval: {{ .root.Values.serviceMonitor.interval }}
  selector:
    matchLabels:
      {{- include "forewarm.selector" . | nindent 6 }}
      forewarm.dev/metrics: "true"
{{- end }}
{{- end -}}

{{/* Who may read /metrics at a port. */}}
{{- define "forewarm.scrapeRule" -}}
- ports: [{port: {{ .port }}, protocol: TCP}]
{{- with .root.Values.networkPolicy.scrapers }}
  from: {{- toYaml . | nindent 4 }}
{{- end }}
{{- end -}}

{{- define "forewarm.controlToken" -}}
- name: FOREWARM_CONTROL_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ .Values.gateway.controlTokenSecret | default (printf "%s-control" (include "forewarm.name" (dict "root" . "part" "gateway"))) }}
      key: token
{{- end -}}
