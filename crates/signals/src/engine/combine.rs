//! Puts the replicas' shares of one signal together.

use std::{collections::BTreeMap, time::Duration};

use forewarm_core::{Missing, Reading, ReplicaId, Signal};

/// What one replica says about one signal.
pub(super) enum Share {
    /// A number, and how old it is.
    Value { value: f64, age: Duration },
    /// It answered, and has no such metric.
    Absent,
    /// It has no rate yet.
    Reset,
    /// It does not say.
    Failed(String),
}

/// Most replicas whose reasons one message quotes.
const MAX_QUOTED: usize = 3;

/// The sum of what was said: whole when all said something, partial when some did, and else missing, for
/// the worst of the reasons. Nobody to ask is `Absent`: an empty fleet's engines prove nothing.
pub(super) fn combine(shares: impl Iterator<Item = (ReplicaId, Share)>) -> Signal {
    let mut per_replica = BTreeMap::new();
    let mut oldest = Duration::ZERO;
    let mut reasons = Vec::new();
    let (mut expected, mut failed, mut reset) = (0, 0, false);
    for (id, share) in shares {
        expected += 1;
        match share {
            Share::Value { value, age } => {
                oldest = oldest.max(age);
                per_replica.insert(id, value);
            }
            Share::Absent => {}
            Share::Reset => reset = true,
            Share::Failed(reason) => {
                failed += 1;
                if reasons.len() < MAX_QUOTED {
                    reasons.push(format!("{id}: {reason}"));
                }
            }
        }
    }
    let total = per_replica.values().sum();
    let reporting = u32::try_from(per_replica.len()).unwrap_or(u32::MAX);
    if reporting == 0 {
        let why = match (failed, reset) {
            (0, false) => Missing::Absent,
            (0, true) => Missing::Reset,
            (failed, _) => {
                let more = if failed > reasons.len() { "; …" } else { "" };
                Missing::Failed(format!("{failed} of {expected} replicas: {}{more}", reasons.join("; ")))
            }
        };
        return Signal::missing(why);
    }
    let reading = if reporting == expected {
        Reading::Value { total, per_replica }
    } else {
        Reading::Partial { total, per_replica, reporting, expected }
    };
    Signal { reading, age: oldest }
}
