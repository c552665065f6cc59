//! What a place in the queue and a slot cost on one core, while many others wait.
//!
//! Prints one JSON row a line, for `cargo xtask bench queue`.

use std::{hint::black_box, io::Write, time::Duration};

use forewarm_core::{
    ReplicaId,
    pool::{Concurrency, Endpoint, Priority},
};
use forewarm_gateway::{
    TenantId,
    pool::{Arrival, Pool, QueueRules, Turn, Yielding},
};

/// Requests that are measured.
const REQUESTS: u32 = 1_000_000;
/// One more each microsecond, by the pool's own time.
const APART: Duration = Duration::from_micros(1);

fn main() {
    for (name, tenants, replicas, waiting) in [
        ("a place and a slot, nobody else there", 1, 8, 0),
        ("a place and a slot, 10,000 wait, 1 tenant", 1, 8, 10_000),
        ("a place and a slot, 10,000 wait, 100 tenants", 100, 8, 10_000),
        ("a place and a slot, 10,000 wait, 100 tenants, 100 replicas", 100, 100, 10_000),
        ("a place taken in a full queue of 10,000, 100 tenants", 100, 0, 10_000),
    ] {
        row(name, nanos(tenants, replicas, waiting));
    }
}

/// Nanoseconds for one request more and one less.
fn nanos(tenants: usize, replicas: u32, waiting: u32) -> f64 {
    let yielding = Some(Yielding { from: Duration::from_millis(5), until: Duration::from_secs(450) });
    let rules = QueueRules { max_requests: waiting.max(1), max_bytes: u64::MAX, yielding };
    let mut pool: Pool<u32> = Pool::new(rules);
    let arrivals: Vec<Arrival> = (0..tenants)
        .map(|tenant| Arrival {
            tenant: (tenants > 1).then(|| TenantId::from(format!("tenant-{tenant}").as_str())),
            prompt_tokens: 100 + tenant as u64 * 7,
            answer_tokens: 200,
            patience: Duration::from_secs(900),
            ..Arrival::of_bytes(2_000)
        })
        .collect();
    let arrival = |number: u32| &arrivals[number as usize % tenants];
    let mut now = Duration::ZERO;
    for number in 0..waiting.saturating_sub(1) {
        now += APART;
        pool.enqueue(arrival(number), now, number).expect("a place");
    }
    let endpoints: Vec<Endpoint> = (0..replicas)
        .map(|number| Endpoint {
            replica: ReplicaId::from(format!("replica-{number:03}")),
            address: format!("10.0.0.{number}:8000"),
            max_concurrency: 256,
            kv_tokens: None,
            draining: false,
        })
        .collect();
    pool.apply(&endpoints, Concurrency::default(), rules, now);
    // All slots but those that are given below are taken.
    let mut held = Vec::new();
    while waiting > 0 && held.len() < replicas as usize * 256 {
        pool.enqueue(arrival(0), now, 0).expect("a place, or a slot");
        if let Some(Turn::Slot(_, grant)) = pool.grant(now) {
            held.push(grant);
        }
    }
    let high = Arrival { priority: Priority::High, ..arrivals[0].clone() };
    let started = cpu_seconds();
    for number in 0..REQUESTS {
        now += APART;
        if replicas == 0 {
            // It takes a place, and gives it back to one that can be shed.
            let (ticket, shed) = pool.enqueue(&high, now, number).expect("a place");
            black_box((pool.cancel(ticket), shed));
            pool.enqueue(arrival(number), now, number).expect("a place");
            continue;
        }
        pool.enqueue(arrival(number), now, number).expect("a place");
        if let Some(grant) = held.pop() {
            pool.release(&grant, now);
        }
        let Some(Turn::Slot(waiter, grant)) = pool.grant(now) else { continue };
        black_box(waiter);
        held.push(grant);
    }
    (cpu_seconds() - started) / f64::from(REQUESTS) * 1e9
}

/// Time that this thread was on a core: what else the machine does is not measured.
fn cpu_seconds() -> f64 {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanos = schedstat.split_whitespace().next().and_then(|nanos| nanos.parse::<f64>().ok());
    nanos.expect("time on a core") / 1e9
}

fn row(name: &str, figure: f64) {
    let row = serde_json::json!({"name": name, "figure": figure, "unit": "ns"});
    writeln!(std::io::stdout(), "{row}").expect("somebody reads the rows");
}
