//! Reads from `/proc` which processes are ours. Never acts on them.

use std::{fs, io, path::Path, path::PathBuf};

use forewarm_core::ReplicaId;
use rustix::process::Pid;

/// Says in a process's environment to which fleet (one state directory) it belongs.
const FLEET: &str = "FOREWARM_FLEET";
/// Says in a process's environment which replica it is part of.
const REPLICA: &str = "FOREWARM_REPLICA";

/// What makes a process recognisable as part of a replica of one fleet.
#[derive(Clone, Debug)]
pub(crate) struct Marker {
    /// The fleet's random name.
    pub(crate) fleet: String,
    /// The replica.
    pub(crate) replica: ReplicaId,
}

impl Marker {
    /// The marker as environment variables, inherited by everything the replica starts.
    pub(crate) fn variables(&self) -> [(&'static str, &str); 2] {
        [(FLEET, &self.fleet), (REPLICA, self.replica.as_str())]
    }
}

/// One line of `/proc/PID/stat`, as far as it is needed (proc_pid_stat(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// Whether it has ended and waits to be reaped.
    pub(crate) zombie: bool,
    /// Its process group.
    pub(crate) group: i32,
    /// When it started, in clock ticks since boot: with the boot's name and the pid, unique.
    pub(crate) start_ticks: u64,
}

/// Reads the state of a process; `None` when there is no such process.
pub(crate) fn stat(pid: Pid) -> io::Result<Option<Stat>> {
    match fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())) {
        Ok(line) => parse_stat(&line).map(Some).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid:?}/stat: {line:?}"))
        }),
        // ESRCH: it ended between the opening and the reading.
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

/// The name (2nd field) may itself contain spaces and parentheses, so fields count from the last `)`.
fn parse_stat(line: &str) -> Option<Stat> {
    let mut fields = line.rsplit_once(") ")?.1.split_ascii_whitespace();
    let state = fields.next()?;
    let group = fields.nth(1)?.parse().ok()?;
    let start_ticks = fields.nth(16)?.parse().ok()?;
    Some(Stat { zombie: matches!(state, "Z" | "X"), group, start_ticks })
}

/// The name of this boot of the machine: process start times count from it.
pub(crate) fn boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// A new random name, from the kernel.
pub(crate) fn random_name() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().to_owned())
}

/// A running process that belongs to a fleet.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Which.
    pub(crate) pid: Pid,
    /// Its state when it was found.
    pub(crate) stat: Stat,
    /// The replica it is part of.
    pub(crate) replica: ReplicaId,
}

impl Found {
    /// Whether it is the process that was spawned, rather than one that it started.
    pub(crate) fn leads(&self) -> bool {
        self.stat.group == self.pid.as_raw_nonzero().get()
    }
}

/// Every running process of the fleet. Zombies are left out.
pub(crate) fn find(fleet: &str, logs: &Path) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw) else {
            continue;
        };
        if let Some(replica) = replica_of(pid, fleet, logs)
            && let Some(stat) = stat(pid)?.filter(|stat| !stat.zombie)
        {
            found.push(Found { pid, stat, replica });
        }
    }
    Ok(found)
}

/// The replica of this fleet that a process is part of: by its environment, or by the log it writes to.
///
/// The log is asked because a program that sets its process title, as vLLM does, may overwrite the
/// environment that `/proc` shows. Processes of other users cannot be read and are not ours.
pub(crate) fn replica_of(pid: Pid, fleet: &str, logs: &Path) -> Option<ReplicaId> {
    let pid = pid.as_raw_nonzero();
    if let Ok(environ) = fs::read(format!("/proc/{pid}/environ"))
        && variable(&environ, FLEET) == Some(fleet)
        && let Some(replica) = variable(&environ, REPLICA)
    {
        return Some(ReplicaId::from(replica));
    }
    [1, 2].iter().find_map(|fd| {
        let target: PathBuf = fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok()?;
        let name = target.strip_prefix(logs).ok()?.to_str()?;
        // A log that was removed shows as `r-1.log (deleted)`.
        Some(ReplicaId::from(name.strip_suffix(" (deleted)").unwrap_or(name).strip_suffix(".log")?))
    })
}

fn variable<'a>(environ: &'a [u8], name: &str) -> Option<&'a str> {
    environ
        .split(|&byte| byte == 0)
        .filter_map(|pair| std::str::from_utf8(pair).ok()?.split_once('='))
        .find_map(|(found, value)| (found == name).then_some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_survives_a_name_with_parentheses() {
        let tail = "S 1 77 77 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 4242 1000 10";
        for name in ["vllm", "a b", "tmux: (x) ", ") S 9 9"] {
            let stat = parse_stat(&format!("77 ({name}) {tail}"));
            assert_eq!(stat, Some(Stat { zombie: false, group: 77, start_ticks: 4242 }), "{name}");
        }
        assert_eq!(parse_stat("77 (cut) S 1"), None);
    }

    #[test]
    fn this_process_has_a_state_and_no_replica() {
        let me = rustix::process::getpid();
        assert!(stat(me).unwrap().is_some_and(|stat| !stat.zombie && stat.start_ticks > 0));
        assert_eq!(replica_of(me, "some fleet", Path::new("/nowhere")), None);
    }

    #[test]
    fn a_variable_is_found_by_its_whole_name() {
        let environ = b"XFOREWARM_FLEET=no\0FOREWARM_FLEET=a=b\0\xff=x\0";
        assert_eq!(variable(environ, FLEET), Some("a=b"));
        assert_eq!(variable(environ, REPLICA), None);
    }
}
