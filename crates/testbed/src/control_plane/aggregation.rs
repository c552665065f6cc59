//! An API of the test, behind the API server.

use k8s_openapi::{
    ByteString,
    api::core::v1::{Namespace, Service, ServiceSpec},
    kube_aggregator::pkg::apis::apiregistration::v1::{APIService, APIServiceSpec, ServiceReference},
};
use kube::{
    Api,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams},
};
use tokio::{
    sync::MutexGuard,
    time::{Instant, sleep},
};

use super::{ControlPlane, ControlPlaneError, DEADLINE};
use crate::server::LOOK_EVERY;

/// Where the services of aggregated APIs are.
const NAMESPACE: &str = "forewarm-testbed";

/// APIs that the API server gets from a server on this machine. An API has one owner in a cluster: as long
/// as this lives, no other test gets one.
pub struct Aggregation<'a> {
    plane: &'a ControlPlane,
    names: Vec<String>,
    _alone: MutexGuard<'a, ()>,
}

impl ControlPlane {
    /// Lets the API server get `group` in `versions` from `https://localhost:PORT`, as
    /// `GROUP.forewarm-testbed.svc` whose certificate [`ControlPlane::server_identity`] signs, and waits until
    /// it says that they are available.
    ///
    /// # Errors
    /// When they are not available in time.
    pub async fn aggregate<'a>(
        &'a self,
        apis: &[(&str, &str)],
        port: u16,
    ) -> Result<Aggregation<'a>, ControlPlaneError> {
        let alone = self.aggregated.lock().await;
        let client = self.client().await?;
        let apply = PatchParams::apply("forewarm-testbed").force();
        let named = |name: &str| ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let namespace = Namespace { metadata: named(NAMESPACE), ..Namespace::default() };
        Api::<Namespace>::all(client.clone()).patch(NAMESPACE, &apply, &Patch::Apply(&namespace)).await?;
        // The aggregator dials an external name as it is written.
        let spec = ServiceSpec {
            type_: Some("ExternalName".to_owned()),
            external_name: Some("localhost".to_owned()),
            ..ServiceSpec::default()
        };
        let service = Service { metadata: named("aggregated"), spec: Some(spec), ..Service::default() };
        let services: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
        services.patch("aggregated", &apply, &Patch::Apply(&service)).await?;
        let registered: Api<APIService> = Api::all(client);
        let mut names = Vec::new();
        for (group, version) in apis {
            let name = format!("{version}.{group}");
            let spec = APIServiceSpec {
                group: Some((*group).to_owned()),
                version: Some((*version).to_owned()),
                group_priority_minimum: 100,
                version_priority: 100,
                ca_bundle: Some(ByteString(self.authority().into_bytes())),
                service: Some(ServiceReference {
                    namespace: Some(NAMESPACE.to_owned()),
                    name: Some("aggregated".to_owned()),
                    port: Some(i32::from(port)),
                }),
                ..APIServiceSpec::default()
            };
            let api = APIService { metadata: named(&name), spec: Some(spec), status: None };
            registered.patch(&name, &apply, &Patch::Apply(&api)).await?;
            names.push(name);
        }
        let deadline = Instant::now() + DEADLINE;
        for name in &names {
            while !available(&registered.get(name).await?) {
                if Instant::now() > deadline {
                    return Err(ControlPlaneError::Late { what: format!("{name} was not available") });
                }
                sleep(LOOK_EVERY).await;
            }
        }
        Ok(Aggregation { plane: self, names, _alone: alone })
    }

    /// The name by which the API server asks for aggregated APIs: what their certificate must be for.
    pub fn aggregated_name(&self) -> String {
        format!("aggregated.{NAMESPACE}.svc")
    }
}

impl Aggregation<'_> {
    /// Takes the APIs out again, so that the next test finds none.
    ///
    /// # Errors
    /// When the API server says no.
    pub async fn end(self) -> Result<(), ControlPlaneError> {
        let registered: Api<APIService> = Api::all(self.plane.client().await?);
        for name in &self.names {
            registered.delete(name, &DeleteParams::default()).await?;
        }
        Ok(())
    }
}

fn available(api: &APIService) -> bool {
    let conditions = api.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Available" && condition.status == "True")
}
