//! forewarm: GPU autoscaler for AI inference.
fn main() {}
