//! A GPU-free inference engine that speaks vLLM's API and metrics.
