//! The manifests of the table, and the seed configuration.

use std::path::Path;

use forewarm_manifest::lint::Source;

/// A rule, a manifest that it is about, the same put right, and the field that is named.
pub(crate) struct Case {
    pub(crate) code: &'static str,
    pub(crate) bad: &'static str,
    pub(crate) good: &'static str,
    pub(crate) path: &'static str,
}

/// The files of `examples/seed`.
pub(crate) fn seed() -> Vec<Source> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/seed");
    let read = |name: &str| Source {
        name: format!("examples/seed/{name}"),
        text: std::fs::read_to_string(folder.join(name)).expect("a file of examples/seed"),
    };
    ["hpa.yaml", "scaledobject.yaml", "asg.json"].map(read).into()
}

/// What stands before the table of codes in `docs/lint.md`.
pub(crate) const LINT_DOC_HEAD: &str = "\
# Lint

`forewarm lint PATH…` finds the traps in autoscaling manifests: HorizontalPodAutoscaler, KEDA's ScaledObject
and ScaledJob, Knative services, EC2 Auto Scaling and Application Auto Scaling policies, prometheus-adapter
rules, Deployments and StatefulSets, and InferenceScaler. What a document is, its content tells. Files given
together are looked at together: two autoscalers on one Deployment show only then.

- `--output text|json|sarif` chooses the form; it exits with 1 when something is an error.
- `--fix` makes the edits that are safe to make by machine, and leaves everything else as it is, comments
  included.
- `forewarm explain CODE` tells what a code is about, why it hurts, how to fix it, and where that is written.

Nothing in a foreign manifest stops it: fields that it does not know are findings of their own. Texts of more
than 16 MiB, 64 levels or 300,000 nodes (aliases expanded) are not read.

## Codes

";

/// What stands between the table and the findings.
pub(crate) const LINT_DOC_SEED: &str = "
## What it finds in `examples/seed`

`forewarm lint examples/seed`:

";

/// One case or more for every code.
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
    Case {
        code: "FW039",
        path: "spec.triggers",
        bad: r##"kind: ScaledObject
metadata:
  name: so
spec:
  scaleTargetRef:
    name: app
  minReplicaCount: 0
  maxReplicaCount: 10
  triggers:
    - type: cpu
      metadata: {value: "70"}
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
    - type: cpu
      metadata: {value: "70"}
    - type: prometheus
      metadata:
        # where it is asked
        serverAddress: http://prometheus:9090
        query: sum(vllm:num_requests_waiting)
        threshold: "5"
"##,
    },
    Case {
        code: "FW040",
        path: "spec.template.spec.terminationGracePeriodSeconds",
        bad: r##"apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  template:
    spec:
      terminationGracePeriodSeconds: 60
      containers:
        - name: engine
          image: vllm/vllm-openai:v0.11.0
          args: [--shutdown-timeout, "60"]
          lifecycle: {preStop: {sleep: {seconds: 15}}}
"##,
        good: r##"apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  template:
    spec:
      terminationGracePeriodSeconds: 90
      containers:
        - name: engine
          image: vllm/vllm-openai:v0.11.0
          args: [--shutdown-timeout, "60"]
          lifecycle: {preStop: {sleep: {seconds: 15}}}
"##,
    },
    Case {
        code: "FW041",
        path: "spec.template.spec.containers[0]",
        bad: r##"apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  template:
    spec:
      containers:
        - name: engine
          image: vllm/vllm-openai:v0.11.0
          args: [--shutdown-timeout, "60"]
"##,
        good: r##"apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  template:
    spec:
      containers:
        - name: engine
          image: vllm/vllm-openai:v0.11.0
          args: [--shutdown-timeout, "60"]
          lifecycle: {preStop: {sleep: {seconds: 15}}}
"##,
    },
    Case {
        code: "FW042",
        path: "spec.template.spec.containers[0]",
        bad: r##"apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  template:
    spec:
      containers:
        - name: engine
          image: vllm/vllm-openai:v0.11.0
"##,
        good: r##"apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  template:
    spec:
      containers:
        - name: engine
          image: vllm/vllm-openai:v0.11.0
          args: [--shutdown-timeout, "60"]
"##,
    },
    Case {
        code: "FW043",
        path: "spec.template.spec.containers[0].readinessProbe",
        bad: r##"apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  template:
    spec:
      containers:
        - name: engine
          image: vllm/vllm-openai:v0.11.0
          readinessProbe: {tcpSocket: {port: 8000}}
"##,
        good: r##"apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  template:
    spec:
      containers:
        - name: engine
          image: vllm/vllm-openai:v0.11.0
          readinessProbe: {httpGet: {path: /health, port: 8000}}
"##,
    },
    Case {
        code: "FW044",
        path: "spec.template.spec.containers[0].startupProbe",
        bad: r##"apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  template:
    spec:
      containers:
        - name: engine
          image: vllm/vllm-openai:v0.11.0
          startupProbe: {httpGet: {path: /health, port: 8000}, periodSeconds: 10, failureThreshold: 6}
"##,
        good: r##"apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  template:
    spec:
      containers:
        - name: engine
          image: vllm/vllm-openai:v0.11.0
          startupProbe: {httpGet: {path: /health, port: 8000}, periodSeconds: 10, failureThreshold: 180}
"##,
    },
    Case {
        code: "FW045",
        path: "spec.replicas",
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
apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  replicas: 3 # by hand
  template:
    spec:
      containers:
        - name: engine
          image: vllm/vllm-openai:v0.11.0
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
apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  template:
    spec:
      containers:
        - name: engine
          image: vllm/vllm-openai:v0.11.0
"##,
    },
    Case {
        code: "FW050",
        path: "TargetTrackingConfiguration.ScaleInCooldown",
        bad: r##"{
  "AutoScalingGroupName": "g",
  "PolicyType": "TargetTrackingScaling",
  "TargetTrackingConfiguration": {
    "ScaleInCooldown": 300,
    "TargetValue": 5.0
  }
}
"##,
        good: r##"{
  "AutoScalingGroupName": "g",
  "PolicyType": "TargetTrackingScaling",
  "TargetTrackingConfiguration": {
    "TargetValue": 5.0
  }
}
"##,
    },
    Case {
        code: "FW051",
        path: "TargetTrackingConfiguration.CustomizedMetricSpecification.MetricName",
        bad: r##"{
  "AutoScalingGroupName": "g",
  "PolicyType": "TargetTrackingScaling",
  "TargetTrackingConfiguration": {
    "CustomizedMetricSpecification": {"MetricName": "LLMQueueDepth", "Namespace": "N", "Statistic": "Average"},
    "TargetValue": 5.0
  }
}
"##,
        good: r##"{
  "AutoScalingGroupName": "g",
  "PolicyType": "TargetTrackingScaling",
  "TargetTrackingConfiguration": {
    "CustomizedMetricSpecification": {"MetricName": "BacklogPerInstance", "Namespace": "N", "Statistic": "Average"},
    "TargetValue": 5.0
  }
}
"##,
    },
    Case {
        code: "FW052",
        path: "TargetTrackingConfiguration.ScaleOutCooldown",
        bad: r##"{
  "AutoScalingGroupName": "g",
  "PolicyType": "TargetTrackingScaling",
  "TargetTrackingConfiguration": {
    "ScaleOutCooldown": 60,
    "TargetValue": 5.0
  }
}
"##,
        good: r##"{
  "AutoScalingGroupName": "g",
  "PolicyType": "TargetTrackingScaling",
  "TargetTrackingConfiguration": {
    "TargetValue": 5.0
  }
}
"##,
    },
    Case {
        code: "FW053",
        path: "TargetTrackingConfiguration",
        bad: r##"{
  "AutoScalingGroupName": "g",
  "PolicyType": "TargetTrackingScaling",
  "TargetTrackingConfiguration": {
    "CustomizedMetricSpecification": {"MetricName": "BacklogPerInstance", "Namespace": "N", "Statistic": "Average"},
    "TargetValue": 5.0
  }
}
"##,
        good: r##"{
  "AutoScalingGroupName": "g",
  "EstimatedInstanceWarmup": 300,
  "PolicyType": "TargetTrackingScaling",
  "TargetTrackingConfiguration": {
    "CustomizedMetricSpecification": {"MetricName": "BacklogPerInstance", "Namespace": "N", "Statistic": "Average"},
    "TargetValue": 5.0
  }
}
"##,
    },
    Case {
        code: "FW054",
        path: "TargetTrackingConfiguration.PredefinedMetricSpecification.PredefinedMetricType",
        bad: r##"{
  "AutoScalingGroupName": "g",
  "PolicyType": "TargetTrackingScaling",
  "TargetTrackingConfiguration": {
    "PredefinedMetricSpecification": {"PredefinedMetricType": "ASGAverageCPUUtilization"},
    "TargetValue": 5.0
  }
}
"##,
        good: r##"{
  "AutoScalingGroupName": "g",
  "PolicyType": "TargetTrackingScaling",
  "TargetTrackingConfiguration": {
    "CustomizedMetricSpecification": {"MetricName": "BacklogPerInstance", "Namespace": "N", "Statistic": "Average"},
    "TargetValue": 5.0
  }
}
"##,
    },
    Case {
        code: "FW060",
        path: "spec.template.metadata.annotations",
        bad: r##"apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: kn}
spec:
  template:
    metadata:
      annotations:
        team: serving
    spec:
      containers:
        - image: model
"##,
        good: r##"apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: kn}
spec:
  template:
    metadata:
      annotations:
        team: serving
        autoscaling.knative.dev/minScale: "1"
    spec:
      containers:
        - image: model
"##,
    },
    Case {
        code: "FW061",
        path: "spec.template.metadata.annotations",
        bad: r##"apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: kn}
spec:
  template:
    metadata:
      annotations:
        team: serving
    spec:
      containers:
        - image: model
"##,
        good: r##"apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: kn}
spec:
  template:
    metadata:
      annotations:
        team: serving
        serving.knative.dev/progress-deadline: "30m"
    spec:
      containers:
        - image: model
"##,
    },
    Case {
        code: "FW062",
        path: "spec.template.metadata.annotations",
        bad: r##"apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: kn}
spec:
  template:
    metadata:
      annotations:
        team: serving
    spec:
      containers:
        - image: model
"##,
        good: r##"apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: kn}
spec:
  template:
    metadata:
      annotations:
        team: serving
        autoscaling.knative.dev/target: "8"
    spec:
      containers:
        - image: model
"##,
    },
    Case {
        code: "FW063",
        path: "spec.template.metadata.annotations.autoscaling.knative.dev/max-scale",
        bad: r##"apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: kn}
spec:
  template:
    metadata:
      annotations:
        team: serving
        autoscaling.knative.dev/max-scale: "0"
    spec:
      containers:
        - image: model
"##,
        good: r##"apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: kn}
spec:
  template:
    metadata:
      annotations:
        team: serving
        autoscaling.knative.dev/max-scale: "4"
    spec:
      containers:
        - image: model
"##,
    },
    Case {
        code: "FW064",
        path: "spec.template.spec",
        bad: r##"apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: kn}
spec:
  template:
    metadata:
      annotations:
        team: serving
    spec:
      containers:
        - image: model
"##,
        good: r##"apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: kn}
spec:
  template:
    metadata:
      annotations:
        team: serving
    spec:
      timeoutSeconds: 600
      containers:
        - image: model
"##,
    },
    Case {
        code: "FW070",
        path: "spec.policy.queueDepth.preWarm.leadTime",
        bad: r##"apiVersion: forewarm.dev/v1alpha1
kind: InferenceScaler
metadata: {name: ours}
spec:
  target: {processes: {command: [engine, --shutdown-timeout, "60"], port: 0, terminationGracePeriod: 90s}}
  replicas: {min: 1, max: 2}
  coldStart: {expected: 240s}
  policy: {queueDepth: {preWarm: {threshold: 0.7, leadTime: 60s, maxQueue: 100}}}
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
        code: "FW071",
        path: "spec.target.processes.terminationGracePeriod",
        bad: r##"apiVersion: forewarm.dev/v1alpha1
kind: InferenceScaler
metadata: {name: ours}
spec:
  target: {processes: {command: [engine, --shutdown-timeout, "60"], port: 0, terminationGracePeriod: 30s}}
  replicas: {min: 1, max: 2}
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
        code: "FW080",
        path: "",
        bad: r##"kind: ConfigMap
data:
  config.yaml: |
    rules:
      - seriesQuery: 'vllm:num_requests_waiting'
        name: {as: waiting}
        metricsQuery: sum(<<.Series>>) by (<<.GroupBy>>)
"##,
        good: r##"kind: ConfigMap
data:
  config.yaml: |
    other: 1
"##,
    },
];
