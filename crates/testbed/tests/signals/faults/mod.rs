//! Sources times faults, under a controller: what it says, that no replica goes, and that it recovers by itself.
//!
//! The table is what `docs/signals.md` shows between its markers. With `FOREWARM_WRITE_DOCS` set, it is written there.

mod account;
mod cloudwatch;
mod engine;
mod kafka;
mod prometheus;
mod rabbitmq;
mod sqs;

use std::{fmt::Write as _, path::PathBuf, sync::Arc, time::Duration};

use forewarm_control::{Clock, ports::SignalSource as Source};
use forewarm_manifest::SignalSource;
use forewarm_signals::Sources;
use forewarm_testbed::{Proxy, Server};
use futures_util::future::{FutureExt, LocalBoxFuture, join_all};

use crate::stage::{PER_REPLICA, Stage};

/// Replicas that the load asks for before the fault, and after.
const BEFORE: u32 = 4;
const AFTER: u32 = 1;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Killed,
    Paused,
    Cut,
    BlackHole,
    Restarted,
    Refused,
    Absent,
}

const FAULTS: [Fault; 7] = [
    Fault::Killed,
    Fault::Paused,
    Fault::Cut,
    Fault::BlackHole,
    Fault::Restarted,
    Fault::Refused,
    Fault::Absent,
];

impl Fault {
    fn text(self) -> &'static str {
        match self {
            Fault::Killed => "killed, started later",
            Fault::Paused => "stopped (`SIGSTOP`), continued",
            Fault::Cut => "network: connections closed",
            Fault::BlackHole => "network: nothing gets through",
            Fault::Restarted => "restarted",
            Fault::Refused => "password changed",
            Fault::Absent => "series, queue or topic gone",
        }
    }
}

/// A source, its server, and the network between them.
trait World {
    /// As the table calls the source.
    fn name(&self) -> &'static str;

    /// The source, as if nobody had asked it before.
    fn source(&self, clock: Clock, timeout: Duration) -> Arc<dyn Source>;

    fn server(&mut self) -> &mut Server;

    fn network(&self) -> &Proxy;

    /// Starts the server after its end.
    async fn start_again(&mut self);

    /// Makes this many messages wait.
    async fn load(&mut self, messages: usize);

    /// Ends the server and starts it again, as fast as it can, with what it had.
    async fn restart(&mut self) {
        self.server().terminate();
        self.start_again().await;
    }

    /// The server answers, and says no…
    async fn refuse(&mut self);

    /// …and gives what is asked for again.
    async fn accept(&mut self);

    /// What is asked for is there no more…
    async fn remove(&mut self);

    /// …and is there again.
    async fn put_back(&mut self);

    /// What the table calls a fault.
    fn text(&self, fault: Fault) -> &'static str {
        fault.text()
    }

    /// What the controller must say.
    fn words(&self) -> Words;
}

/// Words for the faults that each source has its own for. [`Fault::Restarted`] is over before anything is said.
struct Words {
    /// Nobody takes the connection.
    unreachable: &'static str,
    refused: &'static str,
    absent: &'static str,
}

/// The source that a manifest describes.
fn described(source: &SignalSource, clock: Clock, timeout: Duration) -> Arc<dyn Source> {
    Sources::new(clock).source(source, timeout, Duration::ZERO).unwrap().unwrap()
}

fn words<W: World>(world: &W, fault: Fault) -> Option<&'static str> {
    let Words { unreachable, refused, absent } = world.words();
    match fault {
        Fault::Killed | Fault::Cut => Some(unreachable),
        Fault::Paused | Fault::BlackHole => Some("no answer"),
        Fault::Restarted => None,
        Fault::Refused => Some(refused),
        Fault::Absent => Some(absent),
    }
}

async fn inflict<W: World>(world: &mut W, fault: Fault) {
    match fault {
        Fault::Killed => world.server().kill(),
        Fault::Paused => world.server().pause(),
        Fault::Cut => world.network().cut(),
        Fault::BlackHole => world.network().black_hole(),
        Fault::Restarted => world.restart().await,
        Fault::Refused => world.refuse().await,
        Fault::Absent => world.remove().await,
    }
}

async fn heal<W: World>(world: &mut W, fault: Fault) {
    match fault {
        Fault::Killed => world.start_again().await,
        Fault::Paused => world.server().resume(),
        Fault::Cut | Fault::BlackHole => world.network().mend(),
        Fault::Restarted => {}
        Fault::Refused => world.accept().await,
        Fault::Absent => world.put_back().await,
    }
}

/// One row for each fault; none where the server was not fetched.
async fn rows<W: World>(world: Option<W>) -> Option<String> {
    let mut world = world?;
    let mut rows = String::new();
    for fault in FAULTS {
        let (name, text) = (world.name(), world.text(fault));
        eprintln!("{name}: {text}");
        let says = suffer(&mut world, fault).await;
        writeln!(rows, "| {name} | {text} | {says} | {BEFORE} kept | by itself |").unwrap();
    }
    Some(rows)
}

async fn suffer<W: World>(world: &mut W, fault: Fault) -> String {
    let state = tempfile::tempdir().unwrap();
    world.load(BEFORE as usize * PER_REPLICA).await;
    let mut stage = Stage::start(state.path(), |clock, timeout| world.source(clock, timeout));
    stage.until_wanted(BEFORE).await;
    stage.decided();
    inflict(world, fault).await;
    let words = words(world, fault);
    if let Some(words) = words {
        stage.until_held(words).await;
    }
    let broken = stage.decided();
    let name = world.name();
    assert!(
        broken.iter().all(|decision| decision.to.0 >= BEFORE),
        "{name} {fault:?}: {:?}",
        broken.iter().map(|decision| decision.summary()).collect::<Vec<_>>()
    );
    assert_eq!(stage.fleet.phases().len(), BEFORE as usize, "{name} {fault:?}");
    heal(world, fault).await;
    world.load(AFTER as usize * PER_REPLICA).await;
    stage.until_wanted(AFTER).await;
    stage.stop().await;
    match words {
        Some(words) => format!("“{words}”"),
        None => "nothing, when it is back before the last value is too old".into(),
    }
}

const BEGIN: &str = "<!-- faults: written by the tests -->\n";
const END: &str = "<!-- /faults -->";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_of_a_source_takes_a_replica_and_each_is_recovered_from() {
    use rabbitmq::Way::{Amqp, Management};
    let sources: [LocalBoxFuture<'_, Option<String>>; 8] = [
        async { rows(prometheus::World::start("prometheus").await).await }.boxed_local(),
        async { rows(kafka::World::start().await).await }.boxed_local(),
        async { rows(rabbitmq::World::start(Management).await).await }.boxed_local(),
        async { rows(rabbitmq::World::start(Amqp).await).await }.boxed_local(),
        async { rows(prometheus::World::start("metricsApi").await).await }.boxed_local(),
        async { rows(sqs::World::start().await).await }.boxed_local(),
        async { rows(cloudwatch::World::start().await).await }.boxed_local(),
        async { rows(Some(engine::World::start().await)).await }.boxed_local(),
    ];
    let mut table =
        "| source | fault | the reason says | replicas | recovers |\n|---|---|---|---|---|\n".to_owned();
    for rows in join_all(sources).await {
        let Some(rows) = rows else { return };
        table.push_str(&rows);
    }
    let page = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/signals.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (shown, after) = rest.split_once(END).unwrap();
    if std::env::var_os("FOREWARM_WRITE_DOCS").is_some() {
        std::fs::write(&page, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
    } else {
        assert_eq!(shown, table, "docs/signals.md is out of date: FOREWARM_WRITE_DOCS=1 writes it");
    }
}
