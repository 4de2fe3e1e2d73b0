//! The integration tests: the real program against the emulator and local parts, the lake read back.

mod support;

mod ingest;
mod sources;
mod publishing;
mod layout;
mod cli;
mod readers;
