//! The scraper against engines that answer, refuse, hang, restart and change their names.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use forewarm_control::{
    Clock,
    ports::{FleetReplica, SignalSource},
};
use forewarm_core::{Missing, Phase, Reading, ReplicaId, Signal};
use forewarm_signals::engine::{
    EngineKind, EngineMetric, EngineScraper, EngineSignal, EngineSource, MAX_BODY_BYTES, ScrapeError,
    ScrapeOptions,
};
use tokio::net::TcpListener;

/// What a fake engine does when asked.
#[derive(Clone)]
enum Behaviour {
    Page(String),
    Refuse,
    Hang,
}

#[derive(Clone)]
struct Engine {
    behaviour: Arc<Mutex<Behaviour>>,
    address: String,
}

impl Engine {
    async fn start(behaviour: Behaviour) -> Self {
        let behaviour = Arc::new(Mutex::new(behaviour));
        let answer = |State(behaviour): State<Arc<Mutex<Behaviour>>>| async move {
            let behaviour = behaviour.lock().expect("not poisoned").clone();
            match behaviour {
                Behaviour::Page(page) => Ok(page),
                Behaviour::Refuse => Err(StatusCode::SERVICE_UNAVAILABLE),
                Behaviour::Hang => std::future::pending().await,
            }
        };
        let app = Router::new().route("/metrics", get(answer)).with_state(Arc::clone(&behaviour));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { behaviour, address }
    }

    fn now(&self, behaviour: Behaviour) {
        *self.behaviour.lock().expect("not poisoned") = behaviour;
    }

    fn replica(&self, id: &str, phase: Phase) -> FleetReplica {
        replica(id, phase, Some(self.address.clone()))
    }
}

fn replica(id: &str, phase: Phase, address: Option<String>) -> FleetReplica {
    FleetReplica { address, ..FleetReplica::new(id, phase) }
}

fn waiting(count: u32) -> Behaviour {
    Behaviour::Page(format!("vllm:num_requests_waiting{{engine=\"0\"}} {count}\n"))
}

fn rejected(count: u32) -> Behaviour {
    Behaviour::Page(format!("vllm:admission_rejections_total{{reason=\"max_num_queued_reqs\"}} {count}\n"))
}

fn scraper(keep_for: Duration) -> Arc<EngineScraper> {
    // Generous for one that answers on a busy machine, and one that hangs is waited for only once.
    let options =
        ScrapeOptions { timeout: Duration::from_secs(1), keep_for, ..ScrapeOptions::of(EngineKind::Vllm) };
    Arc::new(EngineScraper::new(options, Clock::start(1.0)).expect("a scraper"))
}

fn shares(parts: &[(&str, f64)]) -> BTreeMap<ReplicaId, f64> {
    parts.iter().map(|&(id, value)| (id.into(), value)).collect()
}

const MINUTE: Duration = Duration::from_secs(60);
const WAITING: EngineSignal = EngineSignal::Metric(EngineMetric::Waiting);

#[tokio::test]
async fn silence_makes_the_sum_a_lower_bound_and_never_a_zero() {
    let ok = Engine::start(waiting(7)).await;
    let refusing = Engine::start(Behaviour::Refuse).await;
    let hanging = Engine::start(Behaviour::Hang).await;
    let fleet = [
        ok.replica("a", Phase::Ready),
        refusing.replica("b", Phase::Ready),
        hanging.replica("c", Phase::Ready),
        replica("d", Phase::Ready, None),
        replica("e", Phase::Loading, Some("127.0.0.1:1".to_owned())),
        replica("f", Phase::Draining, Some("127.0.0.1:1".to_owned())),
    ];
    let report = scraper(MINUTE).scrape(&fleet).await;
    let expected =
        Reading::Partial { total: 7.0, per_replica: shares(&[("a", 7.0)]), reporting: 1, expected: 4 };
    assert_eq!(report.signals[&WAITING].reading, expected);
    assert!(matches!(report.silent["b"], ScrapeError::Status(StatusCode::SERVICE_UNAVAILABLE)));
    assert!(matches!(report.silent["c"], ScrapeError::Timeout(_)));
    assert!(matches!(report.silent["d"], ScrapeError::NoAddress));
    assert!(!report.silent.contains_key("e"), "one that loads is not asked");

    let report = scraper(MINUTE).scrape(&fleet[1..2]).await;
    let Reading::Missing(Missing::Failed(reason)) = &report.signals[&WAITING].reading else {
        panic!("{:?}", report.signals[&WAITING])
    };
    assert!(reason.contains("b: HTTP 503"), "{reason}");
}

#[tokio::test]
async fn replicas_are_added_up_with_those_that_drain() {
    let (first, second) = (Engine::start(waiting(7)).await, Engine::start(waiting(2)).await);
    let fleet = [first.replica("a", Phase::Ready), second.replica("b", Phase::Draining)];
    let source = EngineSource { scraper: scraper(MINUTE), signal: WAITING };
    let signal = source.read(&fleet).await;
    let expected = Reading::Value { total: 9.0, per_replica: shares(&[("a", 7.0), ("b", 2.0)]) };
    assert_eq!(signal.reading, expected);
}

#[tokio::test]
async fn the_last_answer_stands_in_until_it_is_too_old() {
    let engine = Engine::start(waiting(7)).await;
    let fleet = [engine.replica("a", Phase::Ready)];
    let (keeping, forgetting) = (scraper(MINUTE), scraper(Duration::ZERO));
    keeping.scrape(&fleet).await;
    forgetting.scrape(&fleet).await;
    engine.now(Behaviour::Refuse);
    let kept = keeping.scrape(&fleet).await.signals.remove(&WAITING).expect("a signal");
    assert_eq!(kept.reading, Reading::Value { total: 7.0, per_replica: shares(&[("a", 7.0)]) });
    assert!(kept.age > Duration::ZERO, "it is known to be old");
    let lost = forgetting.scrape(&fleet).await.signals.remove(&WAITING).expect("a signal");
    assert!(matches!(lost.reading, Reading::Missing(Missing::Failed(_))), "{lost:?}");

    let moved = [replica("a", Phase::Ready, Some("127.0.0.1:1".to_owned()))];
    let other = keeping.scrape(&moved).await.signals.remove(&WAITING).expect("a signal");
    assert!(
        matches!(other.reading, Reading::Missing(Missing::Failed(_))),
        "another engine's answer: {other:?}"
    );
}

#[tokio::test]
async fn absent_is_told_from_disappeared() {
    let engine = Engine::start(waiting(7)).await;
    let fleet = [engine.replica("a", Phase::Ready)];
    let scraper = scraper(MINUTE);
    let signals = scraper.scrape(&fleet).await.signals;
    assert_eq!(signals[&EngineSignal::Metric(EngineMetric::Running)], Signal::missing(Missing::Absent));
    engine.now(Behaviour::Page("vllm:queue_length{engine=\"0\"} 7\n".to_owned()));
    let renamed = scraper.scrape(&fleet).await.signals.remove(&WAITING).expect("a signal");
    let Reading::Missing(Missing::Failed(reason)) = renamed.reading else { panic!("{renamed:?}") };
    assert!(reason.contains("`waiting` was reported before and has disappeared"), "{reason}");
    let empty = scraper.scrape(&[]).await.signals.remove(&WAITING).expect("a signal");
    assert_eq!(empty, Signal::missing(Missing::Absent), "nobody to ask proves nothing");
}

#[tokio::test]
async fn a_rate_needs_two_answers_of_one_life() {
    let engine = Engine::start(rejected(10)).await;
    let fleet = [engine.replica("a", Phase::Ready)];
    let scraper = scraper(MINUTE);
    let rate = async || {
        let mut signals = scraper.scrape(&fleet).await.signals;
        signals.remove(&EngineSignal::Rate(EngineMetric::RejectionsTotal)).expect("a signal").reading
    };
    assert_eq!(rate().await, Reading::Missing(Missing::Reset), "no rate from one answer");
    engine.now(rejected(13));
    assert!(matches!(rate().await, Reading::Value { total, .. } if total > 0.0));
    assert!(matches!(rate().await, Reading::Value { total, .. } if total == 0.0));
    engine.now(rejected(2));
    assert_eq!(rate().await, Reading::Missing(Missing::Reset), "it restarted");
    engine.now(rejected(5));
    assert!(matches!(rate().await, Reading::Value { total, .. } if total > 0.0));
}

#[tokio::test]
async fn pages_that_are_no_metrics_or_too_long_are_refused() {
    let html = Engine::start(Behaviour::Page("<html>\n</html>\n".to_owned())).await;
    let long = Engine::start(Behaviour::Page("#\n".repeat(MAX_BODY_BYTES / 2 + 1))).await;
    let nan = Engine::start(Behaviour::Page("vllm:num_requests_waiting NaN\n".to_owned())).await;
    let fleet = [
        html.replica("html", Phase::Ready),
        long.replica("long", Phase::Ready),
        nan.replica("nan", Phase::Ready),
    ];
    let report = scraper(MINUTE).scrape(&fleet).await;
    assert!(matches!(report.silent["html"], ScrapeError::Page(_)));
    assert!(matches!(report.silent["long"], ScrapeError::TooLarge));
    let Reading::Missing(Missing::Failed(reason)) = &report.signals[&WAITING].reading else {
        panic!("{:?}", report.signals[&WAITING])
    };
    assert!(reason.contains("nan: its `waiting` is NaN"), "{reason}");
}
