//! Brings replicas to life: spawns new ones, and takes over those that a controller before left running.

use std::{collections::BTreeMap, sync::Arc};

use forewarm_control::ports::FleetError;
use forewarm_core::{FailedStart, Phase, ReplicaId};
use rustix::process::Pid;

use crate::{
    command,
    fleet::Shared,
    live::{LiveReplica, now_millis},
    log, port,
    process::Process,
    procfs::{self, Found, Marker},
    registry::{Book, Entry, Identity, Registry},
    supervisor::{self, Supervisor},
};

/// Starts `count` replicas: all are in the registry and in view before the first is spawned.
///
/// The first failure ends it; it is also reported as a failed start, so that the loop waits before it
/// tries again.
pub(crate) fn start(shared: &Arc<Shared>, registry: &mut Registry, count: u32) -> Result<(), FleetError> {
    let mut refusal = None;
    let intended = registry.update(|book| {
        let mut intended = Vec::new();
        for _ in 0..count {
            match port::choose(shared.config.port, &book.ports()) {
                Ok(port) => intended.push(book.add(now_millis(), port)),
                Err(reason) => {
                    refusal = Some((book.take_name(), reason));
                    break;
                }
            }
        }
        intended
    });
    let intended = intended.map_err(unwritten)?;
    shared.with_live(|live| {
        for id in &intended {
            let replica = LiveReplica::new(&registry.book().replicas[id], Phase::Requested);
            live.replicas.insert(id.clone(), replica);
        }
    });
    let spawned = spawn_all(shared, registry, &intended);
    match spawned.or_else(|failure| if refusal.is_none() { Err(failure) } else { Ok(()) }) {
        Err(reason) => Err(FleetError::CannotStart { reason }),
        Ok(()) => match refusal {
            None => Ok(()),
            Some((id, reason)) => {
                let failed = FailedStart { id, phase: Phase::Requested, error: reason.clone() };
                shared.with_live(|live| live.failed(failed));
                Err(FleetError::CannotStart { reason })
            }
        },
    }
}

/// Spawns replicas that are in the registry; those after the first that fails are given up.
pub(crate) fn spawn_all(
    shared: &Arc<Shared>,
    registry: &mut Registry,
    ids: &[ReplicaId],
) -> Result<(), String> {
    let mut processes = Vec::new();
    let mut failure = None;
    for id in ids {
        match spawn(shared, id, registry.book().replicas[id].port) {
            Ok(process) => processes.push((id.clone(), process)),
            Err(reason) => {
                failure = Some((id.clone(), reason));
                break;
            }
        }
    }
    let given_up = &ids[processes.len()..];
    let recorded = registry.update(|book| {
        for (id, process) in &processes {
            record(book, id, identity(shared, process));
        }
        given_up.iter().for_each(|id| drop(book.replicas.remove(id)));
    });
    if let Err(error) = recorded {
        // They run, and carry their name: the next controller finds them by that.
        tracing::error!(%error, "cannot record what was started");
    }
    shared.with_live(|live| {
        for id in given_up {
            live.replicas.remove(id);
        }
        for (id, _) in &processes {
            if let Some(replica) = live.replicas.get_mut(id) {
                replica.phase = Phase::Provisioning;
            }
        }
        if let Some((id, reason)) = &failure {
            let (id, error) = (id.clone(), reason.clone());
            live.failed(FailedStart { id, phase: Phase::Requested, error });
        }
    });
    for (id, process) in processes {
        Supervisor::new(shared, id, process, false).start();
    }
    failure.map_or(Ok(()), |(_, reason)| Err(reason))
}

fn spawn(shared: &Arc<Shared>, id: &ReplicaId, port: u16) -> Result<Process, String> {
    let path = shared.log_path(id);
    let output = log::create(&path)
        .map_err(|error| format!("{id}: cannot write its log {}: {error}", path.display()))?;
    let marker = Marker { fleet: shared.fleet.clone(), replica: id.clone() };
    let mut child = command::command(&shared.config, &marker, port, output)
        .and_then(|mut command| command.spawn())
        .map_err(|error| command::explain(&shared.config, id, &error))?;
    let opened = i32::try_from(child.id()).ok().and_then(Pid::from_raw).map(|pid| Process::open(pid, None));
    match opened {
        Some(Ok(Some(process))) => Ok(process),
        other => {
            // Without a hold on it nothing could stop it later.
            let ended = child.kill().and_then(|()| child.wait());
            Err(format!("{id}: cannot watch its process: {other:?}, so it was killed: {ended:?}"))
        }
    }
}

/// Takes over what the registry and `/proc` say a controller before left behind.
///
/// Returns the processes that belong to no replica any more and are to be killed.
pub(crate) fn adopt(shared: &Arc<Shared>, registry: &mut Registry) -> std::io::Result<Vec<Found>> {
    let found = procfs::find(&shared.fleet, &shared.logs)?;
    let leaders: BTreeMap<&ReplicaId, &Found> =
        found.iter().filter(|found| found.leads()).map(|found| (&found.replica, found)).collect();
    let mut adopted = Vec::new();
    let mut unspawned = Vec::new();
    let mut gone = Vec::new();
    for (id, entry) in &registry.book().replicas {
        let running = match &entry.process {
            Some(recorded) => reopen(shared, recorded, leaders.get(id).copied())?,
            None => leaders.get(id).map(|found| open(found)).transpose()?.flatten(),
        };
        match running {
            Some(process) => adopted.push((id.clone(), entry.was_ready, process)),
            None if entry.process.is_none() && !entry.draining && !entry.stopping => {
                unspawned.push(id.clone())
            }
            None => gone.push((id.clone(), entry.clone())),
        }
    }
    registry.update(|book| {
        for (id, _, process) in &adopted {
            record(book, id, identity(shared, process));
        }
        gone.iter().for_each(|(id, _)| drop(book.replicas.remove(id)));
    })?;
    let kept = |id: &ReplicaId| adopted.iter().any(|(adopted, ..)| adopted == id);
    let strays = found.iter().filter(|found| !kept(&found.replica)).cloned().collect();
    announce(shared, registry.book(), &gone);
    for (id, was_ready, process) in adopted {
        tracing::info!(replica = %id, pid = ?process.pid(), "adopted a running replica");
        Supervisor::new(shared, id, process, was_ready).start();
    }
    if let Err(error) = spawn_all(shared, registry, &unspawned) {
        tracing::warn!(%error, "a start that was asked for before the restart failed");
    }
    Ok(strays)
}

fn announce(shared: &Arc<Shared>, book: &Book, gone: &[(ReplicaId, Entry)]) {
    shared.with_live(|live| {
        for (id, entry) in &book.replicas {
            // What was ready is shown as ready until a probe says otherwise: its age is not that of a start.
            let phase = match (&entry.process, entry.was_ready) {
                (None, _) => Phase::Requested,
                (Some(_), false) => Phase::Provisioning,
                (Some(_), true) => Phase::Ready,
            };
            live.replicas.insert(id.clone(), LiveReplica::new(entry, phase));
        }
        for (id, entry) in gone.iter().filter(|(_, entry)| !entry.stopping) {
            let how = "ended while no controller was watching".to_owned();
            let end = supervisor::End { how, was_ready: entry.was_ready, phase: Phase::Provisioning };
            end.announce(live, id, &shared.log_path(id));
        }
    });
}

/// The recorded process, if it still runs and shows that it is this replica.
fn reopen(shared: &Shared, recorded: &Identity, leader: Option<&Found>) -> std::io::Result<Option<Process>> {
    let same = |found: &&Found| {
        recorded.boot == shared.boot
            && recorded.pid == found.pid.as_raw_nonzero().get()
            && recorded.start_ticks == found.stat.start_ticks
    };
    leader.filter(same).map(open).transpose().map(Option::flatten)
}

fn open(found: &Found) -> std::io::Result<Option<Process>> {
    Ok(Process::open(found.pid, Some(found.stat.start_ticks))?.filter(|process| !process.had_ended()))
}

fn identity(shared: &Shared, process: &Process) -> Identity {
    Identity {
        pid: process.pid().as_raw_nonzero().get(),
        start_ticks: process.start_ticks(),
        boot: shared.boot.clone(),
    }
}

fn record(book: &mut Book, id: &ReplicaId, identity: Identity) {
    if let Some(entry) = book.replicas.get_mut(id) {
        entry.process = Some(identity);
    }
}

/// Nothing was done, because it could not be written down first.
pub(crate) fn unwritten(error: std::io::Error) -> FleetError {
    FleetError::Unreachable(format!("cannot write the registry of processes: {error}").into())
}
