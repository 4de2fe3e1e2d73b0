//! Graceful shutdown on SIGINT and SIGTERM: staged files are removed, spooled parts are kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::exit_code::ExitCode;

/// Requests that a run end. Clones share the request.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<CancelState>);

#[derive(Debug, Default)]
struct CancelState {
    cancelled: AtomicBool,
    changed: Notify,
}

impl Cancel {
    /// Requests the end of the run.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
        self.0.changed.notify_waiters();
    }

    /// Whether the end of the run was requested.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Relaxed)
    }

    /// Waits until the end of the run is requested.
    pub async fn cancelled(&self) {
        let changed = self.0.changed.notified();
        tokio::pin!(changed);
        // Registered before the flag is read, so that no call of `cancel` is missed in between.
        changed.as_mut().enable();
        if !self.is_cancelled() {
            changed.await;
        }
    }

    /// Cancels on the first signal from now on. A second signal exits at once, and the next run cleans up. Must be
    /// called within a runtime.
    ///
    /// # Errors
    ///
    /// The signal handlers could not be installed.
    pub fn listen_to_signals(&self) -> std::io::Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let cancel = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if cancel.is_cancelled() {
                    std::process::exit(ExitCode::Interrupted as i32);
                }
                tracing::warn!("interrupted: shutting down; a second signal exits at once");
                cancel.cancel();
            }
        });
        Ok(())
    }
}
