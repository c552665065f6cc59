//! A Prometheus query.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{HttpAccess, access::http_address, decided_elsewhere, flag, given, pairs};
use crate::cursor::Cursor;

/// The answer of a Prometheus server, or of what speaks its API, to an instant query.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PrometheusSignal {
    /// Its base address.
    pub server_address: String,
    /// The PromQL expression, which gives one value, or one for each replica.
    pub query: String,
    /// The label that names the replica, when the query gives one value for each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_replica_label: Option<String>,
    /// Whether no value at all is read as 0.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ignore_null_values: bool,
    /// Added to the request, such as a tenant's name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub query_parameters: BTreeMap<String, String>,
    /// Who asks, and how.
    #[serde(flatten)]
    pub access: HttpAccess,
}

impl PrometheusSignal {
    /// A query that anybody may ask, with everything else at its default.
    pub fn new(server_address: impl Into<String>, query: impl Into<String>) -> Self {
        Self {
            server_address: server_address.into(),
            query: query.into(),
            per_replica_label: None,
            ignore_null_values: false,
            query_parameters: BTreeMap::new(),
            access: HttpAccess::default(),
        }
    }
}

pub(super) fn read(at: &Cursor<'_>) -> Option<PrometheusSignal> {
    let fields = at.fields()?;
    let address = fields.require("serverAddress", "the server's address, such as http://prometheus:9090");
    let query = fields.require("query", "a PromQL expression").and_then(|query| query.text());
    let label = given(&fields, "perReplicaLabel", Cursor::text);
    let ignore_null_values = flag(&fields, "ignoreNullValues");
    let namespace = given(&fields, "namespace", Cursor::text);
    let parameters = given(&fields, "queryParameters", pairs);
    let access = HttpAccess::read(&fields);
    decided_elsewhere(&fields, &["threshold", "activationThreshold", "metricName"]);
    fields.finish();
    let mut query_parameters = parameters?.unwrap_or_default();
    query_parameters.extend(namespace?.map(|namespace| ("namespace".to_owned(), namespace)));
    Some(PrometheusSignal {
        server_address: http_address(&address?)?,
        query: query?,
        per_replica_label: label?,
        ignore_null_values: ignore_null_values?,
        query_parameters,
        access: access?,
    })
}
