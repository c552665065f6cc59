//! Signals: the first asks to stop in order, the second stops at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code of a shell command ended by SIGINT, as shells report it.
const INTERRUPTED: i32 = 130;

/// A token that is cancelled by the first SIGINT or SIGTERM. The second one ends the process.
///
/// # Errors
/// When the handlers cannot be installed.
pub(crate) fn shutdown_on_signal() -> std::io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let cancel = token.clone();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::spawn(async move {
        for attempt in 0.. {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if attempt > 0 {
                std::process::exit(INTERRUPTED);
            }
            tracing::info!("stopping in order; a second signal stops at once");
            cancel.cancel();
        }
    });
    Ok(token)
}

/// A runtime with this many worker threads; one means the current thread alone.
///
/// # Errors
/// When the system gives no threads.
pub(crate) fn runtime(workers: usize) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = if workers == 1 {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    if workers > 1 {
        builder.worker_threads(workers);
    }
    builder.enable_all().build()
}

/// A thread for each core that this process may use, by its affinity and its control group.
pub(crate) fn cores() -> Option<std::num::NonZeroUsize> {
    std::thread::available_parallelism().ok()
}
