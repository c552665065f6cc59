//! One process, held by a pidfd so that it cannot be mistaken for a later one with the same number.
//!
//! It may be a child of this process or, after a restart, of nobody we know; both look the same here.

use std::{
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::ExitStatusExt,
    },
    process::ExitStatus,
    time::Duration,
};

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, pidfd_send_signal, waitid,
};
use tokio::io::unix::AsyncFd;

use crate::procfs::{self, Found, Stat};

/// How long to wait for a process to be gone after `SIGKILL`: only one that hangs in the kernel, as on a
/// dead network disk, takes longer, and nothing more can be done about it.
const KILL_WAIT: Duration = Duration::from_secs(10);

/// A process of this machine that leads its process group.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    stat: Stat,
    fd: AsyncFd<OwnedFd>,
}

impl Process {
    /// Takes hold of a running or ended process; `None` when there is none of this number, or, when
    /// `start_ticks` is given, it is another. Must be called within a runtime.
    pub(crate) fn open(pid: Pid, start_ticks: Option<u64>) -> io::Result<Option<Self>> {
        let fd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => watch(fd)?,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Read after the opening: if this is the one we look for, then so is what `fd` holds.
        let stat =
            procfs::stat(pid)?.filter(|stat| start_ticks.is_none_or(|ticks| ticks == stat.start_ticks));
        Ok(stat.map(|stat| Self { pid, stat, fd }))
    }

    /// Its number.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// When it started, in clock ticks since boot.
    pub(crate) fn start_ticks(&self) -> u64 {
        self.stat.start_ticks
    }

    /// Whether it had ended when it was opened.
    pub(crate) fn had_ended(&self) -> bool {
        self.stat.zombie
    }

    /// Returns when it has ended. A child stays a zombie until [`Process::reap`].
    pub(crate) async fn exited(&self) {
        // A pidfd is readable from the end of its process on. An error can only come from the runtime's
        // own shutdown: then nothing is known about the process, least of all that it ended.
        while let Ok(mut ready) = self.fd.readable().await {
            // The runtime may report readiness that is none.
            if matches!(procfs::stat(self.pid), Ok(stat) if !stat.is_some_and(|stat| self.is_running(stat))) {
                return;
            }
            ready.clear_ready();
        }
        std::future::pending().await
    }

    fn is_running(&self, stat: Stat) -> bool {
        stat.start_ticks == self.stat.start_ticks && !stat.zombie
    }

    /// Sends a signal to this process alone: what it started goes on.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(self.fd.get_ref(), signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends a signal to the whole group, if its leader is still the process that was opened: running,
    /// or a zombie, which keeps the group's number from being given to another.
    pub(crate) fn signal_group(&self, signal: Signal) -> io::Result<()> {
        let same = procfs::stat(self.pid)?.is_some_and(|stat| stat.start_ticks == self.stat.start_ticks);
        if !same {
            return Ok(());
        }
        match kill_process_group(self.pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Reaps it and returns how it ended; `None` when it was not our child, so that nobody can tell us.
    /// Call it only after [`Process::exited`].
    pub(crate) fn reap(&self) -> Option<ExitStatus> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let status = waitid(WaitId::PidFd(self.fd.get_ref().as_fd()), options).ok()??;
        // The layout of wait(2)'s status word: exit code in the second byte, else the signal in the first.
        let raw = status.exit_status().map(|code| (code & 0xff) << 8).or(status.terminating_signal())?;
        Some(ExitStatus::from_raw(raw))
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe; what the caller of that must uphold, one descriptor for the whole life, `OwnedFd` does"
)]
fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(fd)
}

/// Kills these processes and returns once they are gone.
///
/// Each is taken hold of before it is checked, so that no other with the same number is hit.
pub(crate) async fn kill(found: Vec<Found>) -> io::Result<()> {
    for one in found {
        if let Some(process) = Process::open(one.pid, Some(one.stat.start_ticks))? {
            match pidfd_send_signal(process.fd.get_ref(), Signal::KILL) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
            if tokio::time::timeout(KILL_WAIT, process.exited()).await.is_err() {
                tracing::error!(pid = ?one.pid, replica = %one.replica, "process does not end after SIGKILL");
            }
        }
    }
    Ok(())
}
