//! What was decided, as the cluster has it: the status of InferenceScalers, and the Lease of who decides.

use std::collections::BTreeSet;

use forewarm_admin::ReadyToken;
use forewarm_external_scaler::{Reading, Readings};
use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Client,
    api::{ApiResource, Object},
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use serde::{Deserialize, Serialize};

/// What is read of an InferenceScaler: whatever else is in it may be of a later version.
type Scaler = Object<Unread, Status>;

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Unread {}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    desired_replicas: Option<u32>,
}

fn resource() -> ApiResource {
    ApiResource {
        group: "forewarm.dev".to_owned(),
        version: "v1alpha1".to_owned(),
        api_version: "forewarm.dev/v1alpha1".to_owned(),
        kind: "InferenceScaler".to_owned(),
        plural: "inferencescalers".to_owned(),
    }
}

/// Tells the readings of every InferenceScaler in the cluster, as long as this runs.
pub(super) async fn follow(client: Client, readings: Readings, listed: ReadyToken) {
    let scalers: Api<Scaler> = Api::all_with(client, &resource());
    let mut events = watcher(scalers, watcher::Config::default()).default_backoff().boxed();
    let (mut listed, mut known, mut seen) = (Some(listed), BTreeSet::new(), BTreeSet::new());
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => seen.clear(),
            Ok(Event::InitApply(scaler)) => {
                seen.insert(publish(&readings, &scaler));
            }
            Ok(Event::InitDone) => {
                known.difference(&seen).for_each(|gone: &String| readings.remove(gone));
                known = std::mem::take(&mut seen);
                if let Some(listed) = listed.take() {
                    listed.ready();
                }
            }
            Ok(Event::Apply(scaler)) => {
                known.insert(publish(&readings, &scaler));
            }
            Ok(Event::Delete(scaler)) => {
                known.remove(&key(&scaler));
                readings.remove(&key(&scaler));
            }
            Err(error) => tracing::warn!(%error, "InferenceScalers cannot be watched; trying again"),
        }
    }
}

fn key(scaler: &Scaler) -> String {
    let name = scaler.metadata.name.as_deref().unwrap_or_default();
    format!("{}/{name}", scaler.metadata.namespace.as_deref().unwrap_or_default())
}

fn publish(readings: &Readings, scaler: &Scaler) -> String {
    let desired = scaler.status.as_ref().and_then(|status| status.desired_replicas);
    let key = key(scaler);
    // Requests are not in the status: they change too often.
    readings.publish(&key, Reading { desired, queued: None, in_flight: None, at: None });
    key
}

/// Confirms the readings whenever the controller renews its Lease, by our own clock, as long as this runs.
pub(super) async fn confirm(client: Client, namespace: String, name: String, readings: Readings) {
    let leases: Api<Lease> = Api::namespaced(client, &namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut leases = watcher(leases, config).default_backoff().applied_objects().boxed();
    // The first may be a Lease that somebody left behind: only a renewal is a sign of life.
    let mut last = None;
    loop {
        match leases.try_next().await {
            Ok(Some(lease)) => {
                let renewed = lease.spec.and_then(|spec| spec.renew_time);
                if last.is_some() && renewed.is_some() && renewed != last {
                    readings.confirm();
                }
                last = renewed.or(last);
            }
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, %namespace, %name, "the controller's Lease cannot be watched; trying again")
            }
        }
    }
}
