//! Requests and when they come: readers of real traces, seeded generators, windows and scaling.
