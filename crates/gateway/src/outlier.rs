//! Which replica does far worse than its peers. No clock and no sockets: its documentation is the rule.
//!
//! Beside what every client sees (a connection refused, an answer that never came), a replica can be bad in ways that
//! only show beside others:
//!
//! - *slow*: the median of its first-byte times is over [`SLOW_FACTOR`] times the median of its peers' medians, and
//!   over [`SLOW_LEAST`] above it. Two peers at least: of two replicas nobody can say which of them is off.
//! - *failing*: half or more of its requests failed (a server error, a broken connection), and of its peers' a tenth or
//!   less.
//! - *silent*: it owes a first byte, has said nothing at all for longer than [`SILENT_FACTOR`] times the longest
//!   first-byte time of its peers, and longer than [`SILENT_LEAST`]; peers did answer in that time.
//!
//! What counts is the last [`WINDOW`], and [`SAMPLES`] requests at least. Times are modelled. Only streams tell
//! first-byte times, and only they are owed a first byte: an answer in one piece comes when it is done.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use forewarm_core::{ReplicaId, pool::Endpoint};

use crate::pool::Aside;

/// What is longer ago does not count.
pub(crate) const WINDOW: Duration = Duration::from_secs(30);
/// Requests of a replica below which nothing is said about it.
const SAMPLES: usize = 10;
/// Requests that are kept of each replica.
const MOST_SAMPLES: usize = 64;
/// How many times slower than its peers a replica is that is put aside.
const SLOW_FACTOR: f64 = 3.0;
/// A difference that nobody waits for.
const SLOW_LEAST: Duration = Duration::from_millis(500);
/// Share of its requests that a failing replica fails, at least.
const FAILING: f64 = 0.5;
/// Share of their requests that its peers fail, at most.
const PEERS_FAIL: f64 = 0.1;
/// Multiple of the longest first-byte time of its peers after which a silent replica is taken for dead.
const SILENT_FACTOR: u32 = 5;
/// Shortest such silence: a long prompt takes that long.
const SILENT_LEAST: Duration = Duration::from_secs(10);
/// Time between two looks at medians and shares.
const LOOKS: Duration = Duration::from_secs(1);
/// How long a slow or failing replica is put aside; times how often it was.
const ASIDE: Duration = Duration::from_secs(30);
/// Longest such time.
const LONGEST_ASIDE: Duration = Duration::from_secs(300);

/// What is known about the replicas of a scaler. All times are modelled, since the same moment.
#[derive(Debug, Default)]
pub(crate) struct Outliers {
    replicas: BTreeMap<ReplicaId, Record>,
    looked: Duration,
}

#[derive(Debug, Default)]
struct Record {
    requests: VecDeque<Request>,
    /// Streams at it that have not begun.
    owes: u32,
    /// Since when it owes any.
    owes_since: Duration,
    ejections: u32,
}

/// A request that was answered, or not.
#[derive(Clone, Copy, Debug)]
struct Request {
    at: Duration,
    first_byte: Option<Duration>,
    failed: bool,
}

impl Outliers {
    /// These are the replicas from now on.
    pub(crate) fn apply(&mut self, endpoints: &[Endpoint]) {
        self.replicas.retain(|id, _| endpoints.iter().any(|endpoint| &endpoint.replica == id));
        for endpoint in endpoints {
            self.replicas.entry(endpoint.replica.clone()).or_default();
        }
    }

    /// A replica was sent a request for a stream.
    pub(crate) fn sent(&mut self, replica: &ReplicaId, now: Duration) {
        if let Some(record) = self.replicas.get_mut(replica) {
            if record.owes == 0 {
                record.owes_since = now;
            }
            record.owes += 1;
        }
    }

    /// A request at a replica was answered after `first_byte` (`None`: it is no stream), with an error or not.
    pub(crate) fn answered(
        &mut self,
        replica: &ReplicaId,
        first_byte: Option<Duration>,
        failed: bool,
        now: Duration,
    ) {
        if let Some(record) = self.replicas.get_mut(replica) {
            // A fast error says nothing about how fast answers are.
            let first_byte = first_byte.filter(|_| !failed);
            record.push(Request { at: now, first_byte, failed });
        }
    }

    /// A replica ended a request without an answer.
    pub(crate) fn failed(&mut self, replica: &ReplicaId, now: Duration) {
        self.answered(replica, None, true, now);
    }

    /// A stream that a replica was sent has begun, or nobody waits for it any more.
    pub(crate) fn owes_no_more(&mut self, replica: &ReplicaId) {
        if let Some(record) = self.replicas.get_mut(replica) {
            record.owes = record.owes.saturating_sub(1);
        }
    }

    /// The replica that is the farthest off its peers, and how; looks once in a while only.
    pub(crate) fn look(&mut self, now: Duration) -> Option<(ReplicaId, Aside)> {
        if now.saturating_sub(self.looked) < LOOKS {
            return None;
        }
        self.looked = now;
        for record in self.replicas.values_mut() {
            record.forget(now);
        }
        self.failing().map(|id| (id, Aside::Failing)).or_else(|| self.slow().map(|id| (id, Aside::Slow)))
    }

    fn failing(&self) -> Option<ReplicaId> {
        let judged: Vec<_> =
            self.replicas.iter().filter(|(_, record)| record.requests.len() >= SAMPLES).collect();
        let counts = |record: &Record| (record.failures(), record.requests.len());
        let all = judged.iter().map(|(_, record)| counts(record));
        let (failed, requests) = all.fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
        let is_off = |record: &Record| {
            let own = counts(record);
            let peers = (failed - own.0, requests - own.1);
            peers.1 >= SAMPLES && share(own) >= FAILING && share(peers) <= PEERS_FAIL
        };
        judged.iter().find(|(_, record)| is_off(record)).map(|(id, _)| (*id).clone())
    }

    fn slow(&self) -> Option<ReplicaId> {
        let medians: Vec<(&ReplicaId, Duration)> =
            self.replicas.iter().filter_map(|(id, record)| Some((id, record.median()?))).collect();
        let (slowest, own) = medians.iter().max_by_key(|(_, median)| *median)?;
        let peers: Vec<Duration> =
            medians.iter().filter(|(id, _)| id != slowest).map(|(_, median)| *median).collect();
        if peers.len() < 2 {
            return None;
        }
        let peers = middle(peers)?;
        let is_off = own.as_secs_f64() > SLOW_FACTOR * peers.as_secs_f64() && *own > peers + SLOW_LEAST;
        is_off.then(|| (*slowest).clone())
    }

    /// How much longer a replica may be silent that was last heard at `heard`; `None` where nobody can say, for no
    /// peer has answered lately.
    pub(crate) fn may_be_silent(
        &self,
        replica: &ReplicaId,
        heard: Duration,
        now: Duration,
    ) -> Option<Duration> {
        let record = self.replicas.get(replica).filter(|record| record.owes > 0)?;
        let peers = self.replicas.iter().filter(|(id, _)| *id != replica);
        let answers = peers.flat_map(|(_, record)| &record.requests);
        let answers = answers.filter(|request| !request.failed && now.saturating_sub(request.at) < WINDOW);
        let longest = answers.filter_map(|request| request.first_byte).max()?;
        let limit = longest.saturating_mul(SILENT_FACTOR).max(SILENT_LEAST);
        Some((heard.max(record.owes_since) + limit).saturating_sub(now))
    }

    /// A slow or failing replica is put aside now; says for how long.
    pub(crate) fn ejected(&mut self, replica: &ReplicaId) -> Duration {
        let Some(record) = self.replicas.get_mut(replica) else { return ASIDE };
        // It is judged by what it does afterwards.
        record.requests.clear();
        record.ejections += 1;
        ASIDE.saturating_mul(record.ejections).min(LONGEST_ASIDE)
    }
}

impl Record {
    fn push(&mut self, request: Request) {
        if self.requests.len() == MOST_SAMPLES {
            self.requests.pop_front();
            // It has served well for long enough.
            self.ejections = 0;
        }
        self.requests.push_back(request);
    }

    fn forget(&mut self, now: Duration) {
        while self.requests.front().is_some_and(|request| now.saturating_sub(request.at) >= WINDOW) {
            self.requests.pop_front();
        }
    }

    fn failures(&self) -> usize {
        self.requests.iter().filter(|request| request.failed).count()
    }

    fn median(&self) -> Option<Duration> {
        let times: Vec<Duration> = self.requests.iter().filter_map(|request| request.first_byte).collect();
        if times.len() < SAMPLES { None } else { middle(times) }
    }
}

/// The lower one of the two in the middle.
fn middle(mut times: Vec<Duration>) -> Option<Duration> {
    times.sort_unstable();
    times.get(times.len().checked_sub(1)? / 2).copied()
}

fn share((part, whole): (usize, usize)) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] = ["a", "b", "c", "d"];

    fn id(name: &str) -> ReplicaId {
        ReplicaId::from(name)
    }

    fn outliers(count: usize) -> Outliers {
        let endpoint = |name: &&str| Endpoint {
            replica: id(name),
            address: (*name).to_owned(),
            max_concurrency: 8,
            kv_tokens: None,
            draining: false,
        };
        let mut outliers = Outliers::default();
        outliers.apply(&NAMES[..count].iter().map(endpoint).collect::<Vec<_>>());
        outliers
    }

    /// Each replica answers so many requests after so many milliseconds, the last so many of them with an error.
    fn seen(replicas: &[(u32, u64, u32)], at_seconds: u64) -> Option<(String, Aside)> {
        let mut outliers = outliers(replicas.len());
        let at = Duration::from_secs(at_seconds);
        for (name, &(requests, millis, errors)) in NAMES.iter().zip(replicas) {
            for number in 0..requests {
                outliers.sent(&id(name), at);
                let failed = number >= requests - errors;
                outliers.answered(&id(name), Some(Duration::from_millis(millis)), failed, at);
            }
        }
        outliers.look(Duration::from_secs(60)).map(|(replica, aside)| (replica.as_str().to_owned(), aside))
    }

    #[test]
    fn who_is_far_off_its_peers_is_found_and_nobody_else() {
        type Case<'a> = (&'a str, &'a [(u32, u64, u32)], Option<(&'a str, Aside)>);
        let cases: [Case<'_>; 9] = [
            ("all alike", &[(20, 300, 0), (20, 320, 0), (20, 310, 0)], None),
            ("one slow", &[(20, 300, 0), (20, 3_000, 0), (20, 310, 0)], Some(("b", Aside::Slow))),
            ("slow, and nobody waits for it", &[(20, 10, 0), (20, 300, 0), (20, 10, 0)], None),
            ("of two nobody can say", &[(20, 300, 0), (20, 3_000, 0)], None),
            ("too few to tell", &[(20, 300, 0), (9, 3_000, 0), (20, 310, 0)], None),
            ("one fails", &[(20, 300, 0), (20, 300, 10)], Some(("b", Aside::Failing))),
            ("all fail", &[(20, 300, 12), (20, 300, 15), (20, 300, 20)], None),
            ("few fail", &[(20, 300, 0), (20, 300, 9)], None),
            ("alone", &[(20, 9_000, 20)], None),
        ];
        for (what, replicas, expected) in cases {
            let expected = expected.map(|(name, aside)| (name.to_owned(), aside));
            assert_eq!(seen(replicas, 55), expected, "{what}");
            assert_eq!(seen(replicas, 20), None, "{what}, long ago");
        }
    }

    #[test]
    fn silence_is_judged_by_what_peers_need() {
        let at = Duration::from_secs;
        let mut outliers = outliers(2);
        outliers.sent(&id("a"), at(100));
        assert_eq!(outliers.may_be_silent(&id("a"), at(0), at(105)), None, "no peer answers");
        outliers.sent(&id("b"), at(100));
        outliers.owes_no_more(&id("b"));
        outliers.answered(&id("b"), Some(at(4)), false, at(104));
        assert_eq!(outliers.may_be_silent(&id("a"), at(0), at(105)), Some(at(15)), "five times four");
        assert_eq!(outliers.may_be_silent(&id("a"), at(103), at(105)), Some(at(18)), "it said something");
        assert_eq!(outliers.may_be_silent(&id("a"), at(0), at(120)), Some(at(0)));
        assert_eq!(outliers.may_be_silent(&id("b"), at(0), at(120)), None, "it owes nothing");
        outliers.owes_no_more(&id("a"));
        assert_eq!(outliers.may_be_silent(&id("a"), at(0), at(120)), None, "its client left");
    }

    #[test]
    fn who_is_put_aside_again_stays_for_longer_until_it_serves_well() {
        let mut outliers = outliers(1);
        let twice: Vec<u64> = (0..2).map(|_| outliers.ejected(&id("a")).as_secs()).collect();
        assert_eq!(twice, [30, 60]);
        for _ in 0..=MOST_SAMPLES {
            outliers.answered(&id("a"), None, false, Duration::ZERO);
        }
        assert_eq!(outliers.ejected(&id("a")).as_secs(), 30);
    }
}
