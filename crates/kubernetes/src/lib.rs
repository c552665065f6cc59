//! Kubernetes: the InferenceScaler resource, its controller, targets and replicas.
