"""The messages of Kubernetes' protobuf that clients send here, as a table: ``NUMBER NAME TYPE``, comma-separated.

Types: str, int, bool, bytes, Time, MicroTime, ``map<TYPE>``, or another message; ``[]`` is repeated, ``?`` a pointer
(its zero means something). Only what requests carry; what is not here is not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

KINDS: Final[Mapping[tuple[str, str], str]] = {
    ("", "Namespace"): "Namespace",
    ("", "ConfigMap"): "ConfigMap",
    ("", "Secret"): "Secret",
    ("", "ServiceAccount"): "ServiceAccount",
    ("", "Service"): "Service",
    ("", "Pod"): "Pod",
    ("", "Event"): "CoreEvent",
    ("", "DeleteOptions"): "DeleteOptions",
    # Sent with the version of what is to be deleted.
    ("*", "DeleteOptions"): "DeleteOptions",
    ("events.k8s.io", "Event"): "Event",
    ("coordination.k8s.io", "Lease"): "Lease",
    ("batch", "Job"): "Job",
    ("apps", "Deployment"): "Deployment",
    ("scheduling.k8s.io", "PriorityClass"): "PriorityClass",
    ("certificates.k8s.io", "CertificateSigningRequest"): "CertificateSigningRequest",
    ("authentication.k8s.io", "TokenRequest"): "TokenRequest",
    ("authentication.k8s.io", "TokenReview"): "TokenReview",
    ("authentication.k8s.io", "SelfSubjectReview"): "OnlyMetadata",
    ("authorization.k8s.io", "SubjectAccessReview"): "SubjectAccessReview",
    ("authorization.k8s.io", "LocalSubjectAccessReview"): "SubjectAccessReview",
    ("authorization.k8s.io", "SelfSubjectAccessReview"): "SelfSubjectAccessReview",
    ("authorization.k8s.io", "SelfSubjectRulesReview"): "SelfSubjectRulesReview",
    ("rbac.authorization.k8s.io", "Role"): "Role",
    ("rbac.authorization.k8s.io", "ClusterRole"): "ClusterRole",
    ("rbac.authorization.k8s.io", "RoleBinding"): "RoleBinding",
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): "RoleBinding",
}

# Described as far as `kubectl create` and `kubectl run` fill them: their other fields are refused, never dropped.
PARTIAL: Final = frozenset({"PodSpec", "Container", "EnvVar", "ServiceSpec", "DeploymentSpec", "JobSpec"})

MESSAGES: Final[Mapping[str, str]] = {
    "TypeMeta": "1 apiVersion str,2 kind str",
    "Timestamp": "1 seconds int,2 nanos int",
    "Quantity": "1 string str",
    "IntOrString": "1 type int,2 number int,3 text str",
    "ExtraValue": "1 items str[]",
    "ObjectMeta": (
        "1 name str,2 generateName str,3 namespace str,4 selfLink str,5 uid str,6 resourceVersion str,"
        "7 generation int,8 creationTimestamp Time,9 deletionTimestamp Time,10 deletionGracePeriodSeconds int?,"
        "11 labels map<str>,12 annotations map<str>,13 ownerReferences OwnerReference[],14 finalizers str[],"
        "17 managedFields ManagedFields[]"
    ),
    "OwnerReference": (
        "1 kind str,3 name str,4 uid str,5 apiVersion str,6 controller bool?,7 blockOwnerDeletion bool?"
    ),
    "ManagedFields": (
        "1 manager str,2 operation str,3 apiVersion str,4 time Time,6 fieldsType str,7 fieldsV1 RawFields,"
        "8 subresource str"
    ),
    "RawFields": "1 raw bytes",
    "OnlyMetadata": "1 metadata ObjectMeta",
    "DeleteOptions": (
        "1 gracePeriodSeconds int?,2 preconditions Preconditions,3 orphanDependents bool?,"
        "4 propagationPolicy str?,5 dryRun str[]"
    ),
    "Preconditions": "1 uid str?,2 resourceVersion str?",
    "ObjectReference": (
        "1 kind str,2 namespace str,3 name str,4 uid str,5 apiVersion str,6 resourceVersion str,7 fieldPath str"
    ),
    "LocalObjectReference": "1 name str",
    "LabelSelector": "1 matchLabels map<str>,2 matchExpressions LabelRequirement[]",
    "LabelRequirement": "1 key str,2 operator str,3 values str[]",
    "Condition": (
        "1 type str,2 status str,3 observedGeneration int,4 lastTransitionTime Time,5 reason str,6 message str"
    ),
    "Namespace": "1 metadata ObjectMeta,2 spec NamespaceSpec,3 status NamespaceStatus",
    "NamespaceSpec": "1 finalizers str[]",
    "NamespaceStatus": "1 phase str,2 conditions Condition[]",
    "ConfigMap": "1 metadata ObjectMeta,2 data map<str>,3 binaryData map<bytes>,4 immutable bool?",
    "Secret": "1 metadata ObjectMeta,2 data map<bytes>,3 type str,4 stringData map<str>,5 immutable bool?",
    "ServiceAccount": (
        "1 metadata ObjectMeta,2 secrets ObjectReference[],3 imagePullSecrets LocalObjectReference[],"
        "4 automountServiceAccountToken bool?"
    ),
    "Lease": "1 metadata ObjectMeta,2 spec LeaseSpec",
    "LeaseSpec": (
        "1 holderIdentity str?,2 leaseDurationSeconds int?,3 acquireTime MicroTime,4 renewTime MicroTime,"
        "5 leaseTransitions int?,6 strategy str?,7 preferredHolder str?"
    ),
    "CoreEvent": (
        "1 metadata ObjectMeta,2 involvedObject ObjectReference,3 reason str,4 message str,5 source EventSource,"
        "6 firstTimestamp Time,7 lastTimestamp Time,8 count int,9 type str,10 eventTime MicroTime,"
        "11 series EventSeries,12 action str,13 related ObjectReference,14 reportingComponent str,"
        "15 reportingInstance str"
    ),
    "Event": (
        "1 metadata ObjectMeta,2 eventTime MicroTime,3 series EventSeries,4 reportingController str,"
        "5 reportingInstance str,6 action str,7 reason str,8 regarding ObjectReference,9 related ObjectReference,"
        "10 note str,11 type str,12 deprecatedSource EventSource,13 deprecatedFirstTimestamp Time,"
        "14 deprecatedLastTimestamp Time,15 deprecatedCount int"
    ),
    "EventSource": "1 component str,2 host str",
    "EventSeries": "1 count int,2 lastObservedTime MicroTime",
    "PriorityClass": (
        "1 metadata ObjectMeta,2 value int?,3 globalDefault bool,4 description str,5 preemptionPolicy str?"
    ),
    "Service": "1 metadata ObjectMeta,2 spec ServiceSpec",
    "ServiceSpec": (
        "1 ports ServicePort[],2 selector map<str>,3 clusterIP str,4 type str,5 externalIPs str[],"
        "7 sessionAffinity str,8 loadBalancerIP str,9 loadBalancerSourceRanges str[],10 externalName str,"
        "11 externalTrafficPolicy str,12 healthCheckNodePort int,13 publishNotReadyAddresses bool"
    ),
    "ServicePort": "1 name str,2 protocol str,3 port int,4 targetPort IntOrString,5 nodePort int,6 appProtocol str?",
    "Pod": "1 metadata ObjectMeta,2 spec PodSpec",
    "Job": "1 metadata ObjectMeta,2 spec JobSpec",
    "JobSpec": (
        "1 parallelism int?,2 completions int?,3 activeDeadlineSeconds int?,4 selector LabelSelector,"
        "5 manualSelector bool?,6 template PodTemplate,7 backoffLimit int?,8 ttlSecondsAfterFinished int?,"
        "9 completionMode str?,10 suspend bool?,12 backoffLimitPerIndex int?,13 maxFailedIndexes int?,"
        "14 podReplacementPolicy str?,15 managedBy str?"
    ),
    "Deployment": "1 metadata ObjectMeta,2 spec DeploymentSpec",
    "DeploymentSpec": (
        "1 replicas int?,2 selector LabelSelector,3 template PodTemplate,4 strategy DeploymentStrategy,"
        "5 minReadySeconds int,6 revisionHistoryLimit int?,7 paused bool,9 progressDeadlineSeconds int?"
    ),
    "DeploymentStrategy": "1 type str,2 rollingUpdate RollingUpdate",
    "RollingUpdate": "1 maxUnavailable IntOrString,2 maxSurge IntOrString",
    "PodTemplate": "1 metadata ObjectMeta,2 spec PodSpec",
    "PodSpec": (
        "2 containers Container[],3 restartPolicy str,4 terminationGracePeriodSeconds int?,"
        "5 activeDeadlineSeconds int?,6 dnsPolicy str,7 nodeSelector map<str>,8 serviceAccountName str,"
        "9 serviceAccount str,10 nodeName str,11 hostNetwork bool,12 hostPID bool,13 hostIPC bool,"
        "15 imagePullSecrets LocalObjectReference[],16 hostname str,17 subdomain str,19 schedulerName str,"
        "20 initContainers Container[],21 automountServiceAccountToken bool?,22 tolerations Toleration[],"
        "24 priorityClassName str,25 priority int?,27 shareProcessNamespace bool?,29 runtimeClassName str?,"
        "30 enableServiceLinks bool?,31 preemptionPolicy str?"
    ),
    "Toleration": "1 key str,2 operator str,3 value str,4 effect str,5 tolerationSeconds int?",
    "Container": (
        "1 name str,2 image str,3 command str[],4 args str[],5 workingDir str,6 ports ContainerPort[],"
        "7 env EnvVar[],8 resources Resources,13 terminationMessagePath str,14 imagePullPolicy str,16 stdin bool,"
        "17 stdinOnce bool,18 tty bool,20 terminationMessagePolicy str"
    ),
    "ContainerPort": "1 name str,2 hostPort int,3 containerPort int,4 protocol str,5 hostIP str",
    "EnvVar": "1 name str,2 value str",
    "Resources": "1 limits map<Quantity>,2 requests map<Quantity>",
    "CertificateSigningRequest": "1 metadata ObjectMeta,2 spec CSRSpec,3 status CSRStatus",
    "CSRSpec": (
        "1 request bytes,2 username str,3 uid str,4 groups str[],5 usages str[],6 extra map<ExtraValue>,"
        "7 signerName str,8 expirationSeconds int?"
    ),
    "CSRStatus": "1 conditions CSRCondition[],2 certificate bytes",
    "CSRCondition": (
        "1 type str,2 reason str,3 message str,4 lastUpdateTime Time,5 lastTransitionTime Time,6 status str"
    ),
    "TokenRequest": "1 metadata ObjectMeta,2 spec TokenRequestSpec,3 status TokenRequestStatus",
    "TokenRequestSpec": "1 audiences str[],3 boundObjectRef BoundObject,4 expirationSeconds int?",
    "BoundObject": "1 kind str,2 apiVersion str,3 name str,4 uid str",
    "TokenRequestStatus": "1 token str,2 expirationTimestamp Time",
    "TokenReview": "1 metadata ObjectMeta,2 spec TokenReviewSpec",
    "TokenReviewSpec": "1 token str,2 audiences str[]",
    "SubjectAccessReview": "1 metadata ObjectMeta,2 spec SubjectAccess,3 status AccessStatus",
    "SubjectAccess": (
        "1 resourceAttributes ResourceAttributes,2 nonResourceAttributes NonResource,3 user str,4 groups str[],"
        "5 extra map<ExtraValue>,6 uid str"
    ),
    "SelfSubjectAccessReview": "1 metadata ObjectMeta,2 spec SelfSubjectAccess,3 status AccessStatus",
    "SelfSubjectAccess": "1 resourceAttributes ResourceAttributes,2 nonResourceAttributes NonResource",
    "SelfSubjectRulesReview": "1 metadata ObjectMeta,2 spec SelfSubjectRules",
    "SelfSubjectRules": "1 namespace str",
    "ResourceAttributes": (
        "1 namespace str,2 verb str,3 group str,4 version str,5 resource str,6 subresource str,7 name str"
    ),
    "NonResource": "1 path str,2 verb str",
    "AccessStatus": "1 allowed bool,2 reason str,3 evaluationError str,4 denied bool",
    "Role": "1 metadata ObjectMeta,2 rules PolicyRule[]",
    "ClusterRole": "1 metadata ObjectMeta,2 rules PolicyRule[],3 aggregationRule AggregationRule",
    "AggregationRule": "1 clusterRoleSelectors LabelSelector[]",
    "PolicyRule": "1 verbs str[],2 apiGroups str[],3 resources str[],4 resourceNames str[],5 nonResourceURLs str[]",
    "RoleBinding": "1 metadata ObjectMeta,2 subjects Subject[],3 roleRef RoleRef",
    "Subject": "1 kind str,2 apiGroup str,3 name str,4 namespace str",
    "RoleRef": "1 apiGroup str,2 kind str,3 name str",
}
