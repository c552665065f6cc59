//! A number in somebody's JSON.

use serde::Serialize;

use super::{
    Credential, HttpAccess, ValueLocation,
    access::{http_address, secret},
    decided_elsewhere, given,
};
use crate::cursor::{Cursor, Fields};

/// A number in the JSON at an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricsApiSignal {
    /// The address.
    pub url: String,
    /// Where in the JSON the number is.
    pub value_location: ValueLocation,
    /// A key that is asked for.
    #[serde(flatten)]
    pub api_key: Option<ApiKey>,
    /// Who asks, and how.
    #[serde(flatten)]
    pub access: HttpAccess,
}

/// A key, and where the server wants it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiKey {
    /// The key.
    pub api_key: Credential,
    /// Where it goes.
    pub method: ApiKeyPlace,
    /// The header's or the parameter's name.
    pub key_param_name: String,
}

/// Where a key goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ApiKeyPlace {
    /// Into a header.
    Header,
    /// Into the query of the address.
    Query,
}

pub(super) fn read(at: &Cursor<'_>) -> Option<MetricsApiSignal> {
    let fields = at.fields()?;
    let url = fields.require("url", "the address, such as http://batch:8080/stats");
    let location = fields
        .require("valueLocation", "where the number is, such as `queue.depth`")
        .and_then(|at| location(&at));
    let format = given(&fields, "format", |at| at.one_of(&[("json", ())]));
    let api_key = api_key(&fields);
    let access = HttpAccess::read(&fields);
    decided_elsewhere(&fields, &["targetValue", "activationTargetValue", "metricName"]);
    fields.finish();
    format?;
    Some(MetricsApiSignal {
        url: http_address(&url?)?,
        value_location: location?,
        api_key: api_key?,
        access: access?,
    })
}

fn location(at: &Cursor<'_>) -> Option<ValueLocation> {
    match at.text()?.parse() {
        Ok(location) => Some(location),
        Err(error) => {
            at.problem(at.node.describe(), format!("names divided by dots, such as `queue.depth` ({error})"));
            None
        }
    }
}

fn api_key(fields: &Fields<'_>) -> Option<Option<ApiKey>> {
    let key = secret(fields, ["apiKey", "apiKeyFromEnv", "apiKeyFromFile"]);
    let places = [("header", ApiKeyPlace::Header), ("query", ApiKeyPlace::Query)];
    let place = given(fields, "method", |at| at.one_of(&places));
    let name = given(fields, "keyParamName", Cursor::text);
    let (key, place, name) = (key?, place?.unwrap_or(ApiKeyPlace::Header), name?);
    // KEDA's defaults.
    let default = match place {
        ApiKeyPlace::Header => "X-API-KEY",
        ApiKeyPlace::Query => "api_key",
    };
    let key_param_name = name.unwrap_or_else(|| default.to_owned());
    Some(key.map(|api_key| ApiKey { api_key, method: place, key_param_name }))
}
