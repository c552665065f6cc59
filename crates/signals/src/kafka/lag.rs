//! What the offsets of a group's partitions come to. Pure: asking is the caller's.

use std::collections::BTreeMap;

use forewarm_core::{Missing, Reading, Signal};
use forewarm_manifest::signal::{KafkaSignal, OffsetReset};

/// A partition by topic and number.
pub(super) type Id = (String, i32);

/// What is known of one partition.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Partition {
    /// Which.
    pub(super) id: Id,
    /// What the group committed, if anything.
    pub(super) committed: Option<i64>,
    /// Its first and its next offset, or why they are not known.
    pub(super) offsets: Result<Offsets, String>,
}

/// The ends of a partition's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offsets {
    /// The first that is still there; asked for only where it counts.
    pub(super) first: i64,
    /// The next that will be written.
    pub(super) next: i64,
}

/// Whether the cluster knows the group, where that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    /// It has members, or committed something.
    Known,
    /// It does not.
    Unknown,
}

/// The lag that counts. `stuck` remembers what was committed at the reading before.
pub(super) fn total(
    signal: &KafkaSignal,
    partitions: &[Partition],
    group: Group,
    stuck: &mut BTreeMap<Id, i64>,
) -> Signal {
    if let Some(problem) = unknown_group(signal, group) {
        return Signal::missing(Missing::Failed(problem));
    }
    if partitions.is_empty() {
        return Signal::missing(Missing::Failed(nothing_counts(signal)));
    }
    let (mut lag, mut behind, mut reporting) = (0, 0, 0_u32);
    let mut failure = None;
    let mut is_stuck = false;
    for partition in partitions {
        match of_one(signal, partition) {
            Ok(own) => {
                reporting += 1;
                let persists = signal.exclude_persistent_lag && own > 0 && persists(partition, stuck);
                is_stuck |= persists;
                let own = if persists { 0 } else { own };
                lag += own;
                behind += i64::from(own > 0);
            }
            Err(error) => failure = Some(error),
        }
    }
    stuck.retain(|id, _| partitions.iter().any(|partition| &partition.id == id));
    // What is stuck does not ask for more, but a group that is behind is not idle either.
    if lag == 0 && is_stuck {
        lag = 1;
    }
    let total = limited(signal, lag, behind, partitions.len()) as f64;
    let reading = match failure {
        None => Reading::Value { total, per_replica: BTreeMap::new() },
        Some(error) if reporting == 0 => Reading::Missing(Missing::Failed(error)),
        Some(_) => {
            let expected = u32::try_from(partitions.len()).unwrap_or(u32::MAX);
            Reading::Partial { total, per_replica: BTreeMap::new(), reporting, expected }
        }
    };
    Signal { reading, age: std::time::Duration::ZERO }
}

/// A mistyped name must not read as a group that has nothing to do.
fn unknown_group(signal: &KafkaSignal, group: Group) -> Option<String> {
    let name = &signal.consumer_group;
    if group == Group::Known {
        return None;
    }
    if signal.scale_to_zero_on_invalid_offset {
        return Some(format!(
            "the cluster knows no consumer group `{name}` (no member, nothing committed), so its lag is not 0"
        ));
    }
    if signal.offset_reset_policy.is_none() {
        return Some(format!(
            "the cluster knows no consumer group `{name}` (no member, nothing committed); if it is new, \
             `offsetResetPolicy: earliest` or `latest` says where it begins"
        ));
    }
    None
}

/// No topic is without partitions: what is asked for is not there, which is not to be behind by 0.
fn nothing_counts(signal: &KafkaSignal) -> String {
    if signal.partition_limitation.is_empty() {
        let name = &signal.consumer_group;
        return format!("consumer group `{name}` committed nothing yet: `topic` says what it reads");
    }
    let wanted: Vec<String> = signal.partition_limitation.iter().map(ToString::to_string).collect();
    format!("there is no partition of `partitionLimitation: {}`", wanted.join(","))
}

/// A partition's lag, never negative: a commit may be ahead of what was asked a moment before.
fn of_one(signal: &KafkaSignal, partition: &Partition) -> Result<i64, String> {
    let offsets = partition.offsets.clone()?;
    let Some(committed) = partition.committed else {
        if signal.scale_to_zero_on_invalid_offset {
            return Ok(0);
        }
        return Ok(match signal.offset_reset_policy.unwrap_or(OffsetReset::Latest) {
            // KEDA's rule: one, so that somebody comes to commit.
            OffsetReset::Latest => 1,
            OffsetReset::Earliest => (offsets.next - offsets.first).max(0),
        });
    };
    Ok((offsets.next - committed).max(0))
}

/// Whether the group is where it was at the reading before.
fn persists(partition: &Partition, stuck: &mut BTreeMap<Id, i64>) -> bool {
    let Some(committed) = partition.committed else { return false };
    stuck.insert(partition.id.clone(), committed) == Some(committed)
}

/// As much as the consumers that there may be are worth.
fn limited(signal: &KafkaSignal, lag: i64, behind: i64, partitions: usize) -> i64 {
    let threshold = i64::from(signal.lag_threshold);
    let consumers = match (signal.limit_to_partitions_with_lag, signal.allow_idle_consumers) {
        (true, _) => behind,
        (false, false) => i64::try_from(partitions).unwrap_or(i64::MAX),
        (false, true) => return lag,
    };
    if lag / threshold > consumers { consumers.saturating_mul(threshold) } else { lag }
}

#[cfg(test)]
mod tests {
    use forewarm_manifest::signal::PartitionRange;

    use super::*;

    /// What is committed, the first offset and the next.
    type Ends = (Option<i64>, i64, i64);

    fn signal() -> KafkaSignal {
        KafkaSignal {
            bootstrap_servers: vec!["kafka:9092".into()],
            consumer_group: "workers".into(),
            topic: Some("requests".into()),
            lag_threshold: 10,
            offset_reset_policy: None,
            scale_to_zero_on_invalid_offset: false,
            exclude_persistent_lag: false,
            allow_idle_consumers: false,
            limit_to_partitions_with_lag: false,
            partition_limitation: Vec::new(),
            sasl: None,
            tls: None,
        }
    }

    /// Partitions from what is committed, and the ends of their logs.
    fn partitions(all: &[Ends]) -> Vec<Partition> {
        let partition = |(index, &(committed, first, next)): (usize, &Ends)| Partition {
            id: ("requests".into(), index as i32),
            committed,
            offsets: Ok(Offsets { first, next }),
        };
        all.iter().enumerate().map(partition).collect()
    }

    fn lag(signal: &KafkaSignal, all: &[Ends]) -> Signal {
        total(signal, &partitions(all), Group::Known, &mut BTreeMap::new())
    }

    #[test]
    fn the_lag_is_what_is_written_and_not_committed() {
        let base = signal();
        let earliest = KafkaSignal { offset_reset_policy: Some(OffsetReset::Earliest), ..signal() };
        let to_zero = KafkaSignal { scale_to_zero_on_invalid_offset: true, ..signal() };
        let with_lag = KafkaSignal { limit_to_partitions_with_lag: true, ..signal() };
        let idle = KafkaSignal { allow_idle_consumers: true, ..signal() };
        let cases: [(&str, &KafkaSignal, &[Ends], f64); 8] = [
            ("summed over partitions", &base, &[(Some(3), 0, 5), (Some(7), 0, 10)], 5.0),
            ("a commit that is ahead is no debt", &base, &[(Some(9), 0, 5), (Some(7), 0, 10)], 3.0),
            (
                "nothing committed: one, so that somebody comes",
                &base,
                &[(None, 0, 50), (Some(7), 0, 10)],
                4.0,
            ),
            ("nothing committed: all that is still there", &earliest, &[(None, 20, 28)], 8.0),
            (
                "nothing committed: nothing, when that was asked for",
                &to_zero,
                &[(None, 0, 50), (Some(7), 0, 10)],
                3.0,
            ),
            ("no more than the partitions can occupy", &base, &[(Some(0), 0, 500), (Some(0), 0, 0)], 20.0),
            (
                "no more than those that are behind can occupy",
                &with_lag,
                &[(Some(0), 0, 500), (Some(0), 0, 0)],
                10.0,
            ),
            ("all of it where consumers may be idle", &idle, &[(Some(0), 0, 500), (Some(0), 0, 0)], 500.0),
        ];
        for (what, signal, all, expected) in cases {
            assert_eq!(lag(signal, all), Signal::value(expected), "{what}");
        }
    }

    #[test]
    fn a_partition_that_does_not_answer_makes_the_sum_a_lower_bound() {
        let mut all = partitions(&[(Some(3), 0, 5), (Some(7), 0, 10)]);
        all[1].offsets = Err("no leader".into());
        let read = |all: &[Partition]| total(&signal(), all, Group::Known, &mut BTreeMap::new()).reading;
        let Reading::Partial { total, reporting, expected, .. } = read(&all) else { panic!("not partial") };
        assert_eq!((total, reporting, expected), (2.0, 1, 2));
        all[0].offsets = Err("no leader".into());
        assert_eq!(read(&all), Reading::Missing(Missing::Failed("no leader".into())));
    }

    #[test]
    fn an_unknown_group_is_a_problem_and_never_0() {
        let read = |signal: &KafkaSignal| {
            total(signal, &partitions(&[(None, 0, 50)]), Group::Unknown, &mut BTreeMap::new()).reading
        };
        let missing = |reading: Reading| matches!(reading, Reading::Missing(Missing::Failed(why)) if why.contains("`workers`"));
        assert!(missing(read(&signal())));
        assert!(missing(read(&KafkaSignal { scale_to_zero_on_invalid_offset: true, ..signal() })));
        // Somebody said that it is new: its first consumer has to come from somewhere.
        for (policy, lag) in [(OffsetReset::Latest, 1.0), (OffsetReset::Earliest, 10.0)] {
            let signal = KafkaSignal { offset_reset_policy: Some(policy), ..signal() };
            assert_eq!(read(&signal), Signal::value(lag).reading, "{policy:?}");
        }
    }

    #[test]
    fn partitions_that_are_not_there_are_a_problem_and_never_0() {
        let missing = |signal: &KafkaSignal, said: &str| {
            let reading = lag(signal, &[]).reading;
            assert!(
                matches!(&reading, Reading::Missing(Missing::Failed(why)) if why.contains(said)),
                "{reading:?}"
            );
        };
        missing(&KafkaSignal { topic: None, ..signal() }, "`workers` committed nothing yet");
        let (first, rest) = (PartitionRange { first: 7, last: 7 }, PartitionRange { first: 9, last: 12 });
        missing(
            &KafkaSignal { partition_limitation: vec![first, rest], ..signal() },
            "`partitionLimitation: 7,9-12`",
        );
    }

    #[test]
    fn what_stays_behind_stops_counting_and_is_not_idle() {
        let signal = KafkaSignal { exclude_persistent_lag: true, allow_idle_consumers: true, ..signal() };
        let mut stuck = BTreeMap::new();
        let mut read = |all: &[Ends]| total(&signal, &partitions(all), Group::Known, &mut stuck);
        assert_eq!(
            read(&[(Some(3), 0, 50), (Some(0), 0, 5)]),
            Signal::value(52.0),
            "seen for the first time"
        );
        assert_eq!(read(&[(Some(3), 0, 60), (Some(2), 0, 5)]), Signal::value(3.0), "the first is stuck");
        assert_eq!(read(&[(Some(3), 0, 60), (Some(5), 0, 5)]), Signal::value(1.0), "stuck alone");
        assert_eq!(read(&[(Some(4), 0, 60), (Some(5), 0, 5)]), Signal::value(56.0), "it moves again");
    }
}
