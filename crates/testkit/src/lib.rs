//! Fakes and helpers for tests.
