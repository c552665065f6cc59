//! The page's live stream: a snapshot, then what changed, as server-sent events.

use std::{convert::Infallible, time::Duration};

use axum::response::sse::Event;
use futures_util::{Stream, stream};
use serde::Serialize;
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::Instant,
};

use crate::dashboard::{Dashboard, Seen};

/// Shortest time between two events of one stream: faster than people see, bounded for the network.
const MIN_GAP: Duration = Duration::from_millis(100);
/// A sign of life is sent when nothing changed for this long: well within the 5 s after which the page
/// takes the connection for dead.
const HEARTBEAT: Duration = Duration::from_secs(2);

struct Client {
    dashboard: Dashboard,
    changed: watch::Receiver<u64>,
    seen: Seen,
    last: Option<Instant>,
    _permit: OwnedSemaphorePermit,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Alive {
    silence_seconds: std::collections::BTreeMap<forewarm_core::ScalerId, f64>,
}

/// Events `snapshot` and `update` (views and points), and `alive` when nothing changed. Each is made when
/// the client has taken the one before, so a slow client sees fewer of them.
pub(crate) fn events(
    dashboard: Dashboard,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Event, Infallible>> + Send + 'static {
    let changed = dashboard.subscribe();
    let client = Client { dashboard, changed, seen: Seen::default(), last: None, _permit: permit };
    stream::unfold(client, |mut client| async move { Some((Ok(client.next().await), client)) })
}

impl Client {
    async fn next(&mut self) -> Event {
        let name = match self.last {
            None => "snapshot",
            Some(last) => {
                tokio::time::sleep_until(last + MIN_GAP).await;
                match tokio::time::timeout(HEARTBEAT, self.changed.changed()).await {
                    Ok(_) => "update",
                    Err(_) => "alive",
                }
            }
        };
        self.last = Some(Instant::now());
        if name == "alive" {
            return event(name, &Alive { silence_seconds: self.dashboard.silence_seconds() });
        }
        self.changed.mark_unchanged();
        event(name, &self.dashboard.since(&mut self.seen))
    }
}

fn event(name: &str, data: &impl Serialize) -> Event {
    // Views are plain structs with string keys: they always have a JSON form.
    Event::default()
        .event(name)
        .json_data(data)
        .unwrap_or_else(|error| Event::default().comment(error.to_string()))
}
