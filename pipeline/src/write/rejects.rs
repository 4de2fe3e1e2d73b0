//! Takes rejects from any thread; writes them to the rejects file, gzipped NDJSON, as they come.
//!
//! The only place that keeps raw records. The file is created with the first reject.

use std::io::BufWriter;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use codec::decode::reject::Reject;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::lake::LakeError;
use crate::staging::{Destination, FinishedFile, StagedFile};

/// Bytes of lines that are buffered before they are compressed.
const LINE_BUFFER_BYTES: usize = 64 * 1024;

type RejectsWriter = BufWriter<GzEncoder<StagedFile>>;

/// The rejects of one run.
#[derive(Debug)]
pub struct Rejects<'s> {
    destination: &'s Destination,
    file: Mutex<Option<RejectsWriter>>,
}

impl<'s> Rejects<'s> {
    /// Creates no file yet.
    pub fn new(destination: &'s Destination) -> Self {
        Self { destination, file: Mutex::new(None) }
    }

    /// Appends one reject of `part`.
    ///
    /// # Errors
    ///
    /// The lake could not be written.
    pub fn write(&self, part: &str, reject: &Reject) -> Result<(), LakeError> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let writer = match &mut *file {
            Some(writer) => writer,
            none => {
                let encoder = GzEncoder::new(self.destination.create_rejects()?, Compression::default());
                none.insert(BufWriter::with_capacity(LINE_BUFFER_BYTES, encoder))
            }
        };
        reject.write_line(part, writer).map_err(|error| self.lake_error(error))
    }

    /// Completes the file; returns what it is, or `None` if there were no rejects.
    ///
    /// # Errors
    ///
    /// The lake could not be written.
    pub fn finish(self) -> Result<Option<FinishedFile>, LakeError> {
        let file = self.file.into_inner().unwrap_or_else(PoisonError::into_inner);
        let Some(mut writer) = file else { return Ok(None) };
        let destination = self.destination;
        let finished = writer
            .flush()
            .and_then(|()| writer.into_inner().map_err(std::io::IntoInnerError::into_error))
            .and_then(GzEncoder::finish);
        finished.map_err(|error| to_lake_error(destination, error))?.finish().map(Some)
    }

    fn lake_error(&self, error: std::io::Error) -> LakeError {
        to_lake_error(self.destination, error)
    }
}

/// Unwraps the error of storage that compression has passed through.
fn to_lake_error(destination: &Destination, error: std::io::Error) -> LakeError {
    match error.downcast::<LakeError>() {
        Ok(error) => error,
        Err(source) => LakeError::Io { action: "write", path: destination.rejects_path(), source },
    }
}
