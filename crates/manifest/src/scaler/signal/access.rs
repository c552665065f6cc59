//! How a source is reached: who asks, over which TLS, for how long. Secrets are named, never written.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Serialize, Serializer};

use super::{flag, given, pairs};
use crate::{
    cursor::{Cursor, Fields},
    quantity::write_duration,
};

/// A value, or where it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub enum Credential {
    /// In the manifest: names, never secrets.
    Plain(String),
    /// In a variable of forewarm's environment.
    Env {
        /// The variable.
        from_env: String,
    },
    /// In a file, which is read again whenever the value is needed.
    File {
        /// Its path.
        from_file: PathBuf,
    },
}

/// The three places of a value: the setting itself, and those that say where it is.
pub(super) type Places = [&'static str; 3];

/// A value that may stand in the manifest.
pub(super) fn name(fields: &Fields<'_>, places: Places) -> Option<Option<Credential>> {
    credential(fields, places, false)
}

/// A value that may not.
pub(super) fn secret(fields: &Fields<'_>, places: Places) -> Option<Option<Credential>> {
    credential(fields, places, true)
}

fn credential(fields: &Fields<'_>, [own, env, file]: Places, is_secret: bool) -> Option<Option<Credential>> {
    let written = given(fields, own, |at| match at.node.text() {
        Some(text) if !is_secret => Some(Credential::Plain(text.to_owned())),
        Some(_) | None => where_it_is(at),
    })?;
    let from_env = given(fields, env, Cursor::text)?.map(|from_env| Credential::Env { from_env });
    let from_file = given(fields, file, Cursor::text)?
        .map(|from_file| Credential::File { from_file: PathBuf::from(from_file) });
    Some(written.or(from_env).or(from_file))
}

/// `{fromEnv: NAME}` or `{fromFile: PATH}`, and not the value itself.
pub(in crate::scaler) fn where_it_is(at: &Cursor<'_>) -> Option<Credential> {
    if at.node.text().is_some() {
        at.problem("a secret in the clear", "where it is: {fromEnv: NAME} or {fromFile: PATH}");
        return None;
    }
    let fields = at.fields()?;
    let chosen = fields.exactly_one(&["fromEnv", "fromFile"]);
    fields.finish();
    Some(match chosen? {
        ("fromEnv", at) => Credential::Env { from_env: at.text()? },
        (_, at) => Credential::File { from_file: PathBuf::from(at.text()?) },
    })
}

/// How TLS is spoken.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// Who signs the server's certificate, in PEM; `None`: whom the system trusts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// The certificate to show, in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<PathBuf>,
    /// Its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// The name that the server's certificate is for; `None`: the one in the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// Whether any certificate will do.
    #[serde(rename = "unsafeSsl", skip_serializing_if = "std::ops::Not::not")]
    pub accepts_any: bool,
}

impl Tls {
    /// A mapping of its own.
    pub(in crate::scaler) fn at(at: &Cursor<'_>) -> Option<Self> {
        let fields = at.fields()?;
        let tls = Self::read(&fields);
        fields.finish();
        tls
    }

    pub(super) fn read(fields: &Fields<'_>) -> Option<Self> {
        let path = |name| given(fields, name, Cursor::text).map(|path| path.map(PathBuf::from));
        let (ca_file, cert_file, key_file) = (path("caFile"), path("certFile"), path("keyFile"));
        let server_name = given(fields, "serverName", Cursor::text);
        let accepts_any = flag(fields, "unsafeSsl");
        let tls = Self {
            ca_file: ca_file?,
            cert_file: cert_file?,
            key_file: key_file?,
            server_name: server_name?,
            accepts_any: accepts_any?,
        };
        if tls.cert_file.is_some() != tls.key_file.is_some() {
            let found = if tls.cert_file.is_some() { "certFile alone" } else { "keyFile alone" };
            fields.at.problem(found, "both certFile and keyFile, or none");
            return None;
        }
        Some(tls)
    }
}

/// Name and password.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Basic {
    /// The name.
    pub username: Credential,
    /// The password.
    pub password: Credential,
}

impl Basic {
    pub(super) fn read(fields: &Fields<'_>) -> Option<Option<Self>> {
        let username = name(fields, ["username", "usernameFromEnv", "usernameFromFile"]);
        let password = secret(fields, ["password", "passwordFromEnv", "passwordFromFile"]);
        match (username?, password?) {
            (Some(username), Some(password)) => Some(Some(Self { username, password })),
            (None, None) => Some(None),
            (Some(_), None) => {
                fields.at.problem("username without password", "both, or none");
                None
            }
            (None, Some(_)) => {
                fields.at.problem("password without username", "both, or none");
                None
            }
        }
    }
}

/// How something is asked for over HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpAccess {
    /// `Authorization: Bearer …`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bearer_token: Option<Credential>,
    /// `Authorization: Basic …`.
    #[serde(flatten)]
    pub basic: Option<Basic>,
    /// A header that holds a secret: its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_auth_header: Option<String>,
    /// What it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_auth_value: Option<Credential>,
    /// Other headers.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub custom_headers: BTreeMap<String, String>,
    /// For addresses that begin with `https://`.
    #[serde(flatten)]
    pub tls: Tls,
    /// How long an answer may take, on the wall; `None`: as long as a reading may take.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "write_span")]
    pub timeout: Option<Duration>,
}

pub(super) fn write_span<S: Serializer>(span: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    span.map(write_duration).serialize(serializer)
}

impl HttpAccess {
    pub(super) fn read(fields: &Fields<'_>) -> Option<Self> {
        let bearer = secret(fields, ["bearerToken", "bearerTokenFromEnv", "bearerTokenFromFile"]);
        let basic = Basic::read(fields);
        let header = given(fields, "customAuthHeader", Cursor::text);
        let value = ["customAuthValue", "customAuthValueFromEnv", "customAuthValueFromFile"];
        let value = secret(fields, value);
        let headers = given(fields, "customHeaders", pairs);
        let tls = Tls::read(fields);
        let timeout = timeout(fields);
        let access = Self {
            bearer_token: bearer?,
            basic: basic?,
            custom_auth_header: header?,
            custom_auth_value: value?,
            custom_headers: headers?.unwrap_or_default(),
            tls: tls?,
            timeout: timeout?,
        };
        access.check(fields)?;
        Some(access)
    }

    /// What `authModes` names must be there, and a server takes one `Authorization`.
    fn check(&self, fields: &Fields<'_>) -> Option<()> {
        if self.custom_auth_header.is_some() != self.custom_auth_value.is_some() {
            fields.at.problem("half of a header", "both customAuthHeader and customAuthValue, or none");
            return None;
        }
        if self.bearer_token.is_some() && self.basic.is_some() {
            fields.at.problem("bearerToken and username", "one of them: a request has one `Authorization`");
            return None;
        }
        let (several, one) = (fields.get("authModes"), fields.get("authMode"));
        let Some(modes) = several.or(one) else { return Some(()) };
        let Some(text) = modes.node.text() else {
            modes.wanted("text such as `bearer` or `tls,basic`");
            return None;
        };
        for mode in text.split(',').map(str::trim).filter(|mode| !mode.is_empty()) {
            let needs = match mode {
                "bearer" if self.bearer_token.is_none() => "bearerToken",
                "basic" if self.basic.is_none() => "username and password",
                "custom" if self.custom_auth_header.is_none() => "customAuthHeader and customAuthValue",
                "tls" if self.tls.ca_file.is_none() && self.tls.cert_file.is_none() => {
                    "caFile, or certFile and keyFile"
                }
                "bearer" | "basic" | "custom" | "tls" | "apiKey" => continue,
                _ => {
                    modes.wanted("some of bearer, basic, tls, custom, apiKey");
                    return None;
                }
            };
            fields.at.problem(format!("authModes `{mode}` alone"), format!("{needs} as well"));
            return None;
        }
        Some(())
    }
}

/// Milliseconds as KEDA writes them, or a duration.
pub(super) fn timeout(fields: &Fields<'_>) -> Option<Option<Duration>> {
    given(fields, "timeout", |at| match at.node.text().and_then(|text| text.parse::<u32>().ok()) {
        Some(milliseconds) if milliseconds > 0 => Some(Duration::from_millis(milliseconds.into())),
        _ => at.positive_duration(),
    })
}

/// An address of HTTP without a secret in it.
pub(super) fn http_address(at: &Cursor<'_>) -> Option<String> {
    let text = at.text()?;
    if text.contains('@') {
        at.problem("an address with a name in it", "the address alone; `username` and `password` beside it");
        return None;
    }
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    if host.is_some_and(|host| !host.is_empty()) {
        return Some(text);
    }
    at.wanted("an address that begins with http:// or https://");
    None
}
