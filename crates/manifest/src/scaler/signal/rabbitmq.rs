//! What waits in a RabbitMQ queue, or how fast it is filled.

use std::time::Duration;

use serde::Serialize;

use super::{
    Basic, Credential, Tls,
    access::{name, timeout, write_span},
    decided_elsewhere, flag, given,
};
use crate::cursor::{Cursor, Fields};

/// A queue, or all whose names fit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RabbitMqSignal {
    /// Its address: `http(s)://` for the management API, `amqp(s)://` for AMQP.
    pub host: Credential,
    /// Which of them is spoken.
    pub protocol: RabbitMqProtocol,
    /// The queue, or a regular expression.
    pub queue_name: String,
    /// The virtual host; `None`: the one in the address, else `/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vhost_name: Option<String>,
    /// What is counted.
    pub mode: RabbitMqMode,
    /// Whether messages that a consumer has and did not acknowledge do not count.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub exclude_unacknowledged: bool,
    /// Whether the name is a regular expression.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub use_regex: bool,
    /// What several queues come to.
    pub operation: RabbitMqOperation,
    /// Who asks; `None`: who stands in the address.
    #[serde(flatten)]
    pub basic: Option<Basic>,
    /// For addresses that begin with `https://` or `amqps://`.
    #[serde(flatten)]
    pub tls: Tls,
    /// How long an answer may take, on the wall; `None`: as long as a reading may take.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "write_span")]
    pub timeout: Option<Duration>,
}

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RabbitMqProtocol {
    /// What the address says.
    Auto,
    /// AMQP 0-9-1.
    Amqp,
    /// The management API.
    Http,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum RabbitMqMode {
    /// Messages.
    QueueLength,
    /// Messages published in a second.
    MessageRate,
}

/// What several queues come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RabbitMqOperation {
    /// Their sum.
    Sum,
    /// The fullest.
    Max,
    /// Their mean.
    Avg,
}

pub(super) fn read(at: &Cursor<'_>) -> Option<RabbitMqSignal> {
    let fields = at.fields()?;
    let host = host(&fields);
    let protocols = [
        ("auto", RabbitMqProtocol::Auto),
        ("amqp", RabbitMqProtocol::Amqp),
        ("http", RabbitMqProtocol::Http),
    ];
    let protocol = given(&fields, "protocol", |at| at.one_of(&protocols));
    let queue = fields.require("queueName", "the queue").and_then(|queue| queue.text());
    let vhost = given(&fields, "vhostName", Cursor::text);
    let modes = [("QueueLength", RabbitMqMode::QueueLength), ("MessageRate", RabbitMqMode::MessageRate)];
    let mode = given(&fields, "mode", |at| at.one_of(&modes));
    let (unacknowledged, regex) = (flag(&fields, "excludeUnacknowledged"), flag(&fields, "useRegex"));
    let operations =
        [("sum", RabbitMqOperation::Sum), ("max", RabbitMqOperation::Max), ("avg", RabbitMqOperation::Avg)];
    let operation = given(&fields, "operation", |at| at.one_of(&operations));
    let (basic, tls, timeout) = (Basic::read(&fields), Tls::read(&fields), timeout(&fields));
    decided_elsewhere(&fields, &["value", "activationValue", "metricName", "pageSize"]);
    fields.finish();
    let signal = RabbitMqSignal {
        host: host?,
        protocol: protocol?.unwrap_or(RabbitMqProtocol::Auto),
        queue_name: queue?,
        vhost_name: vhost?,
        mode: mode?.unwrap_or(RabbitMqMode::QueueLength),
        exclude_unacknowledged: unacknowledged?,
        use_regex: regex?,
        operation: operation?.unwrap_or(RabbitMqOperation::Sum),
        basic: basic?,
        tls: tls?,
        timeout: timeout?,
    };
    if let Some(why) = signal.needs_management()
        && signal.speaks_amqp(None)
    {
        at.problem(format!("{why} over AMQP"), "the management API: an address with http://");
        return None;
    }
    Some(signal)
}

impl RabbitMqSignal {
    /// The setting that AMQP cannot answer, if there is one.
    pub fn needs_management(&self) -> Option<&'static str> {
        if self.mode == RabbitMqMode::MessageRate {
            Some("mode `MessageRate`")
        } else if self.exclude_unacknowledged {
            Some("excludeUnacknowledged")
        } else if self.use_regex {
            Some("useRegex")
        } else {
            None
        }
    }

    /// Whether AMQP is spoken, by the setting and the address, which may not be known yet.
    pub fn speaks_amqp(&self, address: Option<&str>) -> bool {
        let written = match &self.host {
            Credential::Plain(host) => Some(host.as_str()),
            Credential::Env { .. } | Credential::File { .. } => address,
        };
        match self.protocol {
            RabbitMqProtocol::Amqp => true,
            RabbitMqProtocol::Http => false,
            RabbitMqProtocol::Auto => written.is_some_and(|host| host.starts_with("amqp")),
        }
    }
}

/// An address, which may be a secret: it often has a password in it.
fn host(fields: &Fields<'_>) -> Option<Credential> {
    let read = name(fields, ["host", "hostFromEnv", "hostFromFile"])?;
    let wrong = |found: &str, wanted: &str| {
        fields.at.out.add(&fields.path_of("host"), fields.span(), found, wanted);
        None
    };
    match read {
        None => wrong(
            "nothing",
            "an address such as http://rabbitmq:15672 or amqp://rabbitmq:5672, or hostFromEnv",
        ),
        Some(Credential::Plain(text)) if text.contains('@') => wrong(
            "an address with a password in the clear",
            "hostFromEnv, or `username` and `password` beside it",
        ),
        Some(Credential::Plain(text))
            if !["http://", "https://", "amqp://", "amqps://"]
                .iter()
                .any(|scheme| text.starts_with(scheme)) =>
        {
            wrong(
                &format!("\"{text}\""),
                "an address that begins with http://, https://, amqp:// or amqps://",
            )
        }
        Some(read) => Some(read),
    }
}
