//! What goes wrong, and when: the same for the same seed, as far as processes allow.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio_util::sync::CancellationToken;

use crate::{
    replica::Mode,
    stage::{Stage, Victim},
};

/// A fault of a whole process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// `kill -9` of a replica.
    KillReplica,
    /// `kill -9` of every replica at once.
    KillAllReplicas,
    /// `kill -9` of the controller, and a new one.
    KillController,
    /// A new gateway that takes the place of the old one.
    ReplaceGateway,
    /// A replica whose answers trickle, for a while.
    SlowReplica,
    /// A replica that accepts connections and never answers, until it is killed.
    HalfOpenReplica,
    /// A replica that says it is loading, for a while.
    BusyReplica,
}

/// Each fault with how often it comes, relative to the others.
const WEIGHTS: [(Fault, u32); 7] = [
    (Fault::KillReplica, 30),
    (Fault::KillAllReplicas, 4),
    (Fault::KillController, 14),
    (Fault::ReplaceGateway, 8),
    (Fault::SlowReplica, 20),
    (Fault::HalfOpenReplica, 16),
    (Fault::BusyReplica, 16),
];

impl Fault {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Fault::KillReplica => "replicas killed",
            Fault::KillAllReplicas => "times all replicas killed",
            Fault::KillController => "controllers killed",
            Fault::ReplaceGateway => "gateways replaced",
            Fault::SlowReplica => "replicas slowed down",
            Fault::HalfOpenReplica => "replicas half-open",
            Fault::BusyReplica => "replicas loading again",
        }
    }
}

/// Lets things go wrong, one every `gap` on average, until it is told that it is enough. Returns how many did.
pub(crate) async fn run(
    stage: &mut Stage,
    seed: u64,
    gap: Duration,
    enough: CancellationToken,
) -> Result<BTreeMap<Fault, u32>> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut done = BTreeMap::new();
    let all: u32 = WEIGHTS.iter().map(|(_, weight)| weight).sum();
    loop {
        let pause = gap.mul_f64(random.random_range(0.5..1.5));
        tokio::select! {
            () = enough.cancelled() => return Ok(done),
            () = tokio::time::sleep(pause) => {}
        }
        let mut lot = random.random_range(0..all);
        let fault = WEIGHTS.iter().find(|(_, weight)| {
            let hit = lot < *weight;
            lot = lot.saturating_sub(*weight);
            hit
        });
        let Some(&(fault, _)) = fault else { continue };
        let alive = stage.alive()?;
        // Which of them is drawn in any case, so that what comes later does not depend on it.
        let which = random.random_range(0..u32::MAX) as usize;
        let Some(&victim) = alive.get(which % alive.len().max(1)) else { continue };
        let lasts = gap.mul_f64(random.random_range(0.5..2.0));
        commit(stage, fault, victim, &alive, lasts).await?;
        *done.entry(fault).or_insert(0) += 1;
    }
}

async fn commit(
    stage: &mut Stage,
    fault: Fault,
    victim: Victim,
    alive: &[Victim],
    lasts: Duration,
) -> Result<()> {
    match fault {
        Fault::KillReplica => {
            stage.kill(victim)?;
        }
        Fault::KillAllReplicas => {
            for &victim in alive {
                stage.kill(victim)?;
            }
        }
        Fault::KillController => {
            stage.kill_controller()?;
            tokio::time::sleep(lasts).await;
            stage.start_controller()?;
        }
        Fault::ReplaceGateway => stage.replace_gateway().await?,
        Fault::SlowReplica | Fault::BusyReplica => {
            stage.set(victim, if fault == Fault::SlowReplica { Mode::Slow } else { Mode::Busy }).await;
            tokio::time::sleep(lasts).await;
            stage.set(victim, Mode::Well).await;
        }
        Fault::HalfOpenReplica => {
            stage.set(victim, Mode::HalfOpen).await;
            tokio::time::sleep(lasts).await;
            stage.kill(victim)?;
        }
    }
    Ok(())
}
