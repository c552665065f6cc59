//! The OpenAI-compatible front door: holds, routes and streams requests, and tells the controller.
