//! A controller's calls on their way to the API server: a test holds them where it wants to, and changes answers.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
};

use http::{Method, Request, Response};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::cluster::SOON;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The API server gets it, the controller its answer.
    Passes,
    /// It is held before the API server gets it.
    HeldBefore,
    /// It is held when the API server has done it.
    HeldAfter,
    /// The API server does it, and the connection breaks before the answer is there.
    Unanswered,
    /// Somebody else changes the same object just before, unless the controller has looked at it since its last try.
    Second,
}

/// A call as a test tells it from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    method: Method,
    pub(crate) path: String,
    query: String,
}

impl Call {
    fn of(request: &Request<Body>) -> Self {
        let uri = request.uri();
        let query = uri.query().unwrap_or_default().to_owned();
        Self { method: request.method().clone(), path: uri.path().to_owned(), query }
    }

    /// Whether it writes a number of replicas.
    pub(crate) fn scales(&self) -> bool {
        self.method == Method::PATCH && self.path.ends_with("/scale")
    }

    /// Whether it lists what `kind` are, by their plural, and does not only ask for changes.
    pub(crate) fn lists(&self, kind: &str) -> bool {
        let all = self.method == Method::GET && self.path.ends_with(&format!("/{kind}"));
        all && !self.query.contains("watch=true")
    }

    fn is_of_lease(&self) -> bool {
        self.path.contains("/leases")
    }
}

type Rule = Arc<dyn Fn(&Call) -> Fate + Send + Sync>;

/// The way of a controller to the API server.
pub(crate) struct Calls(Arc<Way>);

struct Way {
    server: Client,
    others: Client,
    rule: Mutex<Rule>,
    /// What was looked at and not written since.
    looked_at: Mutex<BTreeSet<String>>,
    passed: watch::Sender<Vec<Call>>,
    held: watch::Sender<usize>,
    open: watch::Sender<bool>,
    ahead_seconds: AtomicI64,
}

impl Calls {
    /// Lets everything pass.
    pub(crate) fn to(server: Client) -> Self {
        Self::with_others(server.clone(), server)
    }

    /// The same where others come first with a client of their own.
    pub(crate) fn with_others(server: Client, others: Client) -> Self {
        let rule: Mutex<Rule> = Mutex::new(Arc::new(|_: &Call| Fate::Passes));
        let (looked_at, passed, held, open) = Default::default();
        let ahead_seconds = AtomicI64::new(0);
        Self(Arc::new(Way { server, others, rule, looked_at, passed, held, open, ahead_seconds }))
    }

    /// What the controller gets.
    pub(crate) fn client(&self) -> Client {
        let way = Arc::clone(&self.0);
        Client::new(tower::service_fn(move |request| carry(Arc::clone(&way), request)), "default")
    }

    /// What becomes of calls from now on.
    pub(crate) fn rule(&self, rule: impl Fn(&Call) -> Fate + Send + Sync + 'static) {
        *self.0.rule.lock().unwrap() = Arc::new(rule);
    }

    /// Whoever writes one of these without having looked at it just now comes second.
    pub(crate) fn come_second(&self, is_one: impl Fn(&Call) -> bool + Send + Sync + 'static) {
        self.rule(move |call| match call.method == Method::PATCH && is_one(call) {
            true => Fate::Second,
            false => Fate::Passes,
        });
    }

    /// Waits until a call is held.
    pub(crate) async fn until_held(&self) {
        let mut held = self.0.held.subscribe();
        let held = tokio::time::timeout(SOON, held.wait_for(|held| *held > 0)).await;
        assert!(held.is_ok(), "no call was held");
    }

    /// Lets those go on that are held, and all others pass.
    pub(crate) fn release(&self) {
        self.rule(|_| Fate::Passes);
        self.0.open.send_replace(true);
    }

    /// How many calls the API server has got so far.
    pub(crate) fn count(&self) -> usize {
        self.0.passed.borrow().len()
    }

    /// Waits for a call that the API server gets after so many others.
    pub(crate) async fn until(&self, after: usize, what: &str, is_it: impl Fn(&Call) -> bool) {
        let mut passed = self.0.passed.subscribe();
        let is_there = |passed: &Vec<Call>| passed.iter().skip(after).any(&is_it);
        let there = tokio::time::timeout(SOON, passed.wait_for(is_there)).await;
        assert!(there.is_ok(), "no {what} among {:#?}", self.0.passed.borrow());
    }

    /// Puts the API server's clock forward, as far as the controller can tell.
    pub(crate) fn put_clock_forward(&self, seconds: i64) {
        self.0.ahead_seconds.fetch_add(seconds, Ordering::Relaxed);
    }
}

async fn carry(way: Arc<Way>, request: Request<Body>) -> Result<Response<Body>, Failure> {
    let call = Call::of(&request);
    let rule = Arc::clone(&way.rule.lock().unwrap());
    let fate = rule(&call);
    match fate {
        Fate::HeldBefore => way.hold().await,
        Fate::Second => way.come_first(&call).await?,
        Fate::Passes | Fate::HeldAfter | Fate::Unanswered => {}
    }
    let answer = way.server.send(request).await?;
    if call.method == Method::GET && answer.status().is_success() {
        way.looked_at.lock().unwrap().insert(call.path.clone());
    }
    way.passed.send_modify(|passed| passed.push(call.clone()));
    match fate {
        Fate::HeldAfter => way.hold().await,
        Fate::Unanswered => return Err("the connection is reset".into()),
        Fate::Passes | Fate::HeldBefore | Fate::Second => {}
    }
    let ahead = way.ahead_seconds.load(Ordering::Relaxed);
    if ahead == 0 || !call.is_of_lease() {
        return Ok(answer);
    }
    let (parts, body) = answer.into_parts();
    let mut lease: Value = serde_json::from_slice(&body.collect_bytes().await?)?;
    for entry in lease["metadata"]["managedFields"].as_array_mut().into_iter().flatten() {
        let at: jiff::Timestamp = entry["time"].as_str().unwrap_or_default().parse()?;
        entry["time"] = (at + jiff::SignedDuration::from_secs(ahead)).to_string().into();
    }
    Ok(Response::from_parts(parts, serde_json::to_vec(&lease)?.into()))
}

impl Way {
    /// Changes the object whose number is about to be written.
    async fn come_first(&self, call: &Call) -> Result<(), Failure> {
        if self.looked_at.lock().unwrap().remove(&call.path) {
            return Ok(());
        }
        let turn = self.passed.borrow().len().to_string();
        let change = json!({"metadata": {"annotations": {"tests/turn": turn}}});
        let request = Request::patch(call.path.trim_end_matches("/scale"));
        let request = request.header("content-type", "application/merge-patch+json");
        self.others.request_text(request.body(serde_json::to_vec(&change)?)?).await?;
        Ok(())
    }

    async fn hold(&self) {
        self.held.send_modify(|held| *held += 1);
        // Whoever holds the sender holds the call.
        self.open.subscribe().wait_for(|open| *open).await.ok();
    }
}
