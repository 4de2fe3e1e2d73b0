//! What waits for the network and for signals.

use anyhow::Context;
use tokio::runtime::Runtime;

use super::failure::failed;
use crate::cancel::Cancel;
use crate::threads;

/// Starts what waits for the network, and for signals.
pub(super) fn start_runtime() -> anyhow::Result<(Runtime, Cancel)> {
    let runtime = threads::start_runtime("network", 2).map_err(failed)?;
    let cancel = Cancel::default();
    {
        let _inside = runtime.enter();
        cancel.listen_to_signals().context("cannot listen to signals")?;
    }
    Ok((runtime, cancel))
}
