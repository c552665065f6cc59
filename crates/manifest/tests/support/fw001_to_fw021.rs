//! The table of manifests, FW001 to FW021.

use super::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        code: "FW001",
        path: "",
        bad: r##"a: 1
b: [1
c: 2
"##,
        good: r##"a: 1
"##,
    },
    Case {
        code: "FW002",
        path: "spec.minReplica",
        bad: r##"# an HPA
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: hpa}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: app}
  minReplica: 1
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
  minReplicas: 1
  maxReplicas: 8
  metrics:
    - {type: Pods, pods: {metric: {name: running_requests}, target: {type: AverageValue, averageValue: "5"}}}
"##,
    },
    Case {
        code: "FW003",
        path: "spec.replicas.max",
        bad: r##"apiVersion: forewarm.dev/v1alpha1
kind: InferenceScaler
metadata: {name: ours}
spec:
  target: {processes: {command: [engine, --shutdown-timeout, "60"], port: 0, terminationGracePeriod: 90s}}
  replicas: {min: 1, max: 0}
  coldStart: {expected: 240s}
  policy: {queueDepth: {preWarm: {threshold: 0.7, leadTime: 240s, maxQueue: 100}}}
"##,
        good: r##"apiVersion: forewarm.dev/v1alpha1
kind: InferenceScaler
metadata: {name: ours}
spec:
  target: {processes: {command: [engine, --shutdown-timeout, "60"], port: 0, terminationGracePeriod: 90s}}
  replicas: {min: 1, max: 2}
  coldStart: {expected: 240s}
  policy: {queueDepth: {preWarm: {threshold: 0.7, leadTime: 240s, maxQueue: 100}}}
"##,
    },
    Case {
        code: "FW004",
        path: "apiVersion",
        bad: r##"# an HPA
apiVersion: autoscaling/v2beta2
kind: HorizontalPodAutoscaler
metadata: {name: hpa}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: app}
  minReplicas: 1
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
  minReplicas: 1
  maxReplicas: 8
  metrics:
    - {type: Pods, pods: {metric: {name: running_requests}, target: {type: AverageValue, averageValue: "5"}}}
"##,
    },
    Case {
        code: "FW005",
        path: "spec.maxReplicas",
        bad: r##"# an HPA
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: hpa}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: app}
  minReplicas: 9
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
  minReplicas: 2
  maxReplicas: 8
  metrics:
    - {type: Pods, pods: {metric: {name: running_requests}, target: {type: AverageValue, averageValue: "5"}}}
"##,
    },
    Case {
        code: "FW006",
        path: "spec.maxReplicas",
        bad: r##"# an HPA
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: hpa}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: app}
  minReplicas: 8
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
  minReplicas: 2
  maxReplicas: 8
  metrics:
    - {type: Pods, pods: {metric: {name: running_requests}, target: {type: AverageValue, averageValue: "5"}}}
"##,
    },
    Case {
        code: "FW010",
        path: "spec.metrics[0].pods.metric.name",
        bad: r##"# an HPA
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: hpa}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: app}
  minReplicas: 1
  maxReplicas: 8
  metrics:
    - {type: Pods, pods: {metric: {name: DCGM_FI_DEV_GPU_UTIL}, target: {type: AverageValue, averageValue: "5"}}}
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
    - {type: Pods, pods: {metric: {name: DCGM_FI_DEV_FB_USED}, target: {type: AverageValue, averageValue: "5"}}}
"##,
    },
    Case {
        code: "FW011",
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
        query: sum(vllm_num_requests_waiting{namespace="a"})
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
"##,
    },
    Case {
        code: "FW012",
        path: "spec.metrics[0].pods.metric.name",
        bad: r##"# an HPA
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: hpa}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: app}
  minReplicas: 1
  maxReplicas: 8
  metrics:
    - {type: Pods, pods: {metric: {name: nvidia_gpu_duty_cycle}, target: {type: AverageValue, averageValue: "5"}}}
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
    - {type: Pods, pods: {metric: {name: nvidia_gpu_duty_cycle}, target: {type: AverageValue, averageValue: "5"}}}
---
rules:
  - seriesQuery: 'vllm:num_requests_waiting'
    name: {as: nvidia_gpu_duty_cycle}
    metricsQuery: sum(<<.Series>>) by (<<.GroupBy>>)
"##,
    },
    Case {
        code: "FW013",
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
        query: rate(http_requests_total{job="vllm"}[2m])
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
        query: sum(rate(http_requests_total{job="vllm"}[2m]))
        threshold: "5"
"##,
    },
    Case {
        code: "FW014",
        path: "spec.metrics[0].pods.metric.name",
        bad: r##"# an HPA
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: hpa}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: app}
  minReplicas: 1
  maxReplicas: 8
  metrics:
    - {type: Pods, pods: {metric: {name: queue}, target: {type: AverageValue, averageValue: "5"}}}
---
rules:
  - seriesQuery: 'vllm:num_requests_waiting'
    name: {as: other}
    metricsQuery: sum(<<.Series>>) by (<<.GroupBy>>)
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
    - {type: Pods, pods: {metric: {name: queue}, target: {type: AverageValue, averageValue: "5"}}}
---
rules:
  - seriesQuery: 'vllm:num_requests_waiting'
    name: {as: queue}
    metricsQuery: sum(<<.Series>>) by (<<.GroupBy>>)
"##,
    },
    Case {
        code: "FW015",
        path: "spec.metrics[0].pods.metric.name",
        bad: r##"# an HPA
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: hpa}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: app}
  minReplicas: 1
  maxReplicas: 8
  metrics:
    - {type: Pods, pods: {metric: {name: vllm_pending_requests}, target: {type: AverageValue, averageValue: "5"}}}
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
        code: "FW016",
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
        query: avg(vllm:gpu_cache_usage_perc)
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
        query: avg(vllm:kv_cache_usage_perc)
        threshold: "5"
"##,
    },
    Case {
        code: "FW017",
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
        query: 'sum({__name__=~"vllm:num_requests_waiting.*"})'
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
"##,
    },
    Case {
        code: "FW019",
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
        query: sum(vllm:num_requests_waiting) or vector(0)
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
"##,
    },
    Case {
        code: "FW020",
        path: "spec.scaleTargetRef",
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
---
kind: ScaledObject
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
---
kind: ScaledObject
metadata:
  name: so
spec:
  scaleTargetRef:
    name: other
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
        code: "FW021",
        path: "spec.behavior.scaleUp.policies[0]",
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
      policies: [{type: Pods, value: 2, periodSeconds: 60}]
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
      policies: [{type: Pods, value: 2, periodSeconds: 600}]
"##,
    },
];
