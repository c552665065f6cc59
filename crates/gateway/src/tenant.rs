//! Who a request belongs to, once its key was looked up.
//!
//! [`Tenant`] is put into the request's extensions. A gateway without keys puts none there: then all requests
//! belong to nobody, and nobody comes before another.

use std::{fmt, num::NonZeroU32, sync::Arc};

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
    /// Higher goes first; 0 is usual, and below it what can wait.
    pub priority: i32,
}

impl Tenant {
    /// A tenant like any other: weight 1, priority 0.
    pub fn new(id: impl Into<TenantId>) -> Self {
        Self { id: id.into(), weight: NonZeroU32::MIN, priority: 0 }
    }
}
