//! One request, from its arrival to the first byte of its answer.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use forewarm_core::{ReplicaId, pool::Priority};
use futures_util::{FutureExt, future::OptionFuture};
use http::{HeaderValue, StatusCode};
use http_body_util::BodyExt;
use tokio::time::Instant;

use crate::{
    account::Cause,
    answer::{ACCEPTED, Response, failure, refusal, set_retry_after},
    asked::{Asked, PRIORITY},
    clock,
    decimal::Decimal,
    demand::Demand,
    headers::Headers,
    hop_by_hop::keep_end_to_end,
    keepalive::{self, Standing},
    message::ResponseHead,
    outgoing::Outgoing,
    pace::Pace,
    pool::Fault,
    relay::{Ending, Relay},
    reply::Reply,
    scaler::{Place, Scaler, Slot},
    sse::is_event_stream,
    terms::Terms,
    upstream::SendError,
    wait::{Patience, Unserved},
};

/// Replicas that may end a request's connection without an answer before it is called an upstream error: it may
/// be the request that they cannot bear. Each try is at another replica where there is one.
const MAX_ATTEMPTS: u32 = 6;
/// Bytes read of an error answer to see whether the replica is starting or stopping.
const MAX_ERROR_BYTES: usize = 16 << 10;

/// Whether the request waited for a cold start.
const COLD_START: &str = "x-forewarm-cold-start";
/// How long it waited for a slot, in modelled seconds.
const QUEUE_WAIT: &str = "x-forewarm-queue-wait-seconds";
/// Which place it had when it came; it has none where a slot was free.
const QUEUE_POSITION: &str = "x-forewarm-queue-position";
/// Which replica answered.
const REPLICA: &str = "x-forewarm-replica";
/// What the names of all of these begin with.
const OURS: &[u8] = b"x-forewarm-";

/// What all answers are told alike, by priority and by whether they waited for a cold start.
static SAID: LazyLock<[[Headers; 2]; Priority::ALL.len()]> = LazyLock::new(|| {
    Priority::ALL.map(|priority| {
        ["false", "true"].map(|was_cold| {
            let mut headers = Headers::default();
            headers.push(ACCEPTED, b"true");
            headers.push(PRIORITY, priority.label().as_bytes());
            headers.push(COLD_START, was_cold.as_bytes());
            headers
        })
    })
});

/// Why a try gave no answer; every one of these is worth another.
enum Failed {
    /// Nobody listens there.
    Refused(String),
    /// It ended before its first byte.
    Ended(String),
    /// It is starting or stopping.
    NotServing(StatusCode),
    /// The controller says that it is gone.
    Gone,
    /// It says nothing, while others answer.
    Silent,
}

impl Failed {
    /// What it says about the replica.
    fn fault(&self) -> Option<Fault> {
        match self {
            Failed::Refused(_) | Failed::NotServing(_) => Some(Fault::NotServing),
            Failed::Ended(_) => Some(Fault::Ended),
            // Whoever waited for it has put it aside.
            Failed::Gone | Failed::Silent => None,
        }
    }

    fn describe(&self, replica: &str) -> String {
        match self {
            Failed::Refused(error) => format!("`{replica}` takes no connection: {error}"),
            Failed::Ended(error) => format!("`{replica}` ended before its first byte: {error}"),
            Failed::NotServing(status) => format!("`{replica}` is starting or stopping ({status})"),
            Failed::Gone => format!("`{replica}` is gone"),
            Failed::Silent => format!("`{replica}` is silent"),
        }
    }
}

/// A request on its way.
pub(crate) struct Forward {
    request: Outgoing,
    demand: Demand,
    /// Whether its answer, if it is a stream, ends with `[DONE]`.
    says_done: bool,
    /// Whether a stream is asked for.
    wants_stream: bool,
    /// Whether it was taken from a silent replica; that is done once.
    was_moved: bool,
    /// Time on the wall between two comments while it waits, if there are to be any, and where they learn where it is.
    keepalive: Option<(Duration, Arc<Standing>)>,
    /// Its number in the line when it came; 0 where it did not have to wait.
    position: usize,
    patience: Patience,
    accepted: Instant,
    pace: Pace,
}

/// What a request has before it is sent.
enum Turn {
    /// Nobody waited.
    Slot(Box<Slot>),
    Place(Box<Place>),
}

/// An answer whose first bytes are there; `None`: it has none.
struct Answer {
    head: ResponseHead,
    first: Option<Bytes>,
    rest: Reply,
}

impl Forward {
    /// Prepares a request for its way to a replica. It is large, and would be a part of each future that it goes through.
    pub(crate) fn new(
        scaler: &Scaler,
        terms: Terms,
        request: Outgoing,
        demand: Demand,
        asked: Asked,
        wants_stream: bool,
        pace: Pace,
    ) -> Box<Self> {
        let (warm, cold) = (asked.warm.unwrap_or(terms.warm), asked.cold.unwrap_or(terms.cold));
        let patience = Patience::new(scaler.on_the_wall(warm), scaler.on_the_wall(cold));
        // vLLM, SGLang, TGI and llama.cpp end these streams, and only these, with `[DONE]`.
        let says_done = request.route().ends_with("/completions");
        // Only where an answer is a stream for certain may its head be sent before it is there.
        let keepalive =
            keepalive::wished(asked.keepalive_seconds, terms.keepalive).filter(|_| wants_stream && says_done);
        let keepalive = keepalive.map(|interval| (scaler.on_the_wall(interval), Arc::default()));
        Box::new(Self {
            request,
            demand,
            says_done,
            wants_stream,
            was_moved: false,
            keepalive,
            position: 0,
            patience,
            accepted: clock::now(),
            pace,
        })
    }

    /// Waits for a slot, sends, and sends again elsewhere, until an answer begins or patience ends.
    /// Everything that happens is counted here or by the [`Relay`] it returns.
    pub(crate) async fn run(self: Box<Self>, scaler: &Arc<Scaler>) -> Response {
        scaler.account.arrive(self.demand.priority);
        let patience = self.patience.warm_left();
        let entered = match scaler.enter(&self.demand, patience) {
            Some(slot) => Ok(Turn::Slot(slot)),
            None => scaler.enqueue(&self.demand, patience).map(|place| Turn::Place(Box::new(place))),
        };
        let turn = match entered {
            Ok(turn) => turn,
            Err(full) => {
                scaler.refuse(&self.demand);
                let outlook = scaler.outlook();
                let message =
                    format!("{full}: {outlook}; come again after the seconds that Retry-After says");
                let retry_after = scaler.retry_after();
                return refusal(StatusCode::TOO_MANY_REQUESTS, "queue_full", &message, retry_after);
            }
        };
        let Some((interval, standing)) = self.keepalive.clone() else {
            return self.answered(scaler, turn).await;
        };
        let own = Arc::clone(scaler);
        let answer = Box::pin(async move { self.answered(&own, turn).await });
        keepalive::hold(answer, Arc::clone(scaler), standing, interval).await
    }

    /// The answer of a request that has its place, or its slot.
    async fn answered(mut self: Box<Self>, scaler: &Arc<Scaler>, turn: Turn) -> Response {
        let mut left = ClientLeft::new(scaler, self.accepted);
        let response = self.serve(scaler, turn).await;
        left.counted();
        response
    }

    async fn serve(&mut self, scaler: &Arc<Scaler>, mut turn: Turn) -> Response {
        let mut unanswered = 0;
        loop {
            let mut slot = match turn {
                Turn::Slot(slot) => slot,
                Turn::Place(place) => {
                    let served = tokio::select! {
                        biased;
                        () = scaler.stopping.cancelled() => return self.stopped(scaler),
                        served = Box::pin(self.slot(scaler, *place)) => served,
                    };
                    match served {
                        Ok(slot) => slot,
                        Err(unserved) => return self.unserved(scaler, unserved),
                    }
                }
            };
            let queue_wait = scaler.modelled(slot.granted.saturating_duration_since(self.accepted));
            if self.wants_stream {
                scaler.owed(&mut slot);
            }
            let watched = self.wants_stream && !self.was_moved;
            // Most have no need of it, nor of room for it.
            let silence = OptionFuture::from(watched.then(|| Box::pin(scaler.silence(&slot))));
            let answer = tokio::select! {
                biased;
                answer = self.answer(&slot) => answer,
                () = slot.link.gone.cancelled() => Err(Failed::Gone),
                Some(()) = silence => Err(Failed::Silent),
            };
            let failed = match answer {
                // Every replica is gone when the gateway stops.
                Err(Failed::Gone) if scaler.stopping.is_cancelled() => return self.stopped(scaler),
                Ok(answer) => {
                    scaler.account.admit(&self.demand, queue_wait);
                    return self.relay(scaler, slot, answer, queue_wait);
                }
                Err(failed) => failed,
            };
            let why = failed.describe(slot.link.replica.as_str());
            tracing::debug!(scaler = scaler.id.as_str(), why, "a request has to be sent again");
            // Where nobody took it up, it costs no attempt: it waits, by its clocks, until somebody does.
            let ended = matches!(failed, Failed::Ended(_));
            unanswered += u32::from(ended);
            self.was_moved |= matches!(failed, Failed::Silent);
            if ended && unanswered < MAX_ATTEMPTS && !scaler.may_retry(&slot.link.replica) {
                return self.out_of_retries(scaler, &why);
            }
            if unanswered >= MAX_ATTEMPTS {
                scaler.fail_unanswered(Cause::UpstreamError, self.accepted);
                let message = format!("{MAX_ATTEMPTS} tries at replicas failed; the last one: {why}");
                return failure(Cause::UpstreamError, &message);
            }
            scaler.account.retry();
            let place = scaler.enqueue_again(*slot, failed.fault(), self.patience.warm_left());
            turn = Turn::Place(Box::new(place));
        }
    }

    /// The slot of a place; it may be there at once.
    async fn slot(&mut self, scaler: &Scaler, place: Place) -> Result<Box<Slot>, Unserved> {
        let (ticket, position) = (place.ticket, place.position);
        let slot = self.patience.wait(scaler, place);
        tokio::pin!(slot);
        if let Some(slot) = slot.as_mut().now_or_never() {
            return slot;
        }
        if self.position == 0 {
            self.position = position;
        }
        let stands = |ticket| {
            if let Some((_, standing)) = &self.keepalive {
                standing.set(ticket);
            }
        };
        stands(Some(ticket));
        let slot = slot.await;
        stands(None);
        slot
    }

    fn relay(&self, scaler: &Arc<Scaler>, mut slot: Box<Slot>, answer: Answer, queue_wait: f64) -> Response {
        let Answer { mut head, first, rest } = answer;
        let is_stream = is_event_stream(&head.headers);
        // A compressed stream can be passed on, but not looked into.
        let ending = match is_stream && head.headers.get("content-encoding").is_none() {
            true if self.says_done && head.status.is_success() => Ending::EventsUntilDone,
            true => Ending::Events,
            false => Ending::Http,
        };
        let is_error = head.status.is_server_error();
        let now = clock::now();
        // An answer in one piece does not show when its first token was there; when it was sent to the replica is
        // the part of it that more replicas can change.
        let waited = if is_stream { scaler.modelled(now.duration_since(self.accepted)) } else { queue_wait };
        scaler.answered(&mut slot, is_stream, is_error, now, waited);
        self.label(&mut head.headers, &slot.link.label, queue_wait);
        let client = (self.pace.clone(), Arc::clone(scaler));
        let relay = Relay::new(first, ending, is_error, client, (slot, rest));
        Response { head, body: relay.boxed_unsync() }
    }

    /// Sends the request and waits for the first bytes of the answer: until then it can be sent again.
    async fn answer(&self, slot: &Slot) -> Result<Answer, Failed> {
        let (mut head, mut rest) =
            slot.link.connections.send(&self.request).await.map_err(|error| match error {
                SendError::Connect(error) => Failed::Refused(error.to_string()),
                SendError::Closed(error) => Failed::Ended(error.to_string()),
            })?;
        keep_end_to_end(&mut head.headers, |name| name.starts_with(OURS));
        let may_pass =
            matches!(head.status, StatusCode::INTERNAL_SERVER_ERROR | StatusCode::SERVICE_UNAVAILABLE);
        let first = if may_pass {
            let words = read_up_to(&mut rest, MAX_ERROR_BYTES).await?;
            if is_passing(&words) {
                return Err(Failed::NotServing(head.status));
            }
            (!words.is_empty()).then_some(words)
        } else {
            next_data(&mut rest).await?
        };
        if first.is_none() && head.status.is_success() && is_event_stream(&head.headers) {
            return Err(Failed::Ended("the stream ended before its first event".to_owned()));
        }
        Ok(Answer { head, first, rest })
    }

    fn stopped(&self, scaler: &Scaler) -> Response {
        scaler.fail_unanswered(Cause::GatewayStopping, self.accepted);
        failure(Cause::GatewayStopping, "the gateway stops")
    }

    /// Replicas fail more than they answer: to send everything again would only make it worse.
    fn out_of_retries(&self, scaler: &Scaler, why: &str) -> Response {
        scaler.fail_unanswered(Cause::UpstreamError, self.accepted);
        let message =
            format!("replicas fail more requests than they answer, so this one is not sent again: {why}");
        let mut response = failure(Cause::UpstreamError, &message);
        response.head.status = StatusCode::SERVICE_UNAVAILABLE;
        set_retry_after(&mut response, scaler.retry_after());
        response
    }

    fn unserved(&self, scaler: &Scaler, why: Unserved) -> Response {
        let waited = scaler.modelled(self.accepted.elapsed());
        let (cause, message) = match why {
            Unserved::Warm => {
                (Cause::Deadline, format!("no replica had a slot free in time, after {waited:.1} s"))
            }
            Unserved::Cold => {
                let outlook = scaler.outlook();
                (Cause::Deadline, format!("no replica became ready in time, after {waited:.1} s; {outlook}"))
            }
            Unserved::Shed => {
                let message = "the queue is full, and others took this request's place; come again after the \
                               seconds that Retry-After says";
                (Cause::Shed, message.to_owned())
            }
        };
        scaler.fail_unanswered(cause, self.accepted);
        if cause == Cause::Shed {
            scaler.account.shed(&self.demand);
        }
        let mut response = failure(cause, &message);
        set_retry_after(&mut response, scaler.retry_after());
        response
    }

    /// Tells the client where its answer comes from, and how long it waited for it, in modelled seconds. What a replica says
    /// under these names is not passed on.
    fn label(&self, headers: &mut Headers, replica: &Headers, queue_wait: f64) {
        headers.append(&SAID[self.demand.priority as usize][usize::from(self.patience.was_cold)]);
        if self.position > 0 {
            headers.push(QUEUE_POSITION, Decimal::whole(self.position as u64).as_bytes());
        }
        headers.push(QUEUE_WAIT, Decimal::seconds(queue_wait).as_bytes());
        headers.append(replica);
    }
}

/// The line that says which replica answered; none where its name cannot be a header.
pub(crate) fn named(replica: &ReplicaId) -> Headers {
    let mut headers = Headers::default();
    if let Ok(name) = HeaderValue::try_from(replica.as_str()) {
        headers.push(REPLICA, name.as_bytes());
    }
    headers
}

/// The next bytes of an answer; `None` at its end.
async fn next_data(rest: &mut Reply) -> Result<Option<Bytes>, Failed> {
    rest.data().await.transpose().map_err(|error| Failed::Ended(error.to_string()))
}

/// The first bytes of an answer, `most` or somewhat more of them.
async fn read_up_to(rest: &mut Reply, most: usize) -> Result<Bytes, Failed> {
    let mut read = BytesMut::new();
    while read.len() < most
        && let Some(data) = next_data(rest).await?
    {
        read.extend_from_slice(&data);
    }
    Ok(read.freeze())
}

/// Whether an error says that the replica is starting or stopping; any other is the client's to see.
fn is_passing(words: &[u8]) -> bool {
    let says = |part: &[u8]| words.windows(part.len()).any(|window| window == part);
    // llama.cpp while loading; vLLM after SIGTERM, and beyond its admission limit.
    let passing = [b"Loading model".as_slice(), b"after shutdown", b"shutting down", b"currently busy"];
    passing.into_iter().any(says)
}

/// Counts a client that leaves before its answer began: then the future is dropped where it waits.
struct ClientLeft<'a> {
    scaler: Option<&'a Scaler>,
    accepted: Instant,
}

impl<'a> ClientLeft<'a> {
    fn new(scaler: &'a Scaler, accepted: Instant) -> Self {
        Self { scaler: Some(scaler), accepted }
    }

    /// Somebody else has counted, or will.
    fn counted(&mut self) {
        self.scaler = None;
    }
}

impl Drop for ClientLeft<'_> {
    fn drop(&mut self) {
        if let Some(scaler) = self.scaler {
            scaler.fail_unanswered(Cause::ClientLeft, self.accepted);
        }
    }
}
