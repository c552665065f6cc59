//! The world of a run: everything that the policy does not choose.

use crate::{ColdStartLaw, Objective, QueueOrder, engine::EngineModel};

/// Where requests wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DataPlane {
    /// One shared queue at a gateway; a replica gets a request when it has room (late binding).
    Gateway,
    /// Round robin into the engines' own queues, as behind a Kubernetes Service. While no replica is ready,
    /// requests wait in front all the same: refusing them would only count for the peers' worse.
    Engine,
}

/// The world of a run.
#[derive(Clone, Debug)]
pub struct World {
    /// How a replica works.
    pub engine: EngineModel,
    /// How long a start takes.
    pub cold_start: ColdStartLaw,
    /// Where requests wait.
    pub data_plane: DataPlane,
    /// In which order they get their slots at the gateway.
    pub queue_order: QueueOrder,
    /// What a request has to attain.
    pub objective: Objective,
    /// Replicas that are ready at the beginning.
    pub initial_replicas: u32,
    /// The most replicas that the provider has at a time; a start beyond fails at once.
    pub provider_capacity: Option<u32>,
    /// The same seed gives the same run.
    pub seed: u64,
}
