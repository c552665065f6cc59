//! An Auto Scaling group as a fleet: desired capacity set exactly, and who goes is never left to AWS.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use forewarm_control::ports::{Fleet, FleetError, FleetView};
use forewarm_core::Placement;
use futures_util::future::{BoxFuture, FutureExt};
use rustls::ClientConfig;
use tokio::{
    sync::{Notify, broadcast::error::RecvError, watch},
    task::JoinHandle,
    time::Instant,
};

use crate::{
    AccountError, CallError, Groups, InterruptionQueue, book::Book, groups::Look, keeper::Keeper, probe,
};

/// A look that is older than this, in the group's time, is not shown any more: three settled looks.
const STALE_SECONDS: f64 = 45.0;

/// Which group, and how its instances are reached.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// Its name.
    pub name: String,
    /// Where an instance serves: `host:port` with `{privateIp}`, `{publicIp}`, `{privateDns}` or `{instanceId}`.
    pub address: String,
    /// Answers `200` when the engine serves.
    pub health_path: String,
    /// How TLS is spoken with it; `None`: it is asked over plain HTTP.
    pub tls: Option<ClientConfig>,
    /// The fewest replicas that will be asked for.
    pub min_replicas: u32,
    /// The most.
    pub max_replicas: u32,
}

/// A group's instances as replicas.
///
/// It keeps nothing on disk: what AWS shows is looked at again after a restart. When it is dropped the instances
/// go on.
#[derive(Debug)]
pub struct GroupFleet {
    shared: Arc<Shared>,
    keeper: JoinHandle<()>,
    /// Read as long as the fleet is there.
    queue: Option<Arc<InterruptionQueue>>,
}

/// What the fleet and its keeper share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: GroupConfig,
    pub(crate) groups: Arc<Groups>,
    pub(crate) http: reqwest::Client,
    pub(crate) nudge: Notify,
    book: Mutex<Book>,
    looks: watch::Receiver<Look>,
    /// What was seen before may lack what was asked for since, by whoever followed the group until now.
    since: Instant,
    /// One placement at a time.
    pub(crate) applying: tokio::sync::Mutex<()>,
    generation: watch::Sender<u64>,
    observed: AtomicU64,
}

impl GroupFleet {
    /// Follows a group. Nothing is changed, and AWS need not answer yet. Needs a tokio runtime.
    ///
    /// # Errors
    /// When no client can be set up.
    pub fn open(groups: Arc<Groups>, config: GroupConfig) -> Result<Self, AccountError> {
        let since = Instant::now();
        let looks = groups.watch(&config.name);
        let shared = Arc::new(Shared {
            http: probe::client(config.tls.as_ref())?,
            nudge: Notify::new(),
            book: Mutex::default(),
            looks,
            since,
            applying: tokio::sync::Mutex::default(),
            generation: watch::Sender::new(0),
            observed: AtomicU64::new(0),
            config,
            groups,
        });
        let keeper = tokio::spawn(Keeper::new(Arc::clone(&shared)).run());
        Ok(Self { shared, keeper, queue: None })
    }

    /// Takes in what a queue announces: instances that are going to end.
    pub fn hear(&mut self, queue: Arc<InterruptionQueue>) {
        let mut announcements = queue.announcements();
        let shared = Arc::downgrade(&self.shared);
        self.queue = Some(queue);
        tokio::spawn(async move {
            loop {
                let heard = match announcements.recv().await {
                    Ok(announcement) => announcement,
                    // What was missed shows in the instances' states.
                    Err(RecvError::Lagged(_)) => continue,
                    Err(RecvError::Closed) => return,
                };
                let Some(shared) = shared.upgrade() else { return };
                if shared.with_book(|book| book.announce(&heard)) {
                    let (instance, how) = (heard.instance.as_str(), heard.how.as_str());
                    tracing::warn!(
                        group = shared.config.name,
                        instance,
                        how,
                        "an instance will end; it is replaced"
                    );
                }
            }
        });
    }
}

impl Drop for GroupFleet {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Fleet for GroupFleet {
    fn observe(&self) -> BoxFuture<'_, Result<FleetView, FleetError>> {
        async move {
            let shared = &self.shared;
            let mut looks = shared.looks.clone();
            // The first look is worth a wait; the client's own limit of time ends it.
            let is_ours = |look: &Look| look.at.is_some_and(|at| at >= shared.since);
            if looks.wait_for(is_ours).await.is_err() {
                return Err(shared.unreachable("nobody looks at the group any more"));
            }
            shared.observe()
        }
        .boxed()
    }

    fn apply<'a>(&'a self, placement: &'a Placement) -> BoxFuture<'a, Result<(), FleetError>> {
        let (shared, placement) = (Arc::clone(&self.shared), placement.clone());
        async move {
            // In a task of its own it also comes to its end when nobody waits for it any more.
            let applied = tokio::spawn(async move { shared.apply(&placement).await }).await;
            applied.map_err(|error| FleetError::Unreachable(error.into()))?
        }
        .boxed()
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        let mut generation = self.shared.generation.subscribe();
        async move {
            let is_new = |generation: &u64| *generation != self.shared.observed.load(Ordering::SeqCst);
            if generation.wait_for(is_new).await.is_err() {
                // Without a sender nothing changes any more; the sender lives as long as `self`.
                std::future::pending::<()>().await;
            }
        }
        .boxed()
    }
}

impl Shared {
    fn observe(&self) -> Result<FleetView, FleetError> {
        let generation = *self.generation.borrow();
        self.observed.store(generation, Ordering::SeqCst);
        let look = self.looks.borrow().clone();
        self.take(&look);
        match &look.seen {
            Ok(Some(group)) if group.weighted => {
                return Err(self.unreachable(
                    "its instances count by weight or by capacity; forewarm needs one instance for each unit",
                ));
            }
            Ok(Some(_)) => {}
            Ok(None) => return Err(self.unreachable("there is no such group")),
            Err(error) => {
                if self.peek(|book| book.is_stale(STALE_SECONDS / self.groups.speed)) {
                    return Err(FleetError::Unreachable(Box::new(error.clone())));
                }
            }
        }
        Ok(self.peek(|book| book.view(Instant::now(), self.groups.speed)))
    }

    /// Takes in a look.
    pub(crate) fn take(&self, look: &Look) {
        if let (Some(at), Ok(Some(group))) = (look.at, &look.seen)
            && at >= self.since
        {
            self.peek(|book| book.take(Arc::clone(group), at, Instant::now()));
        }
    }

    pub(crate) fn unreachable(&self, why: &str) -> FleetError {
        let (name, region) = (&self.config.name, self.groups.account().region());
        FleetError::Unreachable(format!("Auto Scaling group `{name}` in {region}: {why}").into())
    }

    /// Looks at the book, or changes what nobody waits for.
    pub(crate) fn peek<T>(&self, look: impl FnOnce(&mut Book) -> T) -> T {
        look(&mut self.book.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the book, and says so.
    pub(crate) fn with_book<T>(&self, change: impl FnOnce(&mut Book) -> T) -> T {
        let result = self.peek(change);
        self.generation.send_modify(|generation| *generation += 1);
        result
    }
}

impl From<CallError> for FleetError {
    fn from(error: CallError) -> Self {
        FleetError::Unreachable(Box::new(error))
    }
}
