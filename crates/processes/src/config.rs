//! What a fleet of processes is made of, and the checks that make it safe to use.

use std::{collections::BTreeMap, num::NonZeroU32, path::PathBuf, time::Duration};

use rustls::ClientConfig;

/// Shortest wall time between two probes of one replica: more often costs the engine more than it tells.
const SHORTEST_PROBE_INTERVAL: Duration = Duration::from_millis(20);
/// Shortest wall time between `SIGTERM` and `SIGKILL`, whatever the speed: exiting takes real time.
const SHORTEST_GRACE: Duration = Duration::from_millis(100);
/// Default for [`ProcessFleetConfig::log_bytes`]: a start of vLLM prints about 100 KiB.
const LOG_BYTES: u64 = 4 << 20;
/// The least that keeps the end of a Python traceback.
const LEAST_LOG_BYTES: u64 = 4 << 10;

/// How to run the replicas of one target.
#[derive(Clone, Debug)]
pub struct ProcessFleetConfig {
    /// Program and arguments. `{port}` stands for the replica's port in every one of them.
    pub command: Vec<String>,
    /// Added to the controller's own environment. `{port}` stands for the replica's port in every
    /// value; `PORT` is set unless given here.
    pub env: BTreeMap<String, String>,
    /// Where the command runs; `None` for the controller's own directory.
    pub working_dir: Option<PathBuf>,
    /// The port each replica serves on; 0 for a free one, chosen for each.
    pub port: u16,
    /// Where the registry, the lock and the logs are. It belongs to this fleet alone.
    pub state_dir: PathBuf,
    /// Where a replica's work comes from.
    pub work: Work,
    /// How to tell whether a replica that is sent requests is ready.
    pub health: Health,
    /// Modelled time a replica gets between `SIGTERM` and `SIGKILL`.
    pub termination_grace: Duration,
    /// Size of a replica's log above which it is cut; the newest half is kept beside it.
    pub log_bytes: u64,
    /// Modelled seconds per second of wall time: 1 outside of demonstrations.
    pub speed: f64,
}

/// Where a replica's work comes from, and so who keeps more from it when it drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Requests are sent to it. Whoever sends them stops; the process is told nothing until it is to end.
    Sent,
    /// It takes messages from a queue. `SIGTERM` to its leader tells it to take no more: it finishes what it has and
    /// ends. Nobody sends it anything, so that it need not listen: it is ready when it has run for a moment.
    Taken,
    /// As [`Work::Taken`], and it ends by itself: with status 0 when all is done.
    Job,
}

/// How to tell whether a replica is ready: `GET` on its health path answers `200`.
#[derive(Clone, Debug)]
pub struct Health {
    /// The path, starting with `/`.
    pub path: String,
    /// How TLS is spoken; `None`: it is asked over plain HTTP.
    pub tls: Option<ClientConfig>,
    /// Modelled time between the end of one probe and the next.
    pub interval: Duration,
    /// Wall time after which a probe without an answer has failed. Not sped up: engines answer in real time.
    pub timeout: Duration,
    /// After how many failed probes in a row a ready replica counts as not ready. It is not stopped for
    /// that: an engine under load may be slow to answer.
    pub unready_after: NonZeroU32,
}

impl Default for Health {
    /// `/health` every second with a timeout of 5 s, not ready after 5 failures in a row: about half a
    /// minute of silence, which is more than the 2.5 s that llama.cpp was seen to take under load.
    fn default() -> Self {
        Self {
            path: "/health".to_owned(),
            tls: None,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(5),
            unready_after: NonZeroU32::MIN.saturating_add(4),
        }
    }
}

/// A setting that cannot work.
#[derive(Debug, thiserror::Error)]
#[error("{field}: found {found}, wanted {wanted}")]
pub struct ConfigError {
    field: &'static str,
    found: String,
    wanted: &'static str,
}

impl ProcessFleetConfig {
    /// This command on a chosen port, with a grace of 30 s as Kubernetes gives, in wall time.
    pub fn new(command: Vec<String>, state_dir: PathBuf) -> Self {
        Self {
            command,
            env: BTreeMap::new(),
            working_dir: None,
            port: 0,
            state_dir,
            work: Work::Sent,
            health: Health::default(),
            termination_grace: Duration::from_secs(30),
            log_bytes: LOG_BYTES,
            speed: 1.0,
        }
    }

    /// Looks for settings that cannot work.
    ///
    /// # Errors
    /// Names the first field that is wrong, its value and what would be right.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let fail = |field, found: String, wanted| Err(ConfigError { field, found, wanted });
        if self.command.first().is_none_or(|program| program.is_empty()) {
            return fail("command", format!("{:?}", self.command), "a program, then its arguments");
        }
        if let Some(text) = self.command.iter().chain(self.env.values()).find(|text| text.contains('\0')) {
            return fail("command", format!("{text:?}"), "text without NUL characters");
        }
        if let Some(name) =
            self.env.keys().find(|name| name.is_empty() || name.contains('=') || name.contains('\0'))
        {
            return fail("env", format!("{name:?}"), "names that are not empty, without `=`");
        }
        if !self.health.path.starts_with('/') {
            return fail("healthPath", format!("{:?}", self.health.path), "a path that starts with `/`");
        }
        if self.health.timeout.is_zero() {
            return fail("health timeout", format!("{:?}", self.health.timeout), "more than 0");
        }
        if self.log_bytes < LEAST_LOG_BYTES {
            return fail("log bytes", self.log_bytes.to_string(), "at least 4096");
        }
        if !(self.speed.is_finite() && self.speed > 0.0) {
            return fail("speed", self.speed.to_string(), "a finite number above 0");
        }
        Ok(())
    }

    /// Wall time between two probes.
    pub(crate) fn probe_interval(&self) -> Duration {
        self.wall(self.health.interval).max(SHORTEST_PROBE_INTERVAL)
    }

    /// Wall time between `SIGTERM` and `SIGKILL`.
    pub(crate) fn grace(&self) -> Duration {
        self.wall(self.termination_grace).max(SHORTEST_GRACE)
    }

    /// Modelled time that passes in this much wall time.
    pub(crate) fn modelled(&self, wall: Duration) -> Duration {
        Duration::try_from_secs_f64(wall.as_secs_f64() * self.speed).unwrap_or(Duration::MAX)
    }

    fn wall(&self, modelled: Duration) -> Duration {
        Duration::try_from_secs_f64(modelled.as_secs_f64() / self.speed).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ProcessFleetConfig {
        ProcessFleetConfig::new(vec!["vllm".to_owned()], PathBuf::from("state"))
    }

    #[test]
    fn a_wrong_setting_is_named_with_its_value() {
        type Change = fn(&mut ProcessFleetConfig);
        let cases: [(Change, &str); 6] = [
            (|c| c.command.clear(), "command: found [], wanted a program, then its arguments"),
            (|c| c.command.push("a\0b".to_owned()), "command: found \"a\\0b\""),
            (|c| drop(c.env.insert("A=B".to_owned(), String::new())), "env: found \"A=B\""),
            (|c| c.health.path = "health".to_owned(), "healthPath: found \"health\""),
            (|c| c.speed = f64::NAN, "speed: found NaN"),
            (|c| c.log_bytes = 1, "log bytes: found 1"),
        ];
        for (change, message) in cases {
            let mut config = config();
            change(&mut config);
            let error = config.check().unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
        config().check().unwrap();
    }

    #[test]
    fn speed_shortens_waits_down_to_a_bound_and_stretches_ages() {
        let mut config = config();
        config.speed = 10.0;
        assert_eq!(config.probe_interval(), Duration::from_millis(100));
        assert_eq!(config.grace(), Duration::from_secs(3));
        assert_eq!(config.modelled(Duration::from_secs(2)), Duration::from_secs(20));
        config.speed = 1e9;
        assert_eq!(config.probe_interval(), SHORTEST_PROBE_INTERVAL);
        assert_eq!(config.grace(), SHORTEST_GRACE);
    }
}
