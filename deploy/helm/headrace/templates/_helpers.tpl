{{- define "headrace.name" -}}
{{- $name := ternary .Release.Name (printf "%s-headrace" .Release.Name) (contains "headrace" .Release.Name) }}
{{- /* Names that are made of it have 63 characters at most. */}}
{{- $name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "headrace.selector" -}}
app.kubernetes.io/name: headrace
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- with .group }}
headrace/worker-group: {{ . | quote }}
{{- end }}
{{- end }}

{{- define "headrace.labels" -}}
{{ include "headrace.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "headrace.image" -}}
{{- if .image.digest }}{{ .image.repository }}@{{ .image.digest }}
{{- else }}{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}{{ end }}
{{- end }}

{{/* Variables of several maps, of which later ones win: unlike `merge`, also with `false`. Numbers are written by toJson,
     which makes no 2e+08 of 200000000. */}}
{{- define "headrace.environment" -}}
{{- $all := dict }}
{{- range . }}
{{- range $name, $value := . }}
{{- $_ := set $all $name $value }}
{{- end }}
{{- end }}
{{- range $name, $value := $all }}
- name: {{ $name }}
  value: {{ if kindIs "string" $value }}{{ $value | quote }}{{ else }}{{ toJson $value | quote }}{{ end }}
{{- end }}
{{- end }}

{{/* A worker group with its defaults, as JSON. A merge leaves out what is empty: no replicas, no models. */}}
{{- define "headrace.worker" -}}
{{- $worker := mergeOverwrite (deepCopy .defaults) (deepCopy .own) }}
{{- range $key, $value := .own }}
{{- if not (kindIs "map" $value) }}
{{- $_ := set $worker $key $value }}
{{- end }}
{{- end }}
{{- toJson $worker }}
{{- end }}

{{/* The number of workers below which an alert fires: the least of all groups. */}}
{{- define "headrace.leastWorkers" -}}
{{- $least := 0 }}
{{- range $group, $own := .Values.workers }}
{{- if kindIs "map" $own }}
{{- $worker := include "headrace.worker" (dict "defaults" $.Values.workerDefaults "own" $own) | fromJson }}
{{- $least = add $least (eq $worker.autoscaling.type "none" | ternary $worker.replicas $worker.autoscaling.minReplicas) }}
{{- end }}
{{- end }}
{{- max 1 $least }}
{{- end }}

{{/* The Redis URL of a client, with nothing but names of secrets in it. */}}
{{- define "headrace.redisUrl" -}}
{{- $redis := .root.Values.redis }}
{{- if eq $redis.mode "single" }}
- name: REDIS_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ $redis.single.passwordsSecret | quote }}, key: {{ .user }}}}
- name: REDIS_URL
  value: redis://{{ .user }}:$(REDIS_PASSWORD)@{{ include "headrace.name" .root }}-redis:6379/0
{{- else }}
- name: REDIS_URL
  valueFrom:
    secretKeyRef:
      name: {{ $redis.existing.secret | quote }}
      key: {{ get $redis.existing (printf "%sKey" .user) | quote }}
{{- end }}
{{- end }}

{{- define "headrace.storeEnvironment" -}}
{{- $models := .Values.models }}
- name: MODEL_STORE
  value: {{ if eq $models.store "url" }}{{ $models.url.address | quote }}{{ else }}/models{{ end }}
{{- end }}

{{- define "headrace.publicKeysEnvironment" -}}
{{- if .Values.models.publicKeysConfigMap }}
- name: MODEL_PUBLIC_KEY
  value: /public-keys/model.pub
{{- end }}
{{- end }}

{{- define "headrace.credentials" -}}
{{- with .Values.models }}
{{- if and (eq .store "url") .url.credentialsSecret }}
envFrom:
  - secretRef: {name: {{ .url.credentialsSecret | quote }}}
{{- end }}
{{- end }}
{{- end }}

{{/* Mounts and volumes that gateway and workers share. */}}
{{- define "headrace.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if eq .Values.models.store "volume" }}
- {name: models, mountPath: /models, readOnly: true}
{{- end }}
{{- if .Values.models.publicKeysConfigMap }}
- {name: public-keys, mountPath: /public-keys, readOnly: true}
{{- end }}
{{- if and (eq .Values.redis.mode "existing") .Values.redis.existing.caSecret }}
- {name: redis-ca, mountPath: /tls, readOnly: true}
{{- end }}
{{- end }}

{{- define "headrace.volumes" -}}
- name: tmp
  emptyDir: {medium: Memory, sizeLimit: 64Mi}
{{- include "headrace.storeVolume" (dict "root" . "readOnly" true) }}
{{- with .Values.models.publicKeysConfigMap }}
- name: public-keys
  configMap: {name: {{ . | quote }}}
{{- end }}
{{- if and (eq .Values.redis.mode "existing") .Values.redis.existing.caSecret }}
- name: redis-ca
  secret: {secretName: {{ .Values.redis.existing.caSecret | quote }}, items: [{key: ca.pem, path: ca.pem}]}
{{- end }}
{{- end }}

{{- define "headrace.storeVolume" -}}
{{- if eq .root.Values.models.store "volume" }}
- name: models
  persistentVolumeClaim:
    claimName: {{ .root.Values.models.volume.existingClaim | default (printf "%s-models" (include "headrace.name" .root)) | quote }}
{{- if .readOnly }}
    readOnly: true
{{- end }}
{{- end }}
{{- end }}

{{/* The first lines of every pod's spec. Service links would set variables such as GATEWAY_PORT. */}}
{{- define "headrace.pod" -}}
serviceAccountName: {{ include "headrace.name" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.images.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . | quote }}
{{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .user | default 10001 }}
  runAsGroup: {{ .group | default 10001 }}
  fsGroup: {{ .group | default 10001 }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "headrace.container" -}}
imagePullPolicy: {{ .Values.images.pullPolicy | quote }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- define "headrace.placement" -}}
topologySpreadConstraints:
{{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "headrace.selector" $.labels | nindent 8 }}
{{- end }}
{{- range $field := list "nodeSelector" "tolerations" "affinity" }}
{{- with get $.values $field }}
{{ $field }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}
