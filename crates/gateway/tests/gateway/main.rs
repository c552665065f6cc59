//! The gateway from outside: real sockets, replicas that do what a test writes, a client that looks closely.
//!
//! No test sleeps: each waits for what the gateway or a replica says.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

mod account;
mod affinity;
mod control;
mod endings;
mod handover;
mod health;
mod http2;
mod keepalive;
mod keys;
mod limits;
mod names;
mod objective;
mod queue;
mod retry;
mod slow;
mod smuggling;
mod stop;
mod streams;
mod support;
mod tenants;
mod threads;
mod tls;
mod upstream;
