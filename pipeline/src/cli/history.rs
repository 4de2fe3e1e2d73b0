//! The options that `diff`, `trend` and `query` share.

use std::path::Path;

use arrow_array::RecordBatch;
use bytesize::ByteSize;

use super::command_error::{CommandError, CommandResult};
use crate::exit_code::ExitCode;
use crate::history::HistoryError;
use crate::history::output::{OutputFile, OutputFormat};

/// The default memory limit.
const DEFAULT_MEMORY: ByteSize = ByteSize::gib(1);

/// The least memory limit: below it the lake would be read many times, for a few devices each.
const LEAST_MEMORY: ByteSize = ByteSize::mib(256);

#[derive(Debug, clap::Args)]
pub(super) struct MemoryOption {
    /// Limit the memory, at least 256MiB [default: 1GiB]
    #[arg(long, value_name = "BYTES")]
    memory: Option<ByteSize>,
}

impl MemoryOption {
    pub(super) fn bytes(&self) -> CommandResult<u64> {
        let memory = self.memory.unwrap_or(DEFAULT_MEMORY);
        if memory < LEAST_MEMORY {
            let error = anyhow::anyhow!("--memory: expected at least {LEAST_MEMORY}, found {memory}");
            return Err(CommandError::new(ExitCode::Usage, error));
        }
        Ok(memory.as_u64())
    }
}

/// An output file, created with the first batch, which tells its columns.
pub(super) struct AnswerFile<'a> {
    pub(super) path: &'a Path,
    format: OutputFormat,
    file: Option<OutputFile>,
}

impl<'a> AnswerFile<'a> {
    /// Fails early if the file name has an unknown extension.
    pub(super) fn new(path: &'a Path) -> Result<Self, HistoryError> {
        Ok(Self { path, format: OutputFormat::of_path(path)?, file: None })
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), HistoryError> {
        let file = match &mut self.file {
            Some(file) => file,
            empty => empty.insert(OutputFile::create(self.path, Some(self.format), &batch.schema())?),
        };
        file.write(batch)
    }

    pub(super) fn finish(self) -> Result<(), HistoryError> {
        self.file.map_or(Ok(()), OutputFile::finish)
    }
}
