//! A run whose parts are read by the tasks of a cluster, with the guarantees of one machine.
//!
//! ```text
//! driver   list ─▶ lock ─▶ decide ─▶ groups of parts ─▶ …              ─▶ assemble ─▶ publish
//! tasks                                                 write_portion ×n
//! ```
//!
//! The driver alone lists, holds the lock, and makes the one commit. A task gets an assignment, which holds signed URLs and
//! what leads to the lake's store; it fetches, decodes and writes its parts as one thread, and returns what it wrote. It
//! publishes nothing, so it may be run again, or twice at once: only the files of the outcomes that reach the driver are
//! published. What can be foreseen is an outcome and never a panic or an exception, whose text clusters keep.
//!
//! [`Cluster`] is what carries the tasks; [`run_task`] is what each of them runs.

mod executors;
mod grouping;
mod task_job;
mod outcome;
mod task;
mod driver;

pub use self::executors::{Cluster, ClusterError, TaskCount};
pub use self::task::run_task;
