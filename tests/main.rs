//! The integration tests: the real program against the emulator and local parts, the lake read back.

#![expect(clippy::unwrap_used, reason = "a test that lacks what it needs ends there")]

mod support;
mod oracle;

mod ingest;
mod sources;
mod publishing;
mod layout;
mod cli;
mod readers;
mod samples;
mod corrupt;
mod decode_laws;
