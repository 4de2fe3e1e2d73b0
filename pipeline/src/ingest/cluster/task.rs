//! One task of a run: takes an assignment, writes its parts, gives what it wrote. Holds no lock and publishes nothing, and
//! another attempt at the same assignment may run at the same time.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use super::super::error::{IngestError, internal};
use super::super::portion::write_portion;
use super::super::portion_job::PortionJob;
use super::super::written_portion::WrittenPortion;
use super::outcome::{Outcome, TaskReport};
use super::task_job::{Assignment, TaskJob};
use crate::cancel::Cancel;
use crate::commit;
use crate::environment::{Variables, temp_dir};
use crate::lake::{self, Lake, locked_folder};
use crate::panics;
use crate::progress::Progress;
use crate::snapshot::TaskId;
use crate::source::{ListedPart, Source};
use crate::staging::Destination;
use crate::threads;

/// Words in the names of variables whose value proves who the caller is.
const CREDENTIAL_WORDS: [&str; 10] =
    ["KEY", "SECRET", "TOKEN", "SAS", "CLIENT", "TENANT", "PROFILE", "ROLE", "SERVICE_ACCOUNT", "CREDENTIAL"];

/// Runs one task with what [`Cluster::run`](super::Cluster::run) was given for it, and returns what that returns. Uses one
/// thread to decode and encode. Whatever happens is in what it returns.
///
/// # Panics
///
/// Never: plain values can be serialised.
pub fn run_task(assignment: &[u8]) -> Vec<u8> {
    let report = match Assignment::from_wire(assignment) {
        Ok(Assignment { job, number, parts }) => {
            let written = panics::catch(|| write(&job, parts));
            let written = written.unwrap_or_else(|panicked| Err(panicked.into()));
            let done = |written| Outcome::Done(Box::new(written));
            TaskReport { number, outcome: written.map_or_else(Outcome::from, done) }
        }
        Err(error) => TaskReport { number: 0, outcome: error.into() },
    };
    serde_json::to_vec(&report).expect("plain values serialise")
}

fn write(job: &TaskJob, parts: Vec<ListedPart>) -> Result<WrittenPortion, IngestError> {
    let runtime = threads::start_runtime("network", 1)?;
    let task_id = TaskId::try_new().map_err(|error| internal("cannot generate a task id", &error))?;
    // Of this attempt alone. What a killed attempt leaves is removed by the next one on its machine.
    let (work_dir, _in_use) = locked_folder::create_folder(&tasks_folder(), task_id.as_str())?;
    let _removed = RemovedFolder(work_dir.clone());
    let of_store = lake::store_variables(&job.lake)?;
    let lake = Lake::open_with(&job.lake, &variables(Variables::of_process(), &of_store, job.store.clone()))?;
    let table = lake.with_work_dir(&work_dir).with_upload_bytes(job.memory.upload_bytes()).table(job.dataset);
    let num_parts = parts.len() as u64;
    let source =
        runtime.block_on(Source::of_parts(parts, job.bounds, &work_dir, job.dataset.name, job.snapshot))?;
    let destination = Destination::create(&table, job.snapshot, &job.run_id, Some(task_id))?;
    let portion_job = PortionJob {
        dataset: job.dataset,
        route: job.route,
        num_parts: Some(num_parts),
        is_resumable: false,
        capture_extra_fields: job.capture_extra_fields,
        threads: NonZeroUsize::MIN,
        memory: job.memory,
        runtime: &runtime,
        progress: &Arc::new(Progress::default()),
        cancel: &Cancel::default(),
    };
    let written = write_portion(&portion_job, &destination, source);
    runtime.shutdown_background();
    let mut written = written?;
    commit::send(&table, &destination, &mut written.portion, &|_, _| (), &|| false)?;
    Ok(written)
}

/// The folder of all attempts of this user on this machine.
fn tasks_folder() -> PathBuf {
    temp_dir().join(format!("defender-lake-tasks-{}", rustix::process::getuid().as_raw()))
}

/// Returns the variables that lead to the lake's store: the executor's own, and those of the driver that it lacks. If those of
/// its own `of_store` hold credentials, the driver's credentials are left out.
fn variables(own: Variables, of_store: &Variables, of_driver: Variables) -> Variables {
    let is_credential = |name: &str| CREDENTIAL_WORDS.iter().any(|word| name.contains(word));
    let has_credentials = of_store.iter().any(|(name, _)| is_credential(name));
    own.or(of_driver.only(|name| !has_credentials || !is_credential(name)))
}

/// A folder that is removed with all that is in it when dropped.
struct RemovedFolder(PathBuf);

impl Drop for RemovedFolder {
    fn drop(&mut self) {
        // Best effort: the next attempt on this machine tries again.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_credentials_of_an_executor_win() {
        let variables_of = |text: &str| {
            let pair =
                |pair: &str| pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
            Variables::from_wire(text.split_whitespace().filter_map(pair).collect())
        };
        let of_driver = "AWS_ACCESS_KEY_ID=d AWS_SECRET_ACCESS_KEY=d AWS_REGION=d";
        let check = |own: &str, expected: &str| {
            let of_store = variables_of(own).only(|name| name.starts_with("AWS_"));
            let found = variables(variables_of(own), &of_store, variables_of(of_driver));
            assert_eq!(found.to_wire(), variables_of(expected).to_wire());
        };
        check("", of_driver);
        check("AWS_REGION=o A_KEY=o", "AWS_ACCESS_KEY_ID=d AWS_SECRET_ACCESS_KEY=d AWS_REGION=o A_KEY=o");
        check("AWS_PROFILE=o", "AWS_PROFILE=o AWS_REGION=d");
    }
}
