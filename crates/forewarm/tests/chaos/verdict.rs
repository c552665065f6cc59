//! Whether the account balances: what clients saw, what replicas did, and what the gateway counted.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    time::Duration,
};

use forewarm_core::pool::PoolReport;
use serde_json::{Value, json};

use crate::{client::End, ledger::Deeds, schedule::Fault};

/// What an honest error of an accepted request may say here: every other cause has no cause.
const MID_STREAM: &str = "replica_died_mid_stream";
/// Violations that are listed; the rest is counted.
const SHOWN: usize = 20;

/// The outcome of a run.
pub(crate) struct Verdict {
    seed: u64,
    wall: Duration,
    faults: BTreeMap<Fault, u32>,
    clients: Counts,
    gateway: Counts,
    replicas: Replicas,
    violations: Vec<String>,
}

/// An account.
#[derive(Default)]
struct Counts {
    sent: u64,
    succeeded: u64,
    refused: u64,
    failed: BTreeMap<String, u64>,
    left: u64,
    lost: u64,
}

/// What replicas did.
#[derive(Default)]
struct Replicas {
    /// Requests read, each try for itself.
    tries: u64,
    /// Tries broken off on purpose before the first byte.
    refused: u64,
    /// Tries broken off on purpose after it.
    cut: u64,
    /// Requests whose answer was begun and not ended by some replica.
    broken_off: u64,
    /// Of these, those that another replica answered all the same: nothing of it had reached the gateway.
    served_again: u64,
}

impl Verdict {
    pub(crate) fn new(
        seed: u64,
        wall: Duration,
        faults: BTreeMap<Fault, u32>,
        ends: &[End],
        deeds: &HashMap<u64, Deeds>,
        report: &PoolReport,
    ) -> Self {
        let mut verdict = Self {
            seed,
            wall,
            faults,
            clients: Counts { sent: ends.len() as u64, ..Counts::default() },
            gateway: counted(report),
            replicas: Replicas::default(),
            violations: Vec::new(),
        };
        for (number, end) in ends.iter().enumerate() {
            let deeds = deeds.get(&(number as u64)).copied().unwrap_or_default();
            verdict.judge(number, end, deeds);
        }
        verdict.compare(report);
        verdict
    }

    /// One request.
    fn judge(&mut self, number: usize, end: &End, deeds: Deeds) {
        let replicas = &mut self.replicas;
        replicas.tries += u64::from(deeds.took);
        replicas.refused += u64::from(deeds.refused);
        replicas.cut += u64::from(deeds.cut);
        replicas.broken_off += u64::from(deeds.was_broken_off());
        let clients = &mut self.clients;
        let wrong = match end {
            End::Succeeded => {
                clients.succeeded += 1;
                replicas.served_again += u64::from(deeds.was_broken_off());
                (deeds.began == 0).then(|| "succeeded, and no replica began an answer".to_owned())
            }
            End::Refused => {
                clients.refused += 1;
                (deeds.took > 0).then(|| "was refused, and a replica had it".to_owned())
            }
            End::Failed(cause) => {
                *clients.failed.entry(cause.clone()).or_default() += 1;
                match (cause == MID_STREAM, deeds.was_broken_off()) {
                    (true, true) => None,
                    (true, false) => Some(format!("failed with `{cause}`, and no replica broke it off")),
                    (false, _) => Some(format!("failed with `{cause}`")),
                }
            }
            End::Left => {
                clients.left += 1;
                None
            }
            End::Lost(why) => {
                clients.lost += 1;
                Some(format!("is lost: {why}"))
            }
        };
        self.violations.extend(wrong.map(|wrong| format!("request {number} {wrong}")));
    }

    /// The gateway's account against the clients'.
    fn compare(&mut self, report: &PoolReport) {
        let (clients, gateway) = (&self.clients, &self.gateway);
        let mut wrong = Vec::new();
        if report.queued > 0 || report.in_flight_sum() > 0 {
            let at_replicas = report.in_flight_sum();
            wrong.push(format!(
                "the gateway still has {} waiting and {at_replicas} at replicas",
                report.queued
            ));
        }
        let ended = gateway.succeeded + gateway.refused + gateway.failed.values().sum::<u64>() + gateway.left;
        if ended != gateway.sent {
            wrong.push(format!("the gateway counts {} arrivals and {ended} ends", gateway.sent));
        }
        // A client that left may have done so before the gateway had its request, or when the answer was there.
        let mut near = |what: &str, seen: u64, counted: u64| {
            if !(seen..=seen + clients.left).contains(&counted) {
                wrong.push(format!("clients saw {seen} {what}, the gateway counts {counted}"));
            }
        };
        near("succeed", clients.succeeded, gateway.succeeded);
        near("refused", clients.refused, gateway.refused);
        near("sent requests", clients.sent - clients.left, gateway.sent);
        for cause in clients.failed.keys().chain(gateway.failed.keys()) {
            let of = |counts: &Counts| counts.failed.get(cause).copied().unwrap_or(0);
            near(&format!("fail with `{cause}`"), of(clients), of(gateway));
        }
        if gateway.left > clients.left {
            wrong.push(format!("{} clients left, the gateway counts {}", clients.left, gateway.left));
        }
        wrong.dedup();
        self.violations.extend(wrong);
    }

    pub(crate) fn is_well(&self) -> bool {
        self.violations.is_empty()
    }

    pub(crate) fn json(&self) -> Value {
        let account = |counts: &Counts| {
            json!({
                "sent": counts.sent, "succeeded": counts.succeeded, "refused": counts.refused,
                "failed": counts.failed, "left": counts.left, "lost": counts.lost,
            })
        };
        let faults: BTreeMap<_, _> = self.faults.iter().map(|(fault, count)| (fault.name(), count)).collect();
        let Replicas { tries, refused, cut, broken_off, served_again } = self.replicas;
        json!({
            "seed": self.seed,
            "wall_seconds": self.wall.as_secs_f64(),
            "faults": faults,
            "clients": account(&self.clients),
            "gateway": account(&self.gateway),
            "replicas": {
                "tries": tries, "reset_before_first_byte": refused, "reset_after_first_byte": cut,
                "broken_off": broken_off, "served_again": served_again,
            },
            "violations": self.violations,
        })
    }
}

fn counted(report: &PoolReport) -> Counts {
    let mut failed = report.failed_total.clone();
    let left = failed.remove("client_left").unwrap_or(0);
    Counts {
        sent: report.arrived_total,
        succeeded: report.succeeded_total,
        refused: report.refused_total,
        failed,
        left,
        lost: 0,
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sent, wall) = (self.clients.sent, self.wall.as_secs_f64());
        writeln!(f, "chaos with seed {}: {sent} requests in {wall:.0} s", self.seed)?;
        for (fault, count) in &self.faults {
            writeln!(f, "{count:>9} {}", fault.name())?;
        }
        writeln!(f, "{:>9} tries reset before the first byte", self.replicas.refused)?;
        writeln!(f, "{:>9} tries reset after it", self.replicas.cut)?;
        writeln!(f)?;
        writeln!(f, "{:<36} {:>10} {:>10}", "", "clients", "gateway")?;
        let mut row = |name: &str, of: &dyn Fn(&Counts) -> u64| {
            writeln!(f, "{name:<36} {:>10} {:>10}", of(&self.clients), of(&self.gateway))
        };
        row("sent", &|counts| counts.sent)?;
        row("succeeded", &|counts| counts.succeeded)?;
        row("refused", &|counts| counts.refused)?;
        let mut causes: Vec<_> = self.clients.failed.keys().chain(self.gateway.failed.keys()).collect();
        causes.sort_unstable();
        causes.dedup();
        for cause in causes {
            row(&format!("failed: {cause}"), &|counts| counts.failed.get(cause).copied().unwrap_or(0))?;
        }
        row("client left", &|counts| counts.left)?;
        row("lost", &|counts| counts.lost)?;
        writeln!(f)?;
        let Replicas { tries, broken_off, served_again, .. } = self.replicas;
        writeln!(f, "replicas read {tries} tries, and broke off {broken_off} answers that they had begun;")?;
        writeln!(
            f,
            "of these {served_again} were answered by another before the gateway had their first byte"
        )?;
        writeln!(f)?;
        match self.violations.len() {
            0 => writeln!(f, "the account balances: nothing lost, and no failure without its cause"),
            count => {
                writeln!(f, "{count} violations:")?;
                for violation in self.violations.iter().take(SHOWN) {
                    writeln!(f, "  {violation}")?;
                }
                Ok(())
            }
        }
    }
}
