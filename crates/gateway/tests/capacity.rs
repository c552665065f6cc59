//! How much a replica is given at a time: tokens of its KV cache, a slow start, a limit that is learned.

use std::time::Duration;

use forewarm_core::{
    ReplicaId,
    pool::{Concurrency, Endpoint},
};
use forewarm_gateway::pool::{Arrival, Grant, Pool, QueueRules, Turn};

const RULES: QueueRules = QueueRules { max_requests: u32::MAX, max_bytes: u64::MAX, yielding: None };
const LEARNED: Concurrency = Concurrency { learned: true, slow_start: false };
const SLOW_START: Concurrency = Concurrency { learned: false, slow_start: true };

fn endpoint(name: &str, max_concurrency: u32, kv_tokens: Option<u64>) -> Endpoint {
    let (replica, address) = (ReplicaId::from(name), format!("{name}:80"));
    Endpoint { replica, address, max_concurrency, kv_tokens, draining: false }
}

fn pool(endpoints: &[Endpoint], concurrency: Concurrency) -> Pool<u64> {
    let mut pool = Pool::new(RULES);
    pool.apply(endpoints, concurrency, RULES, Duration::ZERO);
    pool
}

fn enqueue(pool: &mut Pool<u64>, tokens: u64) {
    let arrival = Arrival { prompt_tokens: tokens, ..Arrival::of_bytes(1) };
    pool.enqueue(&arrival, Duration::ZERO, tokens).expect("a place");
}

/// Gives out every slot there is.
fn grants(pool: &mut Pool<u64>) -> Vec<Grant> {
    let mut grants = Vec::new();
    while let Some(Turn::Slot(_, grant)) = pool.grant(Duration::ZERO) {
        grants.push(grant);
    }
    grants
}

fn names(grants: &[Grant]) -> Vec<&str> {
    grants.iter().map(|grant| grant.replica.as_str()).collect()
}

#[test]
fn requests_beyond_the_kv_cache_wait_and_a_large_one_goes_alone() {
    let mut pool = pool(&[endpoint("a", 8, Some(100))], Concurrency::default());
    for tokens in [60, 40, 1, 500, 1] {
        enqueue(&mut pool, tokens);
    }
    let first = grants(&mut pool);
    assert_eq!(first.len(), 2, "60 and 40 fill it");
    assert_eq!(pool.tokens_in_flight()[&ReplicaId::from("a")], 100);
    pool.release(&first[0], Duration::ZERO);
    let second = grants(&mut pool);
    assert_eq!(second.len(), 1, "the third fits, the fourth does not, and nobody passes it");
    pool.release(&first[1], Duration::ZERO);
    assert!(grants(&mut pool).is_empty());
    pool.release(&second[0], Duration::ZERO);
    let large = grants(&mut pool);
    assert_eq!(large.len(), 1, "an idle replica takes any one");
    pool.release(&large[0], Duration::ZERO);
    assert_eq!(grants(&mut pool).len(), 1);
}

#[test]
fn the_replica_with_the_least_of_its_tokens_taken_is_next_where_all_say_how_many_they_hold() {
    let mut pool =
        self::pool(&[endpoint("a", 8, Some(1_000)), endpoint("b", 8, Some(4_000))], Concurrency::default());
    for tokens in [500, 500, 500, 500] {
        enqueue(&mut pool, tokens);
    }
    // a: half of it; b: an eighth with each.
    assert_eq!(names(&grants(&mut pool)), ["a", "b", "b", "b"]);

    let mut mixed =
        self::pool(&[endpoint("a", 8, Some(1_000)), endpoint("b", 8, None)], Concurrency::default());
    for tokens in [500, 1, 1, 1] {
        enqueue(&mut mixed, tokens);
    }
    assert_eq!(names(&grants(&mut mixed)), ["a", "b", "a", "b"], "by requests");
}

#[test]
fn a_new_replica_begins_with_a_quarter_and_doubles_with_each_round_of_answers() {
    let mut pool = pool(&[endpoint("a", 32, None)], SLOW_START);
    for _ in 0..200 {
        enqueue(&mut pool, 1);
    }
    let mut rounds = Vec::new();
    for _ in 0..4 {
        let round = grants(&mut pool);
        rounds.push(round.len());
        for grant in &round {
            pool.answered(&grant.replica, None);
        }
        for grant in &round {
            pool.release(grant, Duration::ZERO);
        }
    }
    assert_eq!(rounds, [8, 16, 32, 32]);
    assert!(pool.limits().is_empty(), "it has started");

    let mut at_once = self::pool(&[endpoint("a", 32, None)], Concurrency::default());
    for _ in 0..40 {
        enqueue(&mut at_once, 1);
    }
    assert_eq!(grants(&mut at_once).len(), 32, "unless it is asked for, a new one gets all it can take");
}

/// Keeps a replica of 256 slots busy with at most `load` requests at a time, so many rounds; its first tokens come
/// after `ttft` of what it has. Returns its limit at the end.
fn busy(pool: &mut Pool<u64>, load: u32, rounds: u32, ttft: impl Fn(u32) -> Duration) -> u32 {
    let replica = ReplicaId::from("a");
    for _ in 0..rounds {
        for _ in 0..load {
            enqueue(pool, 1);
        }
        while pool.queued() > 0 {
            let round = grants(pool);
            let span = ttft(round.len() as u32);
            for grant in &round {
                pool.answered(&grant.replica, Some(span));
            }
            for grant in &round {
                pool.release(grant, Duration::ZERO);
            }
        }
    }
    pool.limits()[&replica]
}

/// A tenth of a second for up to 40 requests at a time, and beyond that in proportion.
fn knee_at_40(requests: u32) -> Duration {
    Duration::from_millis(100).mul_f64(f64::from(requests.max(40)) / 40.0)
}

#[test]
fn the_limit_is_learned_from_the_time_to_the_first_token_and_grows_again() {
    let mut pool = pool(&[endpoint("a", 256, None)], LEARNED);
    assert_eq!(busy(&mut pool, 20, 50, knee_at_40), 256, "a little load tells nothing, and changes nothing");
    let learned = busy(&mut pool, 256, 400, knee_at_40);
    assert!((60..=110).contains(&learned), "about twice the time of a few: {learned}");
    let well = busy(&mut pool, 256, 400, |_| Duration::from_millis(100));
    assert_eq!(well, 256, "never more than the plan says");
    let hopeless = busy(&mut pool, 256, 20, |_| Duration::from_secs(100));
    assert_eq!(hopeless, 16, "never less than a sixteenth");
}

#[test]
fn a_change_of_the_workload_is_no_congestion() {
    let mut pool = pool(&[endpoint("a", 256, None)], LEARNED);
    busy(&mut pool, 20, 50, |_| Duration::from_millis(100));
    // Ten times longer prompts, with little to do at first.
    busy(&mut pool, 20, 500, |_| Duration::from_secs(1));
    assert_eq!(busy(&mut pool, 256, 50, |_| Duration::from_secs(1)), 256);
}

#[test]
fn what_was_learned_holds_for_a_part_of_the_slots_and_is_forgotten_when_it_is_measured() {
    let mut pool = pool(&[endpoint("a", 256, None)], LEARNED);
    busy(&mut pool, 20, 50, knee_at_40);
    let learned = busy(&mut pool, 256, 400, knee_at_40);
    pool.apply(&[endpoint("a", 128, None)], LEARNED, RULES, Duration::ZERO);
    let half = pool.limits()[&ReplicaId::from("a")];
    assert!(half.abs_diff(learned / 2) <= 1, "{half} of {learned}");
    pool.apply(&[endpoint("a", 128, None)], Concurrency::default(), RULES, Duration::ZERO);
    assert!(pool.limits().is_empty());
}
