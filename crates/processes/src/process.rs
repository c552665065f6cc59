//! Processes as the system shows them.

use std::{fs, path::Path};

use forewarm_core::ReplicaId;
use rustix::process::{Pid, Signal};

use crate::registry::Identity;

/// Set in the environment of every replica: which one it is…
pub(crate) const REPLICA: &str = "FOREWARM_REPLICA";
/// …and of which fleet, by its directory.
pub(crate) const FLEET: &str = "FOREWARM_FLEET";

/// The identity of a living process; `None` when there is none, or only a zombie.
pub(crate) fn identify(pid: i32) -> Option<Identity> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the fields count from behind it.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let started_ticks = fields.get(19)?.parse().ok()?;
    (fields.first() != Some(&"Z")).then_some(Identity { pid, started_ticks })
}

/// Whether exactly this process still lives.
pub(crate) fn lives(identity: Identity) -> bool {
    identify(identity.pid) == Some(identity)
}

/// Sends a signal to a replica's process group, if its leader is still the process that we know.
pub(crate) fn signal(identity: Identity, signal: Signal) {
    if lives(identity)
        && let Some(pid) = Pid::from_raw(identity.pid)
        && let Err(error) = rustix::process::kill_process_group(pid, signal)
    {
        tracing::debug!(pid = identity.pid, %error, "the process group was gone already");
    }
}

/// Ends what a replica's process left behind in its group. Harmless when there is nothing.
pub(crate) fn sweep_group(identity: Identity) {
    if identify(identity.pid).is_some_and(|found| found != identity) {
        return;
    }
    if let Some(pid) = Pid::from_raw(identity.pid)
        && rustix::process::kill_process_group(pid, Signal::KILL).is_ok()
    {
        tracing::debug!(pid = identity.pid, "ended what the replica left in its process group");
    }
}

/// Every living leader of a process group that carries the mark of this fleet.
pub(crate) fn marked(fleet: &Path) -> Vec<(ReplicaId, Identity)> {
    let wanted = format!("{FLEET}={}", fleet.display());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Ok(environment) = fs::read(entry.path().join("environ")) else { continue };
        let variables: Vec<&[u8]> = environment.split(|&byte| byte == 0).collect();
        if !variables.contains(&wanted.as_bytes()) {
            continue;
        }
        let replica = variables.iter().find_map(|variable| {
            std::str::from_utf8(variable).ok()?.strip_prefix(REPLICA)?.strip_prefix('=')
        });
        let leads = Pid::from_raw(pid).is_some_and(|pid| rustix::process::getpgid(Some(pid)) == Ok(pid));
        if let (Some(replica), true, Some(identity)) = (replica, leads, identify(pid)) {
            found.push((ReplicaId::from(replica), identity));
        }
    }
    found
}
