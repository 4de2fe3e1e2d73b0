//! The integration tests: the real program against the emulator and local parts, the lake read back.

#![expect(clippy::unwrap_used, reason = "a test that lacks what it needs ends there")]

mod support;
mod oracle;
mod stalls;
mod stores;

mod ingest;
mod several_datasets;
mod portions;
mod sources;
mod datasets;
mod samples;
mod tenant;
mod corrupt;
mod golden;
mod decode_laws;
mod publishing;
mod conformance;
mod tasks;
mod expire;
mod delta;
mod column_names;
mod layout;
mod cli;
mod docs;
mod house;
mod readers;
mod python;
mod schema_growth;
mod spark;
mod history;
mod history_roles;
mod changes;
mod questions;
mod report;
mod browser;
#[cfg(feature = "query")]
mod query;

mod auth;
mod network;
mod faults;
mod limits;
mod resume;
mod secrets;
mod azurite;
mod soak;
