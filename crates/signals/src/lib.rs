//! What is measured outside: engine metrics, Prometheus queries, each with its age.
