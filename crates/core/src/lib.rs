//! What forewarm decides, and why: pure functions of observations and time.
