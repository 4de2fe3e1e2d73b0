//! Brings what the tasks of a run have written into the run's own folder, which is then published.
//!
//! Takes the portions of the attempts that count. Moves exactly the files that they list, never a folder: an attempt
//! that does not count, or that goes on although its run has the result of another, cannot add to what is published.

use super::CommitError;
use super::checks::inconsistent;
use crate::lake::{Table, check_name, local};
use crate::staging::{Destination, HashingFile, Portion, rejects_path, tasks_folder};

/// Moves the data files of tasks into the run's folder, on a disk that all of them share. Then removes the folders of
/// all attempts.
pub(super) fn gather_files(
    table: &Table,
    destination: &Destination,
    portions: &[Portion],
) -> Result<(), CommitError> {
    if portions.iter().all(|portion| portion.task_id.is_none()) {
        return Ok(());
    }
    let tasks = tasks_folder(table, destination.run_id());
    for portion in portions {
        let Some(task_id) = &portion.task_id else { continue };
        check_name(task_id.as_str())?;
        for file in &portion.files {
            let facts = &file.facts;
            check_name(&facts.path)?;
            let staged = tasks.join(task_id.as_str()).join(&facts.path);
            let bytes =
                local::open_file(&staged)?.metadata().map_err(local::io_error("read", &staged))?.len();
            if bytes != facts.bytes {
                let reason = format!("{} has {bytes} bytes, listed {}", facts.path, facts.bytes);
                return Err(inconsistent(destination.snapshot(), reason));
            }
            let place = destination.folder().join(&facts.path);
            let folders: Vec<_> =
                place.ancestors().skip(1).take_while(|folder| *folder != destination.data_folder()).collect();
            for folder in folders.into_iter().rev() {
                local::create_dir(folder)?;
            }
            local::rename(&staged, &place)?;
        }
    }
    // Attempts that still write into their folders fail then. Best effort: an error is ignored, they go with the run's
    // own folder.
    let _ = local::remove_tree(&tasks);
    Ok(())
}

/// Concatenates the rejects of tasks, in the order of `portions`, into the run's own file of rejects: each is a gzip
/// member, or several.
pub(super) fn gather_rejects(
    table: &Table,
    destination: &Destination,
    portions: &[Portion],
) -> Result<(), CommitError> {
    if portions.iter().all(|portion| portion.task_id.is_none() || portion.rejects.is_none()) {
        return Ok(());
    }
    let tasks = tasks_folder(table, destination.run_id());
    let gathered = destination.folder().join("gathered");
    let mut file = local::create_file(&gathered)?;
    for portion in portions {
        let Some(rejects) = &portion.rejects else { continue };
        let source = match &portion.task_id {
            Some(task_id) => {
                check_name(task_id.as_str())?;
                table.place().open_file(&rejects_path(&tasks.join(task_id.as_str())))?
            }
            None => local::open_file(&destination.rejects_path())?,
        };
        let mut member = HashingFile::new(file, gathered.clone());
        member.append(source)?;
        let (appended, bytes, sha256) = member.finish();
        file = appended;
        if (bytes, sha256.as_str()) != (rejects.bytes, rejects.sha256.as_str()) {
            let reason = "the rejects of a task are not those that it wrote".to_owned();
            return Err(inconsistent(destination.snapshot(), reason));
        }
    }
    local::sync_file(&file, &gathered)?;
    Ok(local::rename(&gathered, &destination.rejects_path())?)
}
