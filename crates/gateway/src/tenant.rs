//! Who a request belongs to, once its key was looked up.
//!
//! A gateway without keys knows none: then all requests belong to nobody, unless the plan lets clients say for whom they
//! ask, and nobody comes before another.

use std::{fmt, num::NonZeroU32, sync::Arc};

use forewarm_core::pool::Priority;

/// The name of a tenant, as it stands in the keys file. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for TenantId {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a key says about the requests that show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Whose requests they are.
    pub id: TenantId,
    /// The tenant's share of the slots where several tenants wait, by this weight against theirs.
    pub weight: NonZeroU32,
    /// The most urgent class that they may have, and the one of those that ask for none.
    pub priority: Priority,
}
