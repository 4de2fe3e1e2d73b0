//! The async runtime, which serves the network and signals.

use tokio::runtime::Runtime;

use super::command_error::{CommandError, CommandResult};
use crate::cancel::Cancel;
use crate::exit_code::ExitCode;
use crate::threads;

/// Starts the runtime and listens to signals.
pub(super) fn start_runtime() -> CommandResult<(Runtime, Cancel)> {
    let runtime = threads::start_runtime("network", 2)?;
    let cancel = Cancel::default();
    {
        let _inside = runtime.enter();
        cancel.listen_to_signals().map_err(|error| {
            CommandError::new(
                ExitCode::Internal,
                anyhow::Error::new(error).context("cannot listen to signals"),
            )
        })?;
    }
    Ok((runtime, cancel))
}
