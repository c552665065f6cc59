//! Serves the page with made-up views, to work on it without a fleet:
//! `cargo run -p forewarm-admin --example fake_page -- 127.0.0.1:9180`.
#![expect(clippy::print_stdout, reason = "the address is what the example is run for")]

use std::time::Duration;

use forewarm_admin::{
    Admin, AdminConfig, Dashboard,
    view::{
        ColdStartView, DecisionView, LatencyView, LoadView, PercentilesView, ReasonView, ReplicaView,
        ScalerView, SeriesPoint, WarmStartView,
    },
};
use forewarm_core::{Phase, Replicas, Tier, Timestamp};
use tokio_util::sync::CancellationToken;

/// Modelled seconds a start takes.
const COLD_START: f64 = 240.0;
/// 2026-11-24 09:00 UTC.
const EPOCH_MILLIS: i64 = 1_795_510_800_000;

fn replica(scaler: &str, index: usize, phase: Phase, age_seconds: f64) -> ReplicaView {
    let serves = matches!(phase, Phase::Ready | Phase::Draining);
    ReplicaView {
        id: format!("{scaler}-{index:02}").as_str().into(),
        phase,
        age_seconds,
        in_flight: serves.then_some((index as u32 * 3) % 8),
        address: serves.then(|| format!("127.0.0.1:{}", 8100 + index)),
        expected_ready_in_seconds: phase.is_coming().then(|| (COLD_START - age_seconds).max(0.0)),
    }
}

fn decision(at: Timestamp, from: u32, to: u32) -> DecisionView {
    let reason = |stage, label, text: String, replicas| ReasonView {
        stage,
        label,
        text,
        replicas: Replicas(replicas),
    };
    let waiting = f64::from(to) * 4.4;
    let cause = format!("{waiting:.0} requests wait, a replica is worth 5 of them");
    DecisionView {
        at,
        from: Replicas(from),
        to: Replicas(to),
        summary: format!("{from} → {to} replicas: {cause}"),
        reasons: vec![
            reason("propose", "queue_depth", cause, to + 2),
            reason("combine", "largest_wish", "the largest wish counts".into(), to + 2),
            reason(
                "preWarm",
                "pre_warm_queue",
                "pre-warming: the queue of 72 is at or above 70 % of its maximum 100".into(),
                to + 3,
            ),
            reason("guard", "lowered_to_max", format!("more than {to} replicas are not allowed"), to),
            reason(
                "allocate",
                "starting",
                format!(
                    "{} replicas to start, 1 on the way; a start takes about 240 s",
                    to.saturating_sub(from)
                ),
                to,
            ),
        ],
    }
}

/// The made-up world after `second` modelled seconds, with up to `most` replicas.
fn world(scaler: &str, second: f64, most: u32) -> (ScalerView, SeriesPoint) {
    let at = Timestamp::from_millis(EPOCH_MILLIS) + Duration::from_secs_f64(second);
    let wave = (second / 900.0).sin().max(0.0) + 0.15 * (second / 70.0).sin().abs();
    let target = (1.0 + wave * f64::from(most - 1)).round().min(f64::from(most)) as u32;
    let was = (second - COLD_START).max(0.0);
    let past = ((was / 900.0).sin().max(0.0)) + 0.15 * (was / 70.0).sin().abs();
    let could = (1.0 + past * f64::from(most - 1)).round().min(f64::from(most)) as u32;
    let (ready, coming, draining) =
        (target.min(could), target.saturating_sub(could), could.saturating_sub(target).min(3));
    let queued = (f64::from(coming) * 9.0 + wave * 12.0).round() as u64;
    let p99 = 0.4 + f64::from(coming) * 3.1 + wave;
    let mut replicas: Vec<ReplicaView> = (0..ready as usize)
        .map(|index| replica(scaler, index, Phase::Ready, 400.0 + second - index as f64 * 7.0))
        .collect();
    for index in 0..coming as usize {
        let age = (second * 1.7 + index as f64 * 55.0) % 260.0;
        let phase = [Phase::Requested, Phase::Provisioning, Phase::Loading][(age / 90.0) as usize];
        replicas.push(replica(scaler, 100 + index, phase, age));
    }
    replicas
        .extend((0..draining as usize).map(|index| replica(scaler, 200 + index, Phase::Draining, 3000.0)));
    let sent = (second * 11.0) as u64;
    let in_flight = u64::from(ready) * 6;
    let mut view = ScalerView::new(scaler, at, Replicas(target));
    view.desired = Some(Replicas(target + 2));
    view.replicas = replicas;
    view.queued = Some(queued);
    view.oldest_wait_seconds = (queued > 0).then_some(p99 * 4.0);
    view.in_flight = Some(in_flight);
    view.arrivals_per_second = Some(wave * 20.0 + 1.0);
    view.succeeded_total = Some(sent);
    view.refused_total = Some(sent / 90);
    view.failed_total = Some(0);
    let latency = PercentilesView { p50_seconds: p99 / 4.0, p95_seconds: p99 / 1.4, p99_seconds: p99 };
    view.latency = Some(LatencyView { ttft: Some(latency), e2e: None });
    view.cold_start = ColdStartView {
        learned_p50_seconds: Some(210.0),
        learned_p90_seconds: Some(COLD_START),
        expected_seconds: Some(COLD_START),
        samples: 17,
        warm: vec![WarmStartView { tier: Tier::Stopped, expected_seconds: 60.0, samples: 5, standby: 2 }],
    };
    view.load =
        Some(LoadView { sent: sent + in_flight, succeeded: sent, refused: sent / 90, failed: 0, lost: 0 });
    view.speed = 20.0;
    view.last_decisions = (0..12)
        .map(|back| {
            let at = Timestamp::from_millis(at.as_millis() / 60_000 * 60_000 - back * 60_000);
            if back % 4 == 3 {
                decision(at, target + 1, target)
            } else {
                decision(at, target.saturating_sub(2), target)
            }
        })
        .collect();
    view.notices = vec!["No capacity for 2 more in eu-central-1a: tried again in 60 s.".to_owned()];
    let point = SeriesPoint {
        at,
        queued: Some(queued),
        in_flight: Some(in_flight),
        arrivals_per_second: view.arrivals_per_second,
        ready,
        coming,
        draining,
        target,
        ttft_p50_seconds: Some(p99 / 4.0),
        ttft_p99_seconds: Some(p99),
    };
    (view, point)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dashboard = Dashboard::new();
    let mut config = AdminConfig::new(dashboard.clone());
    if let Some(address) = std::env::args().nth(1) {
        config.address = address.parse()?;
    }
    let scalers = [("llama-70b", 8), ("mixtral-batch", 64)];
    let show = move |second: f64| {
        for (scaler, most) in scalers {
            let (view, point) = world(scaler, second, most);
            let name = view.scaler.clone();
            dashboard.update(view);
            dashboard.push_point(&name, point);
        }
    };
    (0..600).for_each(|tick| show(f64::from(tick) * 10.0));
    let admin = Admin::bind(config).await?;
    println!("http://{}/", admin.local_addr());
    tokio::spawn(async move {
        for tick in 600_u32.. {
            tokio::time::sleep(Duration::from_millis(500)).await;
            show(f64::from(tick) * 10.0);
        }
    });
    admin.run(CancellationToken::new()).await;
    Ok(())
}
