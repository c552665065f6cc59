//! Manifests as people write them: read, check, lint and convert.
