{{/*
The objects of one of the files that kustomize uses, too, as a list in YAML under `items`: each in its namespace, with
the label of all. Context: (dict "root" $ "file" PATH).
*/}}
{{- define "quarterdeck.objects" -}}
{{- $clusterWide := list "Namespace" "ClusterRole" "ClusterRoleBinding" "PriorityClass" "MutatingWebhookConfiguration" "ValidatingWebhookConfiguration" "ValidatingAdmissionPolicy" "ValidatingAdmissionPolicyBinding" "APIService" "ResourceFlavor" "ClusterQueue" "ManagedClusterSet" "WorkloadPriorityClass" "CustomResourceDefinition" -}}
{{- $items := list -}}
{{- range $document := splitList "\n---\n" (printf "\n%s" (required (printf "no file %s in this chart" .file) (.root.Files.Get .file))) -}}
{{- $object := fromYaml $document -}}
{{- if $object.kind -}}
{{- if and (not $object.metadata.namespace) (not (has $object.kind $clusterWide)) -}}
{{- $_ := set $object.metadata "namespace" $.namespace -}}
{{- end -}}
{{- if $.label -}}
{{- $_ := set $object.metadata "labels" (merge (dict "app.kubernetes.io/part-of" "quarterdeck") ($object.metadata.labels | default dict)) -}}
{{- end -}}
{{- $items = append $items $object -}}
{{- end -}}
{{- end -}}
{{- dict "items" $items | toYaml -}}
{{- end -}}
