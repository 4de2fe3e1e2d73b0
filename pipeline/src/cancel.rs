//! SIGINT and SIGTERM end a run in order: what is staged goes, what is spooled stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::exit_code::ExitCode;

/// Whether the run is to end. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<State>);

#[derive(Debug, Default)]
struct State {
    cancelled: AtomicBool,
    changed: Notify,
}

impl Cancel {
    /// Asks the run to end.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
        self.0.changed.notify_waiters();
    }

    /// Whether the run is to end.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Relaxed)
    }

    /// Waits until the run is to end.
    pub async fn cancelled(&self) {
        let changed = self.0.changed.notified();
        tokio::pin!(changed);
        // Registered before the flag is read, so that no call of `cancel` falls in between.
        changed.as_mut().enable();
        if !self.is_cancelled() {
            changed.await;
        }
    }

    /// From now on cancels on the first signal; a second one ends the process at once, and the next
    /// run cleans up. To be called inside a runtime.
    ///
    /// # Errors
    ///
    /// The system gives no signals.
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
                tracing::warn!("interrupted: ending in order; a second signal ends at once");
                cancel.cancel();
            }
        });
        Ok(())
    }
}
