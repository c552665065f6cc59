//! Sends a workload when it is due, and collects what comes of it.

use std::{sync::Arc, time::Duration};

use forewarm_workload::Workload;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    account::{Account, Ending, FailureCause},
    client::{Client, Outcome},
    report::{Latencies, LoadReport, Quantiles, Seconds},
};

/// Outcomes that wait to be counted: the counter is far quicker than any server.
const OUTCOMES: usize = 4_096;
/// Time on the wall between two looks at the progress.
const PROGRESS: Duration = Duration::from_millis(100);

/// The highest speed: a day in a tenth of a second, far above what a server could follow.
const MAX_SPEED: f64 = 1e6;
/// The lowest speed: arrivals of ten years stay within what a timer can count.
const MIN_SPEED: f64 = 1e-3;

/// Where and how to send.
#[derive(Clone, Debug)]
pub struct LoadConfig {
    /// `host:port` of the gateway or engine.
    pub target: String,
    /// The `model` of each request.
    pub model: String,
    /// Divides every arrival time; latencies are multiplied by it again.
    pub speed: f64,
    /// Whether answers are streamed.
    pub stream: bool,
    /// Longest time on the wall for one request; without an honest end by then it is lost.
    pub deadline: Duration,
    /// Whether prompts are sent in full. By default a short one stands for it, and a header has its length.
    pub full_prompts: bool,
}

/// Why no load was sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Nothing to send.
    #[error("the workload has no requests")]
    Empty,
    /// Time cannot be divided by that.
    #[error("speed is {0}, wanted {MIN_SPEED} to {MAX_SPEED}")]
    Speed(f64),
}

/// How far it is.
#[derive(Clone, Debug, Default)]
pub struct LoadProgress {
    /// The account so far.
    pub account: Account,
    /// TTFT so far, in modelled seconds.
    pub ttft: Quantiles,
    /// TTFT of the requests that ended since the progress before.
    pub recent_ttft: Option<Quantiles>,
}

/// Sends the workload; returns when every request has ended. Cancelling stops sending and gives up what is
/// in flight, which is counted as `client_left`.
///
/// # Errors
/// When there is nothing to send, or the speed is out of range.
pub async fn run(
    config: LoadConfig,
    workload: &Workload,
    progress: watch::Sender<LoadProgress>,
    shutdown: CancellationToken,
) -> Result<LoadReport, LoadError> {
    if workload.requests.is_empty() {
        return Err(LoadError::Empty);
    }
    if !(MIN_SPEED..=MAX_SPEED).contains(&config.speed) {
        return Err(LoadError::Speed(config.speed));
    }
    let config = Arc::new(config);
    let (outcomes, collected) = mpsc::channel(OUTCOMES);
    let started = Instant::now();
    let collector = tokio::spawn(collect(collected, config.speed, progress));
    let mut lag = Seconds::new();
    let client = Arc::new(Client::default());
    for request in &workload.requests {
        let due = started + request.arrival.div_f64(config.speed);
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep_until(due) => {}
        }
        lag.record(due.elapsed().as_secs_f64());
        let (config, client, outcomes, shutdown) =
            (Arc::clone(&config), Arc::clone(&client), outcomes.clone(), shutdown.clone());
        let (input, output) = (request.input_tokens, request.output_tokens);
        // The collector lives until the last sender is dropped.
        if outcomes.send(Event::Sent).await.is_err() {
            break;
        }
        tokio::spawn(async move {
            let outcome = tokio::select! {
                outcome = client.send(&config, input, output, due) => outcome,
                () = shutdown.cancelled() => Outcome {
                    ending: Ending::Failed(FailureCause::ClientLeft),
                    ttft: None,
                    e2e: due.elapsed(),
                    inter_token: None,
                    queue_wait_seconds: None,
                },
            };
            drop(outcomes.send(Event::Ended(outcome)).await);
        });
    }
    drop(outcomes);
    let collected = collector.await.unwrap_or_default();
    Ok(LoadReport {
        requests: collected.account,
        latency_seconds: Latencies {
            ttft: collected.ttft.quantiles(),
            itl: collected.itl.quantiles(),
            e2e: collected.e2e.quantiles(),
            queue_wait: collected.queue_wait.quantiles(),
        },
        send_lag_wall_seconds: lag.quantiles(),
        wall_seconds: started.elapsed().as_secs_f64(),
    })
}

enum Event {
    Sent,
    Ended(Outcome),
}

struct Collected {
    account: Account,
    ttft: Seconds,
    itl: Seconds,
    e2e: Seconds,
    queue_wait: Seconds,
}

impl Default for Collected {
    fn default() -> Self {
        let new = Seconds::new;
        Self { account: Account::default(), ttft: new(), itl: new(), e2e: new(), queue_wait: new() }
    }
}

async fn collect(
    mut events: mpsc::Receiver<Event>,
    speed: f64,
    progress: watch::Sender<LoadProgress>,
) -> Collected {
    let mut collected = Collected::default();
    let mut recent = (Seconds::new(), 0);
    let mut shown = Instant::now();
    while let Some(event) = events.recv().await {
        match event {
            Event::Sent => collected.account.sent += 1,
            Event::Ended(outcome) => {
                if let Some(ttft) = outcome.ttft {
                    recent.0.record(ttft.as_secs_f64() * speed);
                    recent.1 += 1;
                }
                collected.count(&outcome, speed);
            }
        }
        if shown.elapsed() >= PROGRESS {
            shown = Instant::now();
            let recent = std::mem::replace(&mut recent, (Seconds::new(), 0));
            progress.send_replace(LoadProgress {
                account: collected.account.clone(),
                ttft: collected.ttft.quantiles(),
                recent_ttft: (recent.1 > 0).then(|| recent.0.quantiles()),
            });
        }
    }
    progress.send_replace(LoadProgress {
        account: collected.account.clone(),
        ttft: collected.ttft.quantiles(),
        recent_ttft: None,
    });
    collected
}

impl Collected {
    fn count(&mut self, outcome: &Outcome, speed: f64) {
        self.account.end(outcome.ending);
        if outcome.ending != Ending::Succeeded {
            return;
        }
        let modelled = |span: Duration| span.as_secs_f64() * speed;
        self.e2e.record(modelled(outcome.e2e));
        outcome.ttft.into_iter().for_each(|ttft| self.ttft.record(modelled(ttft)));
        outcome.inter_token.into_iter().for_each(|gap| self.itl.record(modelled(gap)));
        outcome.queue_wait_seconds.into_iter().for_each(|wait| self.queue_wait.record(wait));
    }
}
