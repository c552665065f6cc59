//! What is measured for a scaler besides its gateway.

use std::sync::Arc;

use forewarm_control::{Clock, ports::SignalSet};
use forewarm_manifest::CheckedScaler;
use tokio_util::sync::CancellationToken;

use crate::exit::Failure;

pub(crate) fn signals(
    _scaler: &CheckedScaler,
    _clock: Clock,
    _shutdown: &CancellationToken,
) -> Result<Vec<Arc<dyn SignalSet>>, Failure> {
    Ok(Vec::new())
}
