//! What `diff`, `trend` and `query` share.

use std::path::Path;

use bytesize::ByteSize;

use super::command_error::{CommandError, CommandResult};
use crate::exit_code::ExitCode;
use crate::history::HistoryError;
use crate::history::output::{OutputFile, OutputFormat};

/// What an answer stays inside, where nothing is given.
const DEFAULT_MEMORY: ByteSize = ByteSize::gib(1);

/// Below this the lake would be read again and again for a few devices each time.
const LEAST_MEMORY: ByteSize = ByteSize::mib(256);

#[derive(Debug, clap::Args)]
pub(super) struct MemoryOption {
    /// Memory to stay inside, 256MiB at least [default: 1GiB]
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

/// A file whose columns are known with the first frame.
pub(super) struct AnswerFile<'a> {
    pub(super) path: &'a Path,
    pub(super) format: OutputFormat,
    pub(super) file: Option<OutputFile>,
}

impl<'a> AnswerFile<'a> {
    /// Looks at the name before any work is done.
    pub(super) fn new(path: &'a Path) -> Result<Self, HistoryError> {
        Ok(Self { path, format: OutputFormat::of_path(path)?, file: None })
    }

    pub(super) fn write(&mut self, frame: &polars::frame::DataFrame) -> Result<(), HistoryError> {
        let file = match &mut self.file {
            Some(file) => file,
            empty => empty.insert(OutputFile::create(self.path, Some(self.format), frame.schema())?),
        };
        file.write(frame)
    }

    pub(super) fn finish(self) -> Result<(), HistoryError> {
        self.file.map_or(Ok(()), OutputFile::finish)
    }
}
