//! The admin port: live page, metrics, health and readiness.
