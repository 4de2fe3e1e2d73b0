//! Why data files could not be written.

use parquet::errors::ParquetError;

use super::partition::MAX_PARTITIONS;
use crate::lake::LakeError;

/// Why data files could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The lake could not be written.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// Encoding failed.
    #[error("cannot encode {directory}")]
    Encode {
        /// The partition's directory.
        directory: String,
        /// What the library says.
        source: ParquetError,
    },
    /// The export has more partitions than a lake can have.
    #[error("the export has more than {MAX_PARTITIONS} different values of {column}")]
    TooManyPartitions {
        /// The partition column.
        column: &'static str,
    },
    /// A file does not hold the rows that were written to it: a mistake of ours.
    #[error("{path}: expected {expected} rows, found {found} in the footer")]
    Rows {
        /// The file.
        path: String,
        /// Rows written to it.
        expected: u64,
        /// Rows in its footer.
        found: u64,
    },
}

impl WriteError {
    /// Adds the directory to an error of encoding; unwraps an error of storage.
    pub(super) fn encode(directory: &str, error: ParquetError) -> Self {
        if let ParquetError::External(inner) = error {
            return match inner.downcast::<std::io::Error>() {
                Ok(io) => match io.downcast::<LakeError>() {
                    Ok(lake) => Self::Lake(lake),
                    Err(io) => Self::Encode {
                        directory: directory.to_owned(),
                        source: ParquetError::External(Box::new(io)),
                    },
                },
                Err(inner) => {
                    Self::Encode { directory: directory.to_owned(), source: ParquetError::External(inner) }
                }
            };
        }
        Self::Encode { directory: directory.to_owned(), source: error }
    }
}
