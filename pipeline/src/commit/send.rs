//! Hands over what a task has written to the process that publishes it.

use super::CommitError;
use super::checks::check_staged;
use super::store::tasks;
use crate::lake::{Place, Table};
use crate::staging::{Destination, Portion};

/// Hands over the files of `portion`, which are in `destination`, to the process that publishes the snapshot. Needs no
/// lock: readers do not see the files before [`super::StagedSnapshot::publish`], and never those of a portion that is
/// not published.
///
/// On a disk, which all tasks share, a task's folder stays where it is when `destination` is dropped. To an object store
/// the files are sent, and `portion` names the uploads then. Calls `on_bytes` with the bytes sent and the bytes in
/// total; stops once `cancelled` returns true.
///
/// # Errors
///
/// Files that are not those of the portion, storage, and [`crate::lake::LakeError::Cancelled`]. What was begun is then
/// aborted, at the latest by the next run.
pub fn send(
    table: &Table,
    destination: &Destination,
    portion: &mut Portion,
    on_bytes: &dyn Fn(u64, u64),
    cancelled: &dyn Fn() -> bool,
) -> Result<(), CommitError> {
    match table.place() {
        Place::Disk(_) => {
            if destination.task_id().is_some() {
                destination.keep();
            }
            Ok(())
        }
        Place::Store(store) => {
            check_staged(destination, portion.files.iter().map(|file| &file.facts))?;
            tasks::send(table, store, destination, portion, on_bytes, cancelled)
        }
    }
}
