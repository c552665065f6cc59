//! Fleets behind a webhook or a command of the user's.
//!
//! [`HookFleet`] asks what there is and says what is to be done, in the words of [`protocol`]. A hook that
//! does not answer is a fleet that cannot be seen: it is left alone, and the reason says so.

mod count;
mod endpoint;
mod exec;
mod fleet;
pub mod protocol;
mod secret;
mod signature;
mod view;
mod webhook;

pub use fleet::{HookFleet, Trial};
pub use signature::HEADER as SIGNATURE_HEADER;
pub use webhook::WebhookError;
