//! The keys file as people write it.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    path::Path,
};

use aws_lc_rs::digest::{SHA256, digest};
use forewarm_core::{ScalerId, pool::Priority};
use http::HeaderValue;
use serde::Deserialize;

use crate::tenant::{Tenant, TenantId};

/// Before the digits of a key's hash.
const SHA256_PREFIX: &str = "sha256:";
/// Bytes of a keys file: some hundred thousand keys.
const MAX_BYTES: usize = 16 << 20;

/// The SHA-256 of a key.
///
/// A hash that is made slow on purpose, such as bcrypt, protects words that people think of, which can be guessed. A
/// key here has 256 random bits: guessing is hopeless whatever the hash costs, and a slow one would be paid by every
/// request.
#[derive(Clone, Copy)]
pub(super) struct Digest([u8; 32]);

impl Digest {
    pub(super) fn of(key: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, key).as_ref());
        Self(bytes)
    }

    fn parse(text: &str) -> Option<Self> {
        let digits =
            text.strip_prefix(SHA256_PREFIX).filter(|digits| digits.len() == 64 && digits.is_ascii())?;
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(digits.get(2 * index..2 * index + 2)?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(SHA256_PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// In a time that does not depend on where the two differ.
impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for Digest {}

/// Every byte, for the map's own keyed hash: what it takes says nothing about the others.
impl std::hash::Hash for Digest {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// What a tenant may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Quota {
    pub(super) requests_per_minute: Option<NonZeroU32>,
    pub(super) tokens_per_minute: Option<NonZeroU32>,
    pub(super) max_concurrent: Option<NonZeroU32>,
}

/// A tenant of the file.
pub(super) struct Entry {
    pub(super) tenant: Tenant,
    pub(super) quota: Quota,
    pub(super) keys: Vec<Digest>,
}

/// All that is in a keys file.
pub(super) struct Book {
    pub(super) entries: Vec<Entry>,
    /// What replicas are shown instead of the client's key, by scaler.
    pub(super) upstream: BTreeMap<ScalerId, HeaderValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileText {
    tenants: Vec<TenantText>,
    #[serde(default)]
    upstream_keys: Vec<UpstreamText>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TenantText {
    name: String,
    #[serde(default)]
    weight: Option<u32>,
    #[serde(default)]
    priority: Priority,
    #[serde(default)]
    requests_per_minute: Option<u32>,
    #[serde(default)]
    tokens_per_minute: Option<u32>,
    #[serde(default)]
    max_concurrent: Option<u32>,
    keys: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct UpstreamText {
    scaler: ScalerId,
    key_file: std::path::PathBuf,
}

/// Reads a keys file, and the files that it names.
///
/// # Errors
/// Says where what is wrong, and what would be right; never shows what stands where a hash should.
pub(super) fn read(path: &Path) -> Result<Book, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))?;
    if text.len() > MAX_BYTES {
        return Err(format!("has {} bytes; it may have {MAX_BYTES}", text.len()));
    }
    // Without the lines around an error: a key may stand there by mistake.
    let mut place = String::new();
    let options = serde_saphyr::options! { with_snippet: false };
    let read = serde_saphyr::with_deserializer_from_str_with_options(&text, options, |deserializer| {
        let mut track = serde_path_to_error::Track::new();
        let deserializer = serde_path_to_error::Deserializer::new(deserializer, &mut track);
        FileText::deserialize(deserializer).inspect_err(|_| place = track.path().to_string())
    });
    let file = read.map_err(|error| match place.as_str() {
        // What is no YAML has no fields.
        "" | "." | "?" => format!("is wrong: {error}"),
        place => format!("is wrong at `{place}`: {error}"),
    })?;
    let (mut entries, mut names, mut hashes) = (Vec::new(), BTreeSet::new(), BTreeMap::new());
    for (index, tenant) in file.tenants.into_iter().enumerate() {
        let entry = entry(index, tenant)?;
        if !names.insert(entry.tenant.id.clone()) {
            return Err(format!(
                "`tenants[{index}].name: {}` is there twice; names must differ",
                entry.tenant.id
            ));
        }
        for (number, key) in entry.keys.iter().enumerate() {
            if let Some(owner) = hashes.insert(key.to_string(), entry.tenant.id.clone()) {
                return Err(format!("`tenants[{index}].keys[{number}]` is a key of `{owner}` already"));
            }
        }
        entries.push(entry);
    }
    let upstream = file.upstream_keys.into_iter().map(|upstream| upstream_key(path, upstream));
    Ok(Book { entries, upstream: upstream.collect::<Result<_, _>>()? })
}

fn entry(index: usize, text: TenantText) -> Result<Entry, String> {
    let place = |field: &str| format!("`tenants[{index}].{field}`");
    if text.name.is_empty() || !text.name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!(
            "{} is {:?}; it takes a name without spaces, such as search",
            place("name"),
            text.name
        ));
    }
    let above_0 = |field: &str, value: Option<u32>| match value.map(NonZeroU32::new) {
        None => Ok(None),
        Some(Some(value)) => Ok(Some(value)),
        Some(None) => Err(format!("{} is 0; it takes a whole number above 0, or is left out", place(field))),
    };
    let keys = text.keys.iter().enumerate().map(|(number, key)| {
        Digest::parse(key).ok_or_else(|| {
            let place = place(&format!("keys[{number}]"));
            format!(
                "{place} is no hash of a key; `forewarm gateway key create` prints one: sha256: and 64 digits"
            )
        })
    });
    Ok(Entry {
        keys: keys.collect::<Result<_, _>>()?,
        quota: Quota {
            requests_per_minute: above_0("requestsPerMinute", text.requests_per_minute)?,
            tokens_per_minute: above_0("tokensPerMinute", text.tokens_per_minute)?,
            max_concurrent: above_0("maxConcurrent", text.max_concurrent)?,
        },
        tenant: Tenant {
            id: TenantId::from(text.name.as_str()),
            weight: above_0("weight", text.weight)?.unwrap_or(NonZeroU32::MIN),
            priority: text.priority,
        },
    })
}

fn upstream_key(path: &Path, text: UpstreamText) -> Result<(ScalerId, HeaderValue), String> {
    // Beside the keys file, unless it says otherwise.
    let file = path.parent().unwrap_or(Path::new(".")).join(&text.key_file);
    let place = format!("the `keyFile` of `{}`, {},", text.scaler, file.display());
    let key = std::fs::read_to_string(&file).map_err(|error| format!("{place} cannot be read: {error}"))?;
    let mut value = HeaderValue::try_from(format!("Bearer {}", key.trim()))
        .map_err(|_| format!("{place} has more in it than one line with a key"))?;
    value.set_sensitive(true);
    Ok((text.scaler, value))
}
