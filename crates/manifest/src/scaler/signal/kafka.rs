//! How far a Kafka consumer group is behind.

use std::fmt;

use serde::{Serialize, Serializer};

use super::{Credential, Tls, access::Basic, decided_elsewhere, flag, given};
use crate::cursor::{Cursor, Fields};

/// The lag of a consumer group: messages that are written and not committed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KafkaSignal {
    /// Brokers that know the others, `host:port`.
    #[serde(serialize_with = "comma_separated")]
    pub bootstrap_servers: Vec<String>,
    /// The group.
    pub consumer_group: String,
    /// The topic; `None`: every topic of which the group committed something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Messages that one replica is worth: what the limits below count in.
    pub lag_threshold: u32,
    /// Where the group begins in a partition of which it committed nothing; `None`: nobody said, and a group
    /// that the cluster does not know is a problem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset_reset_policy: Option<OffsetReset>,
    /// Whether a partition of which nothing is committed counts as 0.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub scale_to_zero_on_invalid_offset: bool,
    /// Whether partitions whose committed offset stays where it was do not count.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub exclude_persistent_lag: bool,
    /// Whether there may be more consumers than partitions.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub allow_idle_consumers: bool,
    /// Whether only partitions that are behind get a consumer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub limit_to_partitions_with_lag: bool,
    /// Only these partitions; empty: all.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "comma_separated")]
    pub partition_limitation: Vec<PartitionRange>,
    /// Who asks.
    #[serde(flatten)]
    pub sasl: Option<Sasl>,
    /// How TLS is spoken; `None`: not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// Where a group begins in a partition of which it committed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum OffsetReset {
    /// At its end: what is there does not count.
    Latest,
    /// At its beginning: all of it counts.
    Earliest,
}

/// Partitions from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartitionRange {
    /// The first.
    pub first: i32,
    /// The last.
    pub last: i32,
}

impl fmt::Display for PartitionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            return self.first.fmt(f);
        }
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// How to prove who asks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Sasl {
    /// The mechanism.
    #[serde(rename = "sasl")]
    pub mechanism: SaslMechanism,
    /// The name.
    pub username: Credential,
    /// The password.
    pub password: Credential,
}

/// A SASL mechanism, by KEDA's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum SaslMechanism {
    /// PLAIN.
    #[serde(rename = "plaintext")]
    Plain,
    /// SCRAM-SHA-256.
    #[serde(rename = "scram_sha256")]
    ScramSha256,
    /// SCRAM-SHA-512.
    #[serde(rename = "scram_sha512")]
    ScramSha512,
}

fn comma_separated<T: fmt::Display, S: Serializer>(items: &[T], serializer: S) -> Result<S::Ok, S::Error> {
    let items: Vec<String> = items.iter().map(T::to_string).collect();
    serializer.serialize_str(&items.join(","))
}

/// KEDA's default.
const LAG_THRESHOLD: u32 = 10;

pub(super) fn read(at: &Cursor<'_>) -> Option<KafkaSignal> {
    let fields = at.fields()?;
    let servers = fields.require("bootstrapServers", "brokers, such as kafka-1:9092,kafka-2:9092");
    let group = fields.require("consumerGroup", "the group's name").and_then(|group| group.text());
    let topic = given(&fields, "topic", Cursor::text);
    let threshold = given(&fields, "lagThreshold", |at| {
        let text = at.node.text().and_then(|text| text.parse::<u32>().ok()).filter(|number| *number > 0);
        if text.is_none() {
            at.wanted("a whole number above 0");
        }
        text
    });
    let resets = [("latest", OffsetReset::Latest), ("earliest", OffsetReset::Earliest)];
    let reset = given(&fields, "offsetResetPolicy", |at| at.one_of(&resets));
    let to_zero = flag(&fields, "scaleToZeroOnInvalidOffset");
    let persistent = flag(&fields, "excludePersistentLag");
    let (idle, with_lag) = (flag(&fields, "allowIdleConsumers"), flag(&fields, "limitToPartitionsWithLag"));
    let even = flag(&fields, "ensureEvenDistributionOfPartitions");
    let limitation = given(&fields, "partitionLimitation", partitions);
    let (sasl, tls) = (sasl(&fields), tls(&fields));
    decided_elsewhere(&fields, &["activationLagThreshold", "version", "metricName"]);
    if even == Some(true) {
        fields.at.problem("ensureEvenDistributionOfPartitions", "none: it is not supported");
    }
    if idle == Some(true) && with_lag == Some(true) {
        let both = "allowIdleConsumers and limitToPartitionsWithLag";
        fields.at.problem(both, "one of them: the second leaves no consumer idle");
    }
    fields.finish();
    let servers = servers?;
    Some(KafkaSignal {
        bootstrap_servers: servers
            .text()?
            .split(',')
            .map(|server| server_address(&servers, server.trim()))
            .collect::<Option<_>>()?,
        consumer_group: group?,
        topic: topic?,
        lag_threshold: threshold?.unwrap_or(LAG_THRESHOLD),
        offset_reset_policy: reset?,
        scale_to_zero_on_invalid_offset: to_zero?,
        exclude_persistent_lag: persistent?,
        allow_idle_consumers: idle?,
        limit_to_partitions_with_lag: with_lag?,
        partition_limitation: limitation?.unwrap_or_default(),
        sasl: sasl?,
        tls: tls?,
    })
}

fn server_address(at: &Cursor<'_>, text: &str) -> Option<String> {
    let is_address =
        |(host, port): &(&str, &str)| !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok();
    let parts = text.rsplit_once(':').filter(is_address);
    if parts.is_none() {
        at.wanted("addresses with their ports, such as kafka-1:9092,kafka-2:9092");
    }
    parts.map(|_| text.to_owned())
}

fn partitions(at: &Cursor<'_>) -> Option<Vec<PartitionRange>> {
    let range = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range = PartitionRange { first: first.trim().parse().ok()?, last: last.trim().parse().ok()? };
        (0 <= range.first && range.first <= range.last).then_some(range)
    };
    let read: Option<_> = at.text()?.split(',').map(range).collect();
    if read.is_none() {
        at.wanted("partitions and ranges of them, such as `0,2,8-15`");
    }
    read
}

fn sasl(fields: &Fields<'_>) -> Option<Option<Sasl>> {
    let mechanisms = [
        ("none", None),
        ("plaintext", Some(SaslMechanism::Plain)),
        ("scram_sha256", Some(SaslMechanism::ScramSha256)),
        ("scram_sha512", Some(SaslMechanism::ScramSha512)),
    ];
    let mechanism = given(fields, "sasl", |at| at.one_of(&mechanisms));
    let basic = Basic::read(fields);
    match (mechanism?.flatten(), basic?) {
        (None, None) => Some(None),
        (Some(mechanism), Some(Basic { username, password })) => {
            Some(Some(Sasl { mechanism, username, password }))
        }
        (Some(_), None) => {
            fields.at.problem("sasl alone", "username and password as well");
            None
        }
        (None, Some(_)) => {
            fields.at.problem("username and password alone", "sasl as well, such as `sasl: scram_sha512`");
            None
        }
    }
}

/// `enable` or `disable` as KEDA has it, or a mapping with files.
fn tls(fields: &Fields<'_>) -> Option<Option<Tls>> {
    let beside = Tls::read(fields);
    let Some(at) = fields.get("tls") else {
        return beside.map(|tls| Some(tls).filter(|tls| *tls != Tls::default()));
    };
    let beside = beside?;
    match at.node.text() {
        Some("enable") => Some(Some(beside)),
        Some("disable" | "") => Some(None),
        Some(_) => {
            at.wanted("enable, disable, or a mapping with caFile, certFile, keyFile, serverName");
            None
        }
        None => Tls::at(&at).map(Some),
    }
}
