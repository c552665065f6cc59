//! The table of manifests, FW039 to FW080.

use super::Case;

pub(crate) const CASES: &[Case] = &[
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
