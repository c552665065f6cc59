//! AWS as it is: a proxy before moto that adds what moto leaves out.
//!
//! moto accepts a desired capacity above the maximum, its instances are in service at once, its lifecycle hooks
//! hold nobody, it never lacks capacity and never throttles. The proxy refuses what the real API refuses, lets
//! instances be pending for a while and wait for their hooks, and has the faults that a test asks for. Addresses
//! `10.x.y.z` of instances become `127.x.y.z`, so that a test can run what serves there.

mod cbor;
mod group;
mod http;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use reqwest::Client;
use tokio::{net::TcpListener, task::JoinHandle};

use self::group::Groups;

/// What goes wrong now.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// How long an instance is `Pending`.
    pub start_up: Duration,
    /// How long it is so when it comes out of the warm pool.
    pub warm_start_up: Duration,
    /// Added to each answer.
    pub delay: Duration,
    /// Answers are `503 Service Unavailable`.
    pub down: bool,
    /// Answers are that the caller may not do this.
    pub denied: bool,
}

/// An instance as the group has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Such as `i-0123`.
    pub id: String,
    /// Where it would serve: an address of the loopback network.
    pub address: String,
    /// Its lifecycle state, such as `Pending:Wait`.
    pub state: String,
}

/// An error of the cloud itself, in words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CloudError(String);

/// The proxy; it ends with this value.
pub struct Cloud {
    shared: Arc<Shared>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

struct Shared {
    moto: String,
    client: Client,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    faults: Faults,
    /// Answers that are `Throttling`, by action.
    throttled: BTreeMap<String, u32>,
    /// Calls so far, by `service:Action`.
    calls: BTreeMap<String, u32>,
    groups: Groups,
}

impl Cloud {
    /// Puts the proxy before the moto server at `moto`, or another that speaks an API of AWS.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(moto: &str) -> io::Result<Self> {
        let client = Client::builder().no_proxy().build().map_err(io::Error::other)?;
        let shared = Arc::new(Shared { moto: moto.to_owned(), client, book: Mutex::default() });
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let router = http::router(Arc::clone(&shared));
        let task = tokio::spawn(async move {
            // It ends when it is aborted.
            drop(axum::serve(listener, router).await);
        });
        Ok(Self { shared, address, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What `AWS_ENDPOINT_URL` has to be.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes what goes wrong.
    pub fn faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.shared.book().faults);
    }

    /// The next `times` calls of this action, such as `DescribeAutoScalingGroups`, are throttled.
    pub fn throttle(&self, action: &str, times: u32) {
        self.shared.book().throttled.insert(action.to_owned(), times);
    }

    /// Calls so far, by `service:Action`.
    pub fn calls(&self) -> BTreeMap<String, u32> {
        self.shared.book().calls.clone()
    }

    /// Actions so far, as an IAM policy names them.
    pub fn actions(&self) -> BTreeSet<String> {
        self.calls().into_keys().collect()
    }

    /// From now on there is no capacity for more instances…
    pub fn run_out_of_capacity(&self) {
        self.shared.book().groups.no_capacity = true;
    }

    /// …and there is again: groups get what they lack.
    ///
    /// # Errors
    /// When moto does not answer.
    pub async fn find_capacity(&self) -> Result<(), CloudError> {
        self.shared.find_capacity().await
    }

    /// Makes a group of on-demand and spot instances (`g5.xlarge`, `g6.xlarge`) from a launch template.
    ///
    /// # Errors
    /// When moto refuses.
    pub async fn create_group(&self, name: &str, min: u32, max: u32) -> Result<(), CloudError> {
        self.shared.create_group(name, min, max).await
    }

    /// Gives the group a lifecycle hook: `launching` or `terminating`.
    ///
    /// # Errors
    /// When moto refuses.
    pub async fn put_hook(&self, group: &str, launching: bool) -> Result<(), CloudError> {
        self.shared.put_hook(group, launching).await
    }

    /// Puts this many prepared instances into a warm pool of the group; the group takes them first.
    ///
    /// # Errors
    /// When moto refuses.
    pub async fn fill_warm_pool(&self, group: &str, count: u32) -> Result<(), CloudError> {
        self.shared.fill_warm_pool(group, count).await
    }

    /// Sets the desired capacity as a person does who has the console open: the group says so among its activities.
    ///
    /// # Errors
    /// When moto refuses.
    pub async fn set_by_hand(&self, group: &str, desired: u32) -> Result<(), CloudError> {
        self.shared.set_by_hand(group, desired).await
    }

    /// Calls moto directly, with the query protocol: no faults, no count.
    ///
    /// # Errors
    /// When moto refuses or does not answer.
    pub async fn ask(
        &self,
        service: &str,
        action: &str,
        parameters: &[(&str, &str)],
    ) -> Result<String, CloudError> {
        self.shared.ask(service, action, parameters).await
    }

    /// The instances of a group that are not gone.
    ///
    /// # Errors
    /// When moto does not answer.
    pub async fn machines(&self, group: &str) -> Result<Vec<Machine>, CloudError> {
        self.shared.machines(group).await
    }

    /// Takes an instance away without asking anybody, as the end of a spot instance does; the group gets another.
    ///
    /// # Errors
    /// When moto does not answer.
    pub async fn reclaim(&self, instance: &str) -> Result<(), CloudError> {
        let parameters = [("InstanceId", instance), ("ShouldDecrementDesiredCapacity", "false")];
        self.ask("autoscaling", "TerminateInstanceInAutoScalingGroup", &parameters).await.map(drop)
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long ago it was seen first.
fn age(seen: &mut BTreeMap<String, Instant>, instance: &str) -> Duration {
    seen.entry(instance.to_owned()).or_insert_with(Instant::now).elapsed()
}
