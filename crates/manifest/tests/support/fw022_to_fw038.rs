//! The table of manifests, FW022 to FW038.

use super::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        code: "FW022",
        path: "spec.behavior.scaleUp.stabilizationWindowSeconds",
        bad: r##"# an HPA
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: hpa}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: app}
  minReplicas: 1
  maxReplicas: 8
  metrics:
    - {type: Pods, pods: {metric: {name: running_requests}, target: {type: AverageValue, averageValue: "5"}}}
  behavior:
    scaleUp:
      stabilizationWindowSeconds: 30
"##,
        good: r##"# an HPA
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: hpa}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: app}
  minReplicas: 1
  maxReplicas: 8
  metrics:
    - {type: Pods, pods: {metric: {name: running_requests}, target: {type: AverageValue, averageValue: "5"}}}
  behavior:
    scaleUp:
      stabilizationWindowSeconds: 0
"##,
    },
    Case {
        code: "FW023",
        path: "spec.behavior.scaleDown.stabilizationWindowSeconds",
        bad: r##"# an HPA
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: hpa}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: app}
  minReplicas: 1
  maxReplicas: 8
  metrics:
    - {type: Pods, pods: {metric: {name: running_requests}, target: {type: AverageValue, averageValue: "5"}}}
  behavior:
    scaleDown:
      stabilizationWindowSeconds: 60
"##,
        good: r##"# an HPA
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: hpa}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: app}
  minReplicas: 1
  maxReplicas: 8
  metrics:
    - {type: Pods, pods: {metric: {name: running_requests}, target: {type: AverageValue, averageValue: "5"}}}
  behavior:
    scaleDown:
      stabilizationWindowSeconds: 600
"##,
    },
    Case {
        code: "FW024",
        path: "spec.metrics[0].resource.name",
        bad: r##"# an HPA
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: hpa}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: app}
  minReplicas: 1
  maxReplicas: 8
  metrics:
    - {type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 70}}}
"##,
        good: r##"# an HPA
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: hpa}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: app}
  minReplicas: 1
  maxReplicas: 8
  metrics:
    - {type: Pods, pods: {metric: {name: running_requests}, target: {type: AverageValue, averageValue: "5"}}}
"##,
    },
    Case {
        code: "FW025",
        path: "spec.minReplicas",
        bad: r##"# an HPA
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: hpa}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: app}
  minReplicas: 0
  maxReplicas: 8
  metrics:
    - {type: Pods, pods: {metric: {name: running_requests}, target: {type: AverageValue, averageValue: "5"}}}
"##,
        good: r##"# an HPA
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: hpa}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: app}
  minReplicas: 0
  maxReplicas: 8
  metrics:
    - {type: External, external: {metric: {name: q}, target: {type: AverageValue, averageValue: "5"}}}
"##,
    },
    Case {
        code: "FW026",
        path: "spec.metrics[0].external.target.type",
        bad: r##"# an HPA
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: hpa}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: app}
  minReplicas: 1
  maxReplicas: 8
  metrics:
    - {type: External, external: {metric: {name: q}, target: {type: Value, value: "5"}}}
"##,
        good: r##"# an HPA
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: hpa}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: app}
  minReplicas: 1
  maxReplicas: 8
  metrics:
    - {type: External, external: {metric: {name: q}, target: {type: AverageValue, averageValue: "5"}}}
"##,
    },
    Case {
        code: "FW027",
        path: "spec.behavior.scaleDown.selectPolicy",
        bad: r##"# an HPA
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: hpa}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: app}
  minReplicas: 1
  maxReplicas: 8
  metrics:
    - {type: Pods, pods: {metric: {name: running_requests}, target: {type: AverageValue, averageValue: "5"}}}
  behavior:
    scaleDown: {selectPolicy: Disabled}
"##,
        good: r##"# an HPA
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: hpa}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: app}
  minReplicas: 1
  maxReplicas: 8
  metrics:
    - {type: Pods, pods: {metric: {name: running_requests}, target: {type: AverageValue, averageValue: "5"}}}
  behavior:
    scaleDown: {selectPolicy: Max}
"##,
    },
    Case {
        code: "FW029",
        path: "spec.triggers[0].metadata",
        bad: r##"kind: ScaledObject
metadata:
  name: so
spec:
  scaleTargetRef:
    name: app
  maxReplicaCount: 10
  triggers:
    - type: prometheus
      metadata:
        # where it is asked
        serverAddress: http://prometheus:9090
        query: sum(vllm:num_requests_waiting)
"##,
        good: r##"kind: ScaledObject
metadata:
  name: so
spec:
  scaleTargetRef:
    name: app
  maxReplicaCount: 10
  triggers:
    - type: prometheus
      metadata:
        # where it is asked
        serverAddress: http://prometheus:9090
        query: sum(vllm:num_requests_waiting)
        threshold: "5"
"##,
    },
    Case {
        code: "FW030",
        path: "spec.cooldownPeriod",
        bad: r##"kind: ScaledObject
metadata:
  name: so
spec:
  scaleTargetRef:
    name: app
  # how long
  minReplicaCount: 1
  cooldownPeriod: 300
  maxReplicaCount: 10
  triggers:
    - type: prometheus
      metadata:
        # where it is asked
        serverAddress: http://prometheus:9090
        query: sum(vllm:num_requests_waiting)
        threshold: "5"
"##,
        good: r##"kind: ScaledObject
metadata:
  name: so
spec:
  scaleTargetRef:
    name: app
  minReplicaCount: 0
  cooldownPeriod: 300
  maxReplicaCount: 10
  triggers:
    - type: prometheus
      metadata:
        # where it is asked
        serverAddress: http://prometheus:9090
        query: sum(vllm:num_requests_waiting)
        threshold: "5"
"##,
    },
    Case {
        code: "FW031",
        path: "spec.triggers[0].metadata.metricName",
        bad: r##"kind: ScaledObject
metadata:
  name: so
spec:
  scaleTargetRef:
    name: app
  maxReplicaCount: 10
  triggers:
    - type: prometheus
      metadata:
        # where it is asked
        serverAddress: http://prometheus:9090
        query: sum(vllm:num_requests_waiting)
        threshold: "5"
        metricName: queue
"##,
        good: r##"kind: ScaledObject
metadata:
  name: so
spec:
  scaleTargetRef:
    name: app
  maxReplicaCount: 10
  triggers:
    - type: prometheus
      metadata:
        # where it is asked
        serverAddress: http://prometheus:9090
        query: sum(vllm:num_requests_waiting)
        threshold: "5"
"##,
    },
    Case {
        code: "FW032",
        path: "spec.triggers[0].metadata.query",
        bad: r##"kind: ScaledObject
metadata:
  name: so
spec:
  scaleTargetRef:
    name: app
  maxReplicaCount: 10
  triggers:
    - type: prometheus
      metadata:
        # where it is asked
        serverAddress: http://prometheus:9090
        query: sum(vllm:num_requests_waiting)
        threshold: "5"
"##,
        good: r##"kind: ScaledObject
metadata:
  name: so
spec:
  scaleTargetRef:
    name: app
  maxReplicaCount: 10
  triggers:
    - type: prometheus
      metadata:
        # where it is asked
        serverAddress: http://prometheus:9090
        query: sum(vllm:num_requests_waiting)
        threshold: "5"
        ignoreNullValues: "false"
"##,
    },
    Case {
        code: "FW033",
        path: "spec.triggers",
        bad: r##"kind: ScaledObject
metadata:
  name: so
spec:
  scaleTargetRef:
    name: app
  maxReplicaCount: 10
  triggers:
    - type: prometheus
      metadata:
        # where it is asked
        serverAddress: http://prometheus:9090
        query: sum(vllm:num_requests_waiting)
        threshold: "5"
"##,
        good: r##"kind: ScaledObject
metadata:
  name: so
spec:
  scaleTargetRef:
    name: app
  fallback: {failureThreshold: 3, replicas: 2}
  maxReplicaCount: 10
  triggers:
    - type: prometheus
      metadata:
        # where it is asked
        serverAddress: http://prometheus:9090
        query: sum(vllm:num_requests_waiting)
        threshold: "5"
"##,
    },
    Case {
        code: "FW034",
        path: "spec.pollingInterval",
        bad: r##"kind: ScaledObject
metadata:
  name: so
spec:
  scaleTargetRef:
    name: app
  minReplicaCount: 1
  pollingInterval: 5 # fast
  maxReplicaCount: 10
  triggers:
    - type: prometheus
      metadata:
        # where it is asked
        serverAddress: http://prometheus:9090
        query: sum(vllm:num_requests_waiting)
        threshold: "5"
"##,
        good: r##"kind: ScaledObject
metadata:
  name: so
spec:
  scaleTargetRef:
    name: app
  minReplicaCount: 0
  pollingInterval: 5
  maxReplicaCount: 10
  triggers:
    - type: prometheus
      metadata:
        # where it is asked
        serverAddress: http://prometheus:9090
        query: sum(vllm:num_requests_waiting)
        threshold: "5"
"##,
    },
    Case {
        code: "FW035",
        path: "spec.triggers[0].metadata.threshold",
        bad: r##"kind: ScaledObject
metadata:
  name: so
spec:
  scaleTargetRef:
    name: app
  maxReplicaCount: 10
  triggers:
    - type: prometheus
      metadata:
        # where it is asked
        serverAddress: http://prometheus:9090
        query: sum(vllm:num_requests_waiting)
        threshold: 5
"##,
        good: r##"kind: ScaledObject
metadata:
  name: so
spec:
  scaleTargetRef:
    name: app
  maxReplicaCount: 10
  triggers:
    - type: prometheus
      metadata:
        # where it is asked
        serverAddress: http://prometheus:9090
        query: sum(vllm:num_requests_waiting)
        threshold: "5"
"##,
    },
    Case {
        code: "FW036",
        path: "spec",
        bad: r##"kind: ScaledObject
metadata:
  name: so
spec:
  scaleTargetRef:
    name: app
  maxReplicaCount: 10
  triggers:
    - type: prometheus
      metadata:
        # where it is asked
        serverAddress: http://prometheus:9090
        query: sum(vllm:num_requests_waiting)
        threshold: "5"
"##,
        good: r##"kind: ScaledObject
metadata:
  name: so
spec:
  scaleTargetRef:
    name: app
  minReplicaCount: 0
  maxReplicaCount: 10
  triggers:
    - type: prometheus
      metadata:
        # where it is asked
        serverAddress: http://prometheus:9090
        query: sum(vllm:num_requests_waiting)
        threshold: "5"
"##,
    },
    Case {
        code: "FW037",
        path: "metadata.annotations.autoscaling.keda.sh/paused",
        bad: r##"kind: ScaledObject
metadata:
  name: so
  annotations: {autoscaling.keda.sh/paused: "no"}
spec:
  scaleTargetRef:
    name: app
  maxReplicaCount: 10
  triggers:
    - type: prometheus
      metadata:
        # where it is asked
        serverAddress: http://prometheus:9090
        query: sum(vllm:num_requests_waiting)
        threshold: "5"
"##,
        good: r##"kind: ScaledObject
metadata:
  name: so
  annotations: {autoscaling.keda.sh/paused: "false"}
spec:
  scaleTargetRef:
    name: app
  maxReplicaCount: 10
  triggers:
    - type: prometheus
      metadata:
        # where it is asked
        serverAddress: http://prometheus:9090
        query: sum(vllm:num_requests_waiting)
        threshold: "5"
"##,
    },
    Case {
        code: "FW038",
        path: "spec.cooldownPeriod",
        bad: r##"kind: ScaledObject
metadata:
  name: so
spec:
  scaleTargetRef:
    name: app
  minReplicaCount: 0
  cooldownPeriod: 60
  maxReplicaCount: 10
  triggers:
    - type: prometheus
      metadata:
        # where it is asked
        serverAddress: http://prometheus:9090
        query: sum(vllm:num_requests_waiting)
        threshold: "5"
"##,
        good: r##"kind: ScaledObject
metadata:
  name: so
spec:
  scaleTargetRef:
    name: app
  minReplicaCount: 0
  cooldownPeriod: 3600
  maxReplicaCount: 10
  triggers:
    - type: prometheus
      metadata:
        # where it is asked
        serverAddress: http://prometheus:9090
        query: sum(vllm:num_requests_waiting)
        threshold: "5"
"##,
    },
];
