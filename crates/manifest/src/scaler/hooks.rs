//! Targets that are somebody else's: an endpoint or a command that starts and stops replicas.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Serialize;

use super::target;
use crate::{cursor::Cursor, quantity::write_duration};

/// Whatever is behind an HTTPS endpoint of the user's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookTarget {
    /// Where it is asked: `https://…`, or `http://` where that is allowed.
    pub url: String,
    /// What requests are signed with.
    pub secret: SecretRef,
    /// How long one answer may take, on the wall.
    pub timeout: Duration,
    /// Who signs its certificate, PEM; `None`: whom the system trusts.
    pub ca_file: Option<PathBuf>,
    /// Lets requests go in the clear to another machine.
    pub allow_insecure: bool,
}

/// Whatever a command of the user's starts and stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecTarget {
    /// The program and its arguments; no shell reads them.
    pub command: Vec<String>,
    /// Its environment, beside what is passed.
    pub env: BTreeMap<String, String>,
    /// Variables of forewarm's own environment that it gets.
    pub pass_env: Vec<String>,
    /// Where it runs; `None`: where forewarm runs.
    pub working_dir: Option<PathBuf>,
    /// How long one answer may take, on the wall; then its process group is killed.
    pub timeout: Duration,
}

/// Where a secret is: a manifest never has one in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretRef {
    /// In an environment variable of forewarm's.
    Env(String),
    /// In a file.
    File(PathBuf),
}

impl WebhookTarget {
    /// How long one answer may take: what load balancers and cloud APIs stay well below.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
}

impl ExecTarget {
    /// How long one answer may take: command lines of clouds and clusters take seconds.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
    /// What a program cannot be found and started without.
    pub const DEFAULT_PASS_ENV: [&str; 2] = ["PATH", "HOME"];
}

pub(super) fn webhook(at: &Cursor<'_>) -> Option<WebhookTarget> {
    let fields = at.fields()?;
    let allow_insecure = fields.get("allowInsecure").map_or(Some(false), |allow| allow.bool());
    let url = fields
        .require("url", "the endpoint, https://…")
        .and_then(|url| endpoint(&url, allow_insecure.unwrap_or(true)));
    let secret = fields
        .require("secret", "what requests are signed with: {fromEnv: NAME} or {fromFile: PATH}")
        .and_then(|secret| secret_ref(&secret));
    let timeout =
        fields.get("timeout").map_or(Some(WebhookTarget::DEFAULT_TIMEOUT), |t| t.positive_duration());
    let ca_file = fields.get("caFile").map(|file| file.text().map(PathBuf::from));
    fields.finish();
    Some(WebhookTarget {
        url: url?,
        secret: secret?,
        timeout: timeout?,
        ca_file: match ca_file {
            None => None,
            Some(file) => Some(file?),
        },
        allow_insecure: allow_insecure?,
    })
}

/// An address that requests may be sent to.
fn endpoint(at: &Cursor<'_>, allow_insecure: bool) -> Option<String> {
    let url = at.text()?;
    let split = |scheme: &str| {
        let rest = url.strip_prefix(scheme)?;
        Some(rest.split(['/', '?', '#']).next().unwrap_or_default())
    };
    let (authority, is_safe) = match (split("https://"), split("http://")) {
        (Some(authority), _) => (authority, true),
        (None, Some(authority)) => (authority, allow_insecure || is_this_machine(authority)),
        (None, None) => ("", true),
    };
    if authority.is_empty() {
        at.wanted("an address that begins with https://");
        return None;
    }
    if authority.contains('@') {
        at.problem(
            "an address with credentials, which end up in logs",
            "an address without; requests are signed",
        );
        return None;
    }
    if !is_safe {
        at.wanted("an address that begins with https://, or `allowInsecure: true`");
        return None;
    }
    Some(url)
}

fn is_this_machine(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// `{fromEnv: NAME}` or `{fromFile: PATH}`.
pub(super) fn secret_ref(at: &Cursor<'_>) -> Option<SecretRef> {
    let fields = at.fields()?;
    let chosen = fields.exactly_one(&["fromEnv", "fromFile"]);
    fields.finish();
    match chosen? {
        ("fromEnv", name) => name.text().map(SecretRef::Env),
        (_, path) => path.text().map(|path| SecretRef::File(path.into())),
    }
}

pub(super) fn exec(at: &Cursor<'_>) -> Option<ExecTarget> {
    let fields = at.fields()?;
    let command = target::command(&fields);
    let env = fields.get("env").map(|env| target::texts_by_name(&env)).unwrap_or_default();
    let pass_env = fields
        .get("passEnv")
        .map_or_else(|| ExecTarget::DEFAULT_PASS_ENV.map(str::to_owned).to_vec(), |names| names.texts());
    let working_dir = fields.get("workingDir").and_then(|dir| dir.text()).map(PathBuf::from);
    let timeout = fields.get("timeout").map_or(Some(ExecTarget::DEFAULT_TIMEOUT), |t| t.positive_duration());
    fields.finish();
    Some(ExecTarget { command, env, pass_env, working_dir, timeout: timeout? })
}

/// A webhook with every default written out.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WebhookLine<'a> {
    url: &'a str,
    secret: SecretLine<'a>,
    timeout: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_file: Option<&'a Path>,
    allow_insecure: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum SecretLine<'a> {
    FromEnv(&'a str),
    FromFile(&'a Path),
}

/// A command with every default written out.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ExecLine<'a> {
    command: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    env: &'a BTreeMap<String, String>,
    pass_env: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    working_dir: Option<&'a Path>,
    timeout: String,
}

impl<'a> WebhookLine<'a> {
    pub(super) fn of(target: &'a WebhookTarget) -> Self {
        let WebhookTarget { url, secret, timeout, ca_file, allow_insecure } = target;
        Self {
            url,
            secret: match secret {
                SecretRef::Env(name) => SecretLine::FromEnv(name),
                SecretRef::File(path) => SecretLine::FromFile(path),
            },
            timeout: write_duration(*timeout),
            ca_file: ca_file.as_deref(),
            allow_insecure: *allow_insecure,
        }
    }
}

impl<'a> ExecLine<'a> {
    pub(super) fn of(target: &'a ExecTarget) -> Self {
        let ExecTarget { command, env, pass_env, working_dir, timeout } = target;
        Self {
            command,
            env,
            pass_env,
            working_dir: working_dir.as_deref(),
            timeout: write_duration(*timeout),
        }
    }
}
