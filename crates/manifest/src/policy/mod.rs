//! The peers' policies as manifests have them: in an `InferenceScaler`, and in manifests of their own.

mod comparators;
mod hpa;
mod keda;
mod kpa;

pub(crate) use comparators::{dynamo, ray_serve, sky_serve};
pub(crate) use hpa::hpa;
pub(crate) use keda::keda;
pub(crate) use kpa::{check_annotations, is_kpa_annotation, kpa, kpa_line};
pub(crate) use {hpa::behavior, hpa::metrics, keda::object};

use serde::de::DeserializeOwned;

use crate::{convert::json, cursor::Cursor};

/// A part of a manifest that is taken as it is; `wanted` says what it should be.
fn as_it_is<T: DeserializeOwned>(at: &Cursor<'_>, wanted: &str) -> Option<T> {
    let value = serde_json::from_value(json(at.node)).ok();
    if value.is_none() {
        at.wanted(wanted);
    }
    value
}
