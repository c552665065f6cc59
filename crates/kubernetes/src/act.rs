//! Carries out what an evaluation asks for, in an order that loses nothing when it is cut off anywhere.
//!
//! Gateways learn first who gets no requests any more; then the decision is written down; then pods are marked, and
//! last the target gets its number. What was not done is decided again.

use std::sync::Arc;

use forewarm_control::{chain, ports::Gateway};
use forewarm_core::{
    Decision,
    pool::{PoolPlan, PoolReport},
};
use k8s_openapi::api::{
    autoscaling::v1::Scale,
    core::v1::{ObjectReference, Pod},
};
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams},
    runtime::events::{Event, EventType, Recorder},
};
use serde_json::{Value, json};

use crate::{
    condition,
    fleet::{Mark, Orders},
    lease::Leadership,
    pod::{DELETION_COST, DO_NOT_DISRUPT, DRAINING, PROTECTED, SAFE_TO_EVICT},
    resource::InferenceScalerStatus,
    scaler::{Key, News},
    target::{FIELD_MANAGER, Paths, TargetView},
};

/// Times that a number is written again when its target changed meanwhile in some other way.
const TRIES: usize = 8;

/// What is needed to write.
#[derive(Clone)]
pub struct Hands {
    /// The API server.
    pub client: Client,
    /// Whether this controller may write.
    pub leadership: Leadership,
    /// The resource of scalers.
    pub scalers: ApiResource,
    /// Tells people.
    pub recorder: Recorder,
}

/// The target of a scaler, and how it is written.
#[derive(Clone)]
pub struct TargetAccess {
    /// Its resource.
    pub resource: ApiResource,
    /// Where its number is, when it has no scale subresource.
    pub replicas_path: Option<Arc<str>>,
    /// Its name.
    pub name: Key,
    /// As it was when it was decided.
    pub view: TargetView,
}

/// What is to be done for one scaler.
pub struct Work {
    /// Whose it is.
    pub key: Key,
    /// The object.
    pub uid: Box<str>,
    /// What was decided.
    pub decision: Option<Arc<Decision>>,
    /// To the target and its pods.
    pub orders: Orders,
    /// The target, when there is one.
    pub target: Option<TargetAccess>,
    /// To the gateways.
    pub plan: Option<PoolPlan>,
    /// The gateways.
    pub gateway: Option<Arc<dyn Gateway>>,
    /// To its status.
    pub status: Option<InferenceScalerStatus>,
    /// To people.
    pub news: Vec<News>,
}

/// What was done.
#[derive(Default)]
pub struct Done {
    /// The status was written.
    pub wrote_status: bool,
    /// The gateways have their plan, and said this after it.
    pub plan: Option<(PoolPlan, Option<PoolReport>)>,
    /// The target has this number and version: by us, or by somebody else meanwhile.
    pub number: Option<(u32, String)>,
    /// The number is ours.
    pub is_ours: bool,
    /// What went wrong. It is tried again.
    pub error: Option<String>,
}

impl Hands {
    /// Does it. Never fails: what went wrong is part of the answer.
    pub async fn carry_out(&self, work: &Work) -> Done {
        let mut done = Done::default();
        if let Err(error) = self.steps(work, &mut done).await {
            done.error = Some(error);
        }
        self.tell(work).await;
        done
    }

    async fn steps(&self, work: &Work, done: &mut Done) -> Result<(), String> {
        let placement = work.decision.as_ref().map(|decision| &decision.placement);
        let takes_away =
            placement.is_some_and(|placement| !placement.drain.is_empty() || !placement.stop.is_empty());
        if takes_away {
            self.tell_gateways(work, done).await?;
        }
        if let Some(status) = &work.status {
            self.write_status(work, status).await?;
            done.wrote_status = true;
        }
        if let Some(target) = &work.target {
            let first: Vec<_> = work.orders.marks.iter().collect();
            let marks = first.iter().map(|(pod, mark)| self.mark(&target.name.namespace, pod, **mark));
            let marked = futures_util::future::join_all(marks).await;
            // A pod that is the first to go must be marked before the number falls.
            marked.into_iter().collect::<Result<Vec<()>, String>>()?;
            for pod in &work.orders.delete {
                self.delete(&target.name.namespace, pod).await?;
            }
            if let Some(replicas) = work.orders.replicas {
                self.scale(target, replicas, done).await?;
            }
        }
        if !takes_away {
            self.tell_gateways(work, done).await?;
        }
        Ok(())
    }

    fn may_write(&self) -> Result<(), String> {
        if self.leadership.is_held() { Ok(()) } else { Err("another controller leads now".to_owned()) }
    }

    async fn tell_gateways(&self, work: &Work, done: &mut Done) -> Result<(), String> {
        let (Some(plan), Some(gateway)) = (&work.plan, &work.gateway) else { return Ok(()) };
        self.may_write()?;
        gateway.apply(plan).await.map_err(|error| chain(&error))?;
        // What follows from their work must follow from a report that is younger than the plan.
        done.plan = Some((plan.clone(), gateway.report().await.ok()));
        Ok(())
    }

    async fn write_status(&self, work: &Work, status: &InferenceScalerStatus) -> Result<(), String> {
        self.may_write()?;
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &work.key.namespace, &self.scalers);
        let patch = json!({
            "apiVersion": self.scalers.api_version,
            "kind": self.scalers.kind,
            "metadata": {"name": &*work.key.name, "uid": &*work.uid},
            "status": status,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let written = api.patch_status(&work.key.name, &params, &Patch::Apply(patch)).await;
        written.map(|_| ()).map_err(|error| format!("cannot write the status: {}", chain(&error)))
    }

    async fn mark(&self, namespace: &str, pod: &str, mark: Mark) -> Result<(), String> {
        self.may_write()?;
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let keep = |mut more: Value| {
            more[PROTECTED] = "true".into();
            more[DO_NOT_DISRUPT] = "true".into();
            more[SAFE_TO_EVICT] = "false".into();
            more
        };
        let annotations = match mark {
            Mark::Protect => keep(json!({})),
            Mark::Drain(since) => keep(json!({DRAINING: condition::time(since).0.to_string()})),
            Mark::Release => json!({PROTECTED: null, DO_NOT_DISRUPT: null, SAFE_TO_EVICT: null}),
            Mark::Serve => {
                json!({DRAINING: null, DELETION_COST: null, PROTECTED: null, DO_NOT_DISRUPT: null, SAFE_TO_EVICT: null})
            }
            Mark::FirstToGo { cost } => json!({DELETION_COST: cost.to_string()}),
        };
        let patch = json!({"metadata": {"annotations": annotations}});
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        match api.patch_metadata(pod, &params, &Patch::Merge(patch)).await {
            Ok(_) => Ok(()),
            // It went by itself.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(format!("cannot mark the pod `{pod}`: {}", chain(&error))),
        }
    }

    async fn delete(&self, namespace: &str, pod: &str) -> Result<(), String> {
        self.may_write()?;
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        match api.delete(pod, &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(format!("cannot delete the pod `{pod}`: {}", chain(&error))),
        }
    }

    /// Writes the number on the version that it was decided on. When that has changed but the number has not, what
    /// was decided still holds; when the number has, it is decided anew.
    async fn scale(&self, target: &TargetAccess, replicas: u32, done: &mut Done) -> Result<(), String> {
        let mut version = target.view.resource_version.to_string();
        for _ in 0..TRIES {
            self.may_write()?;
            match self.write_number(target, replicas, &version).await {
                Ok(version) => {
                    (done.number, done.is_ours) = (Some((replicas, version)), true);
                    return Ok(());
                }
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(format!("cannot scale to {replicas}: {}", chain(&error))),
            }
            let (uid, now, fresh) = self.read_number(target).await.map_err(|error| chain(&error))?;
            if uid != *target.view.uid {
                return Err("the target was deleted and made again meanwhile".to_owned());
            }
            if now != target.view.desired {
                done.number = Some((now, fresh));
                return Err(format!("somebody else set the number of replicas to {now} meanwhile"));
            }
            version = fresh;
        }
        Err(format!("cannot scale to {replicas}: the target changes all the time"))
    }

    async fn write_number(
        &self,
        target: &TargetAccess,
        replicas: u32,
        version: &str,
    ) -> Result<String, kube::Error> {
        let api = self.target_api(target);
        let name = &target.name.name;
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let metadata =
            json!({"name": &**name, "namespace": &*target.name.namespace, "resourceVersion": version});
        let written = match &target.replicas_path {
            None => {
                let scale = json!({
                    "apiVersion": "autoscaling/v1",
                    "kind": "Scale",
                    "metadata": metadata,
                    "spec": {"replicas": replicas},
                });
                let group = target.resource.group.as_str();
                let written = if matches!(group, "" | "apps") {
                    api.patch_scale(name, &params, &Patch::Apply(scale)).await?
                } else {
                    // The API server cannot apply to the scale of a custom resource. A merge is bound to the version, too.
                    let params = PatchParams { force: false, ..params };
                    api.patch_scale(name, &params, &Patch::Merge(scale)).await?
                };
                written.metadata.resource_version
            }
            Some(path) => {
                let fields = path.trim_start_matches('.').split('.').rev();
                let mut object = fields.fold(json!(replicas), |value, field| json!({field: value}));
                object["apiVersion"] = target.resource.api_version.as_str().into();
                object["kind"] = target.resource.kind.as_str().into();
                object["metadata"] = metadata;
                api.patch(name, &params, &Patch::Apply(object)).await?.metadata.resource_version
            }
        };
        Ok(written.unwrap_or_default())
    }

    async fn read_number(&self, target: &TargetAccess) -> Result<(String, u32, String), kube::Error> {
        let api = self.target_api(target);
        let name = &target.name.name;
        let (metadata, replicas) = match &target.replicas_path {
            None => {
                let Scale { metadata, spec, .. } = api.get_scale(name).await?;
                // Zero is left out of the scale's JSON.
                let replicas = spec.and_then(|spec| spec.replicas).unwrap_or(0);
                (metadata, u32::try_from(replicas).unwrap_or(0))
            }
            Some(path) => {
                let object = api.get(name).await?;
                let view = TargetView::of(&object, &Paths::with_replicas(path));
                (object.metadata, view.map_or(0, |view| view.desired))
            }
        };
        Ok((metadata.uid.unwrap_or_default(), replicas, metadata.resource_version.unwrap_or_default()))
    }

    fn target_api(&self, target: &TargetAccess) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &target.name.namespace, &target.resource)
    }

    async fn tell(&self, work: &Work) {
        let about = ObjectReference {
            api_version: Some(self.scalers.api_version.clone()),
            kind: Some(self.scalers.kind.clone()),
            name: Some(work.key.name.to_string()),
            namespace: Some(work.key.namespace.to_string()),
            uid: Some(work.uid.to_string()),
            ..ObjectReference::default()
        };
        for News { is_warning, reason, note } in &work.news {
            let event = Event {
                type_: if *is_warning { EventType::Warning } else { EventType::Normal },
                reason: (*reason).to_owned(),
                note: Some(note.clone()),
                action: "Scale".to_owned(),
                secondary: None,
            };
            if let Err(error) = self.recorder.publish(&event, &about).await {
                tracing::debug!(%error, scaler = %work.key, "an Event was not written");
            }
        }
    }
}
