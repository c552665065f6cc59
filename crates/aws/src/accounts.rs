//! Accounts by region and role, each opened once.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::Mutex;

use crate::{Account, AccountError};

/// Region and role; `None`: as the environment or the profile says.
pub(crate) type Place = (Option<String>, Option<String>);

/// Everybody who asks the same account shares its connections and its credentials.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accounts(Arc<Mutex<BTreeMap<Place, Account>>>);

impl Accounts {
    /// This one where neither region nor role is named.
    pub(crate) fn with(account: Account) -> Self {
        Self(Arc::new(Mutex::new([((None, None), account)].into())))
    }

    /// The account of a region and a role.
    pub(crate) async fn account(&self, (region, role): &Place) -> Result<Account, AccountError> {
        let mut accounts = self.0.lock().await;
        let place = (region.clone(), role.clone());
        if let Some(account) = accounts.get(&place) {
            return Ok(account.clone());
        }
        let account = Account::open(region.as_deref(), role.as_deref()).await?;
        accounts.insert(place, account.clone());
        Ok(account)
    }
}
