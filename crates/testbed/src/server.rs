//! One server process.

use std::{
    fs::{File, TryLockError},
    hash::{BuildHasher, RandomState},
    io,
    net::TcpListener,
    ops::Range,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    sync::{LazyLock, Mutex, PoisonError, mpsc},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::time::{Instant, sleep};

/// Time between two looks at whether a server is ready.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Lines of a server's output that an error shows.
const LAST_LINES: usize = 20;

/// What is needed to start a server, again and again.
pub struct Launch {
    /// What it is called in errors.
    pub name: String,
    /// The program; then its arguments.
    pub command: Vec<String>,
    /// Added to its environment.
    pub env: Vec<(String, String)>,
    /// Where it runs, and where `NAME.log` is written.
    pub folder: PathBuf,
}

/// Why a server is not there.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The program could not be run.
    #[error("cannot start {name}")]
    Start {
        /// The server.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ended by itself.
    #[error("{name} ended with {status} before it was ready:\n{output}")]
    Ended {
        /// The server.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// Its last lines.
        output: String,
    },
    /// It is not ready in time.
    #[error("{name} was not ready after {seconds} s:\n{output}")]
    NotReady {
        /// The server.
        name: String,
        /// How long it had.
        seconds: u64,
        /// Its last lines.
        output: String,
    },
}

/// A server that runs in a process group of its own, which is killed with this value, and with the test
/// program however that ends.
pub struct Server {
    launch: Launch,
    child: Child,
}

impl Server {
    /// Starts it and waits until `ready` says so, asking every 50 ms.
    ///
    /// # Errors
    /// When it cannot be started, ends, or is not ready `within` this time.
    pub async fn start(
        launch: Launch,
        within: Duration,
        ready: impl AsyncFnMut() -> bool,
    ) -> Result<Self, ServerError> {
        let child = launch.spawn()?;
        let mut server = Self { launch, child };
        server.wait(within, ready).await?;
        Ok(server)
    }

    /// Starts it again after [`Server::kill`] or [`Server::terminate`].
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn restart(
        &mut self,
        within: Duration,
        ready: impl AsyncFnMut() -> bool,
    ) -> Result<(), ServerError> {
        self.kill();
        self.child = self.launch.spawn()?;
        self.wait(within, ready).await
    }

    async fn wait(
        &mut self,
        within: Duration,
        mut ready: impl AsyncFnMut() -> bool,
    ) -> Result<(), ServerError> {
        let deadline = Instant::now() + within;
        loop {
            if ready().await {
                return Ok(());
            }
            let name = self.launch.name.clone();
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(ServerError::Ended { name, status, output: self.launch.last_lines() });
            }
            if Instant::now() > deadline {
                let (seconds, output) = (within.as_secs(), self.launch.last_lines());
                return Err(ServerError::NotReady { name, seconds, output });
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its output goes.
    pub fn log(&self) -> PathBuf {
        self.launch.log()
    }

    /// Stops it where it is: connections stay open and nothing answers.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on after [`Server::pause`].
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Kills it and waits for its end.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        // Nothing is left to do for a child that cannot be waited for.
        drop(self.child.wait());
    }

    /// Asks it to end, and waits for that.
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
        drop(self.child.wait());
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // A group that is gone is what a kill is for.
            kill_process_group(pid, signal).ok();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Launch {
    fn log(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }

    fn spawn(&self) -> Result<Child, ServerError> {
        let failed = |source| ServerError::Start { name: self.name.clone(), source };
        let log = File::options().create(true).append(true).open(self.log()).map_err(failed)?;
        let errors = log.try_clone().map_err(failed)?;
        // Kills the server when the test program dies without running any destructor.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).args(&self.command);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.current_dir(&self.folder).stdin(std::process::Stdio::null());
        command.stdout(log).stderr(errors).process_group(0);
        spawn(command).map_err(failed)
    }

    fn last_lines(&self) -> String {
        last_lines(&self.log())
    }
}

fn last_lines(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

type Order = (Command, mpsc::Sender<io::Result<Child>>);

/// The kernel sends a death signal when the thread that started the child ends, and a test's thread ends before
/// a server that several tests share.
static SPAWNER: LazyLock<mpsc::Sender<Order>> = LazyLock::new(|| {
    let (orders, inbox) = mpsc::channel::<Order>();
    std::thread::spawn(move || {
        for (mut command, reply) in inbox {
            // Whoever ordered it may have given up.
            drop(reply.send(command.spawn()));
        }
    });
    orders
});

fn spawn(command: Command) -> io::Result<Child> {
    let gone = || io::Error::other("the thread that starts servers is gone");
    let (reply, answer) = mpsc::channel();
    SPAWNER.send((command, reply)).map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}

/// Below those that the kernel takes for connections and for whoever asks for any port: one of these might be gone again
/// before the server has it.
const PORTS: Range<u16> = 10_000..32_000;
/// How many are tried.
const TRIES: u32 = 100;

/// Locks of the ports that this process has handed out, for as long as it lives: a server may take half a minute until it
/// listens, in which other tests ask for ports.
static CLAIMED: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A TCP port of the loopback interface that nobody listens at now, and that nobody else was given who is still there.
///
/// # Errors
/// When there is none, or the folder for locks cannot be written.
pub fn free_port() -> io::Result<u16> {
    let folder = std::env::temp_dir().join("forewarm-testbed-ports");
    std::fs::create_dir_all(&folder)?;
    for _ in 0..TRIES {
        // A random number, from the keys that the standard library draws for its hash maps.
        let port = PORTS.start + (RandomState::new().hash_one(()) % PORTS.len() as u64) as u16;
        let lock = File::options().append(true).create(true).open(folder.join(port.to_string()))?;
        match lock.try_lock() {
            Ok(()) if TcpListener::bind(("127.0.0.1", port)).is_ok() => {
                CLAIMED.lock().unwrap_or_else(PoisonError::into_inner).push(lock);
                return Ok(port);
            }
            Ok(()) | Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}
