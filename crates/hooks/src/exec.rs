//! A command that answers: the question on its standard input, the answer on its standard output.
//!
//! No shell reads anything. The command gets no variable of our environment but those that were named.

use std::{collections::BTreeMap, ffi::OsString, process::ExitStatus, process::Stdio, time::Duration};

use forewarm_manifest::ExecTarget;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
    time::{sleep, timeout},
};

use crate::endpoint::{Attempt, MAX_ANSWER};

/// Exit code of a command that wants to be asked again: `EX_TEMPFAIL` of sysexits.h.
const TRY_AGAIN: i32 = 75;
/// Bytes of its standard error that are kept; an error shows the last of them.
const MAX_COMPLAINT: usize = 16 * 1024;
/// Letters of them that an error shows.
const SHOWN: usize = 400;
/// What a command has written is in the pipe when it ends; what it left behind may hold the pipe open for ever.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// The command and how it is run.
#[derive(Debug)]
pub(crate) struct Exec {
    target: ExecTarget,
    environment: BTreeMap<OsString, OsString>,
}

/// Why a command was stopped.
enum Stopped {
    TooSlow,
    TooMuch,
}

impl Exec {
    pub(crate) fn new(target: &ExecTarget) -> Self {
        let passed = target.pass_env.iter().filter_map(|name| Some((name.into(), std::env::var_os(name)?)));
        let set = target.env.iter().map(|(name, value)| (name.into(), value.into()));
        Self { target: target.clone(), environment: passed.chain(set).collect() }
    }

    /// Runs it once.
    pub(crate) async fn run(&self, body: &[u8]) -> Attempt {
        let mut child = match self.spawn() {
            Ok(child) => child,
            Err(why) => return Attempt::Refused { why, body: Vec::new() },
        };
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (mut answer, mut complaint) = (Vec::new(), Vec::new());
        let ended = {
            let write = async {
                if let Some(mut stdin) = stdin {
                    // A command need not read what it does not want.
                    stdin.write_all(body).await.ok();
                }
                Ok(())
            };
            let talk = async {
                let (listen, note) =
                    (listen(stdout, &mut answer), listen_to_the_last(stderr, &mut complaint));
                tokio::try_join!(write, listen, note).map(drop)
            };
            tokio::pin!(talk);
            let end = async {
                tokio::select! {
                    biased;
                    talked = &mut talk => match talked {
                        Ok(()) => Ok(child.wait().await),
                        Err(stopped) => Err(stopped),
                    },
                    status = child.wait() => match timeout(LAST_WORDS, &mut talk).await {
                        Ok(Err(stopped)) => Err(stopped),
                        Ok(Ok(())) | Err(_) => Ok(status),
                    },
                }
            };
            tokio::select! {
                ended = end => ended,
                () = sleep(self.target.timeout) => Err(Stopped::TooSlow),
            }
        };
        match ended {
            Ok(Ok(status)) => self.judge(status, answer, &complaint),
            Ok(Err(error)) => silence(format!("{} could not be waited for: {error}", self.name())),
            Err(stopped) => {
                if let Some(group) = group {
                    // One that has gone meanwhile is what a kill is for.
                    kill_process_group(group, Signal::KILL).ok();
                }
                child.wait().await.ok();
                let name = self.name();
                match stopped {
                    Stopped::TooSlow => {
                        let seconds = self.target.timeout.as_secs_f64();
                        silence(format!("{name} did not end within {seconds} s and was killed"))
                    }
                    Stopped::TooMuch => {
                        let why = format!("{name} wrote more than {MAX_ANSWER} bytes and was killed");
                        Attempt::Refused { why, body: Vec::new() }
                    }
                }
            }
        }
    }

    fn spawn(&self) -> Result<Child, String> {
        let mut arguments = self.target.command.iter();
        let mut command = Command::new(arguments.next().map_or("", String::as_str));
        command
            .args(arguments)
            .env_clear()
            .envs(&self.environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        if let Some(directory) = &self.target.working_dir {
            command.current_dir(directory);
        }
        command.spawn().map_err(|error| format!("{} cannot be run: {error}", self.name()))
    }

    fn name(&self) -> String {
        format!("`{}`", self.target.command.first().map_or("", String::as_str))
    }

    /// What an exit status means.
    fn judge(&self, status: ExitStatus, answer: Vec<u8>, complaint: &[u8]) -> Attempt {
        let text = String::from_utf8_lossy(complaint);
        let text = text.trim();
        if !text.is_empty() {
            tracing::debug!(command = self.name(), stderr = text, "the command says");
        }
        if status.success() {
            return Attempt::Answer(answer);
        }
        let start = text.char_indices().rev().nth(SHOWN - 1).map_or(0, |(index, _)| index);
        let mut why = format!("{} ended with {status}", self.name());
        if !text.is_empty() {
            why = format!("{why}: {}", &text[start..]);
        }
        match status.code() {
            // Killed by a signal: whether it did anything is not known.
            Some(TRY_AGAIN) | None => silence(why),
            Some(_) => Attempt::Refused { why, body: answer },
        }
    }
}

/// Reads to the end, unless that is too far.
async fn listen(pipe: Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>) -> Result<(), Stopped> {
    let Some(mut pipe) = pipe else { return Ok(()) };
    let mut chunk = [0; 8192];
    // A pipe that breaks is at its end.
    while let Ok(count @ 1..) = pipe.read(&mut chunk).await {
        if into.len() + count > MAX_ANSWER {
            return Err(Stopped::TooMuch);
        }
        into.extend_from_slice(&chunk[..count]);
    }
    Ok(())
}

/// Reads to the end and keeps the last of it.
async fn listen_to_the_last(pipe: Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>) -> Result<(), Stopped> {
    let Some(mut pipe) = pipe else { return Ok(()) };
    let mut chunk = [0; 8192];
    while let Ok(count @ 1..) = pipe.read(&mut chunk).await {
        into.extend_from_slice(&chunk[..count]);
        let surplus = into.len().saturating_sub(MAX_COMPLAINT);
        into.drain(..surplus);
    }
    Ok(())
}

fn silence(why: String) -> Attempt {
    Attempt::Silence { why, retry_after: None }
}
