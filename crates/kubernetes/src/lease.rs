//! One controller at a time: a Lease, and the proof that it is still held.
//!
//! A holder believes in its lease for less time than others wait before they take it, by the monotonic clock and from
//! before it asked for it; so a process that was stopped for a while knows that it lost it. What it had sent before is
//! refused: every write of a number carries the version that it is based on.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use forewarm_core::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ObjectMeta, PostParams},
};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{clock::ServerClock, pod::timestamp, target::FIELD_MANAGER};

/// Which lease, and who asks for it.
#[derive(Clone, Debug)]
pub struct LeaseOptions {
    /// Where it is.
    pub namespace: String,
    /// Its name. Controllers of one name take turns.
    pub name: String,
    /// Who asks; no two alike.
    pub identity: String,
    /// How long others wait after its last renewal before they take it.
    pub duration: Duration,
    /// Time between two looks.
    pub look_every: Duration,
}

impl LeaseOptions {
    /// A crash costs ten seconds; an orderly end one.
    pub const DURATION: Duration = Duration::from_secs(10);
    /// A lease that is given back is taken within it.
    pub const LOOK_EVERY: Duration = Duration::from_secs(1);
    /// Time that a write may be under way when a lease ends.
    const MARGIN: Duration = Duration::from_secs(2);

    /// With the default times.
    pub fn new(namespace: &str, name: &str, identity: String) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity,
            duration: Self::DURATION,
            look_every: Self::LOOK_EVERY,
        }
    }
}

/// Whether this process leads. Clones are one.
#[derive(Clone, Debug)]
pub struct Leadership {
    until: Arc<Mutex<Option<Instant>>>,
    leads: watch::Sender<bool>,
}

impl Default for Leadership {
    fn default() -> Self {
        Self { until: Arc::default(), leads: watch::Sender::new(false) }
    }
}

impl Leadership {
    /// Whether it leads at this moment. Asked before each write.
    pub fn is_held(&self) -> bool {
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    /// Follows it.
    pub fn subscribe(&self) -> watch::Receiver<bool> {
        self.leads.subscribe()
    }

    fn hold(&self, until: Option<Instant>) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = until;
        let leads = until.is_some();
        self.leads.send_if_modified(|before| std::mem::replace(before, leads) != leads);
    }
}

/// Somebody else's lease as it was seen.
struct Rival {
    version: String,
    since: Instant,
}

/// Asks for the lease until it is held, and holds it until `shutdown`; then it is given back.
pub async fn campaign(
    client: Client,
    options: LeaseOptions,
    leadership: Leadership,
    clock: ServerClock,
    shutdown: CancellationToken,
) {
    let api: Api<Lease> = Api::namespaced(client, &options.namespace);
    let mut rival: Option<Rival> = None;
    loop {
        let asked = Instant::now();
        let patience = options.duration.saturating_sub(LeaseOptions::MARGIN);
        match tokio::time::timeout(patience, look(&api, &options, &mut rival, &clock)).await {
            Ok(Ok(true)) => leadership.hold(Some(asked + patience)),
            Ok(Ok(false)) => leadership.hold(None),
            Ok(Err(error)) => tracing::warn!(%error, "the lease cannot be renewed"),
            Err(_) => tracing::warn!("the API server does not answer for the lease"),
        }
        if !leadership.is_held() {
            leadership.hold(None);
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(options.look_every) => {}
        }
    }
    let held = leadership.is_held();
    leadership.hold(None);
    if held && let Err(error) = give_back(&api, &options).await {
        tracing::warn!(%error, "the lease could not be given back; others wait for its end");
    }
}

/// Renews the lease or takes it; whether it is held now.
async fn look(
    api: &Api<Lease>,
    options: &LeaseOptions,
    rival: &mut Option<Rival>,
    clock: &ServerClock,
) -> Result<bool, kube::Error> {
    let mut lease = api.get_opt(&options.name).await?.unwrap_or_else(|| Lease {
        metadata: ObjectMeta { name: Some(options.name.clone()), ..ObjectMeta::default() },
        spec: None,
    });
    let before = lease.spec.take();
    let holder = before.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
    if !holder.is_empty() && holder != options.identity {
        let version = lease.resource_version().unwrap_or_default();
        match rival {
            Some(known) if known.version == version => {
                // By our own clock: whatever theirs says.
                if known.since.elapsed() < options.duration {
                    return Ok(false);
                }
            }
            _ => {
                *rival = Some(Rival { version, since: Instant::now() });
                return Ok(false);
            }
        }
    }
    *rival = None;
    lease.spec = Some(spec(options, before.clone(), clock));
    let Some(mut lease) = write(api, options, &lease).await? else { return Ok(false) };
    let written = lease.managed_fields().iter().filter_map(|entry| entry.time.as_ref()).map(timestamp).max();
    if written.is_some_and(|second| clock.set(second)) {
        // The times in it are by a clock that was wrong.
        lease.spec = Some(spec(options, before, clock));
        return Ok(write(api, options, &lease).await?.is_some());
    }
    Ok(true)
}

/// Writes it with the version that was read: of two who take it one is refused, and gets nothing.
async fn write(
    api: &Api<Lease>,
    options: &LeaseOptions,
    lease: &Lease,
) -> Result<Option<Lease>, kube::Error> {
    let written = match &lease.metadata.resource_version {
        None => api.create(&params(), lease).await,
        Some(_) => api.replace(&options.name, &params(), lease).await,
    };
    match written {
        Ok(lease) => Ok(Some(lease)),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
        Err(error) => Err(error),
    }
}

async fn give_back(api: &Api<Lease>, options: &LeaseOptions) -> Result<(), kube::Error> {
    let mut lease = api.get(&options.name).await?;
    let holder = lease.spec.as_mut().map(|spec| &mut spec.holder_identity);
    match holder {
        Some(holder) if holder.as_deref() == Some(&options.identity) => *holder = Some(String::new()),
        _ => return Ok(()),
    }
    api.replace(&options.name, &params(), &lease).await.map(|_| ())
}

fn params() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

fn spec(options: &LeaseOptions, before: Option<LeaseSpec>, clock: &ServerClock) -> LeaseSpec {
    let now = Some(micro_time(clock.now()));
    let before = before.unwrap_or_default();
    let is_ours = before.holder_identity.as_deref() == Some(&options.identity);
    LeaseSpec {
        holder_identity: Some(options.identity.clone()),
        lease_duration_seconds: i32::try_from(options.duration.as_secs()).ok(),
        renew_time: now.clone(),
        acquire_time: if is_ours { before.acquire_time } else { now },
        lease_transitions: Some(before.lease_transitions.unwrap_or(0) + i32::from(!is_ours)),
        ..LeaseSpec::default()
    }
}

fn micro_time(at: Timestamp) -> MicroTime {
    MicroTime(jiff::Timestamp::from_millisecond(at.as_millis()).unwrap_or_default())
}
