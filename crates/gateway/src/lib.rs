//! The OpenAI-compatible front door: holds, routes and streams requests, and tells the controller.
//!
//! Start reading at [`Gateway`]. Which request goes where is decided by [`pool::Pool`], which has no
//! clock and no sockets; everything else moves bytes. The gateway knows no rule about scaling: it serves
//! its last plan for as long as nobody gives it another.

mod account;
mod alarm;
mod alias;
mod answer;
mod ask;
mod asked;
mod changes;
mod clock;
mod config;
mod connection;
mod control_api;
mod control_client;
mod date;
mod decimal;
mod demand;
mod dial;
mod forward;
mod forwarded;
mod front;
mod gone;
mod handover;
mod headers;
mod health;
mod hop_by_hop;
mod http1;
mod keepalive;
mod keys;
mod message;
mod metrics;
mod outgoing;
mod outlier;
mod pace;
pub mod pool;
mod prefix;
mod queue;
mod receive;
mod registry;
mod relay;
mod reload;
mod remote;
mod reply;
mod retry;
mod scaler;
mod served;
mod server;
mod shallow;
mod sse;
mod tenant;
mod terms;
mod upstream;
mod wait;
mod worker;

/// What reads the bytes of strangers, for the fuzz targets only.
#[cfg(fuzzing)]
pub mod fuzzing {
    /// The model that a request's body names.
    pub fn model(body: &[u8]) -> Option<String> {
        crate::ask::Ask::of(body).model.map(std::borrow::Cow::into_owned)
    }

    /// How a request's prompt begins, as a number.
    pub fn prefix(body: &[u8], bytes: u32) -> Option<u64> {
        let ask = crate::ask::Ask::of(body);
        ask.beginning.number(ask.model.as_deref(), bytes)
    }

    /// The body with another model.
    pub fn renamed(body: &[u8], model: &str) -> bytes::Bytes {
        crate::alias::renamed(bytes::Bytes::copy_from_slice(body), model)
    }

    /// Events ended, done, and between events, after a stream that comes in these pieces.
    pub fn watch<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (u64, bool, bool) {
        let mut watch = crate::sse::Watch::default();
        let events = pieces.map(|piece| watch.see(piece)).sum();
        (events, watch.is_done(), watch.is_between_events())
    }

    /// The status and the body of an answer that comes in these pieces, and whether its connection can be used again.
    pub fn answer<'a>(
        is_head: bool,
        pieces: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(u16, Vec<u8>, bool), String> {
        crate::http1::whole_answer(if is_head { http::Method::HEAD } else { http::Method::POST }, pieces)
    }

    /// Targets and bodies of the requests that come in these pieces on one connection, and how it ended.
    #[expect(clippy::type_complexity, reason = "it is read by one test")]
    pub fn requests<'a>(
        pieces: impl Iterator<Item = &'a [u8]>,
    ) -> (Vec<(String, Vec<u8>)>, Result<(), String>) {
        crate::http1::whole_requests(pieces)
    }
}

pub use config::{ControlToken, GatewayConfig, GatewayError};
pub use dial::UpstreamTls;
pub use forewarm_tls::{TlsError, TlsFiles};
pub use forwarded::{BadNetwork, Network};
pub use keys::{KeysError, new_key};
pub use metrics::GatewayMetrics;
pub use registry::{GatewayHandle, UnknownScaler};
pub use reload::Reloader;
pub use remote::{ControlAccess, RemoteError, RemoteGateway};
pub use server::Gateway;
pub use tenant::{Tenant, TenantId};
