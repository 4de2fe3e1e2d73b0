//! Output storage: the tables of a lake, and every operation that reads or changes their files.
//!
//! Takes a location, gives [`Table`]s with their published snapshots and an exclusive [`TableLock`]. Knows folders
//! and files, and never what a data file holds. The lake is on a local disk (`local`) or in an object store
//! (`store`); what both can do is a method of `Place`.
//!
//! ```text
//! <lake>/<table>/snapshot_date=2021-01-11/…              what readers glob
//! <lake>/_defender/<table>/lock                          exists only while a run holds it
//! <lake>/_defender/<table>/snapshots/<id>/manifest.json
//! <lake>/_defender/<table>/staging/<run id>/…            exists only while a run writes
//! <lake>/_defender/<table>/changes.ndjson                a cache, can be deleted at any time; figures.ndjson too
//! ```

mod table;
mod place;
mod snapshots;
mod lock;
mod claim;
mod success;
mod cache_file;
mod paths;
mod ignored_files;
mod error;
pub(crate) mod local;
pub(crate) mod local_objects;
pub(crate) mod lease;
pub(crate) mod lease_times;
mod location;
pub(crate) mod locked_folder;
pub mod store;

pub use self::cache_file::CacheFile;
pub(crate) use self::claim::Claim;
pub use self::error::LakeError;
pub(crate) use self::ignored_files::{is_ignored_file, is_ignored_folder};
pub use self::location::{absolute_location, check_location, store_variables};
pub use self::lock::TableLock;
pub use self::paths::SUCCESS_FILE;
pub(crate) use self::paths::{
    MANIFEST_FILE, MAX_MANIFEST_BYTES, REJECTS_FILE, check_name, data_folder_name, is_own_name,
};
pub(crate) use self::place::Place;
pub use self::snapshots::PublishedSnapshot;
pub use self::store::StoreError;
pub(crate) use self::success::MAX_SUCCESS_BYTES;
pub use self::success::Success;
pub use self::table::{Lake, Table, TableKind};
