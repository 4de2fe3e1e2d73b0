//! Copies of a store's data files for the engine, which reads files by their paths.
//!
//! Takes data files, and of each the columns that are read; gives files of the same names in a folder of the work dir,
//! with holes in the place of everything else. Never fetches a file whole if only some of its columns are read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData,
};

use super::HistoryError;
use crate::cancel::Cancel;
use crate::lake::locked_folder::create_folder;
use crate::lake::store::{ObjectRanges, Store};
use crate::lake::{Lake, LakeError, Table};
use crate::manifest::DataFile;

/// The end of a file that is fetched for its footer: more than most footers take, and no more than a request costs.
const FOOTER_BYTES: u64 = 64 << 10;

/// What ends a Parquet file: the length of its footer and four letters.
const TRAILER_BYTES: usize = 8;

/// Space that stays free on the disk of the work dir, for others that write there.
const MIN_FREE_BYTES: u64 = 256 << 20;

/// The columns of a file that are read; nothing stands for all.
pub type Columns = Option<BTreeSet<String>>;

/// The copies for one query, which are removed when this is dropped.
#[derive(Debug)]
pub struct LocalCopies {
    store: Store,
    folder: PathBuf,
    /// Tells other processes that the folder is in use.
    _lock: File,
    /// By path of the copy.
    files: BTreeMap<PathBuf, CopiedFile>,
}

#[derive(Debug)]
struct CopiedFile {
    /// As in the manifest.
    name: String,
    /// In the lake.
    object: PathBuf,
    bytes: u64,
    has_footer: bool,
}

impl LocalCopies {
    /// Creates the folder of the copies; returns nothing if the lake is on a disk, where its files are read.
    ///
    /// # Errors
    ///
    /// The work dir cannot be written to.
    pub fn for_lake(lake: &Lake) -> Result<Option<Self>, HistoryError> {
        let Some(store) = lake.store() else { return Ok(None) };
        let parent = store.work_dir().join("query");
        let number = getrandom::u64().map_err(|error| io_error("name", &parent)(io::Error::other(error)))?;
        let (folder, lock) = create_folder(&parent, &format!("{number:016x}"))?;
        Ok(Some(Self { store: store.clone(), folder, _lock: lock, files: BTreeMap::new() }))
    }

    /// The folder that stands for the table's root.
    pub fn root(&self, table: &Table) -> PathBuf {
        self.folder.join(table.dataset().name)
    }

    /// Names data files of a table. Nothing is fetched yet.
    ///
    /// # Errors
    ///
    /// A path that leads out of the table.
    pub fn add<'f>(
        &mut self,
        table: &Table,
        files: impl Iterator<Item = &'f DataFile>,
    ) -> Result<(), HistoryError> {
        let root = self.root(table);
        for file in files {
            let object = table.data_file_path(&file.path)?;
            let copied = CopiedFile { name: file.path.clone(), object, bytes: file.bytes, has_footer: false };
            self.files.insert(root.join(&file.path), copied);
        }
        Ok(())
    }

    /// Whether any of the files, given by the paths of their copies, has a column.
    ///
    /// # Errors
    ///
    /// The first footer that cannot be read, or an interruption.
    pub fn any_has_column(
        &mut self,
        paths: &[PathBuf],
        column: &str,
        cancel: &Cancel,
    ) -> Result<bool, HistoryError> {
        self.fetch_footers(paths, cancel)?;
        for path in paths {
            let metadata = self.read_footer(path)?;
            if metadata
                .file_metadata()
                .schema_descr()
                .root_schema()
                .get_fields()
                .iter()
                .any(|field| field.name() == column)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Fetches the columns that are read of each file, by the path of its copy.
    ///
    /// # Errors
    ///
    /// [`HistoryError::NoRoom`] if the disk of the work dir is too full; the first file that cannot be read, or an
    /// interruption.
    pub fn fetch(
        &mut self,
        wanted: &BTreeMap<PathBuf, Columns>,
        cancel: &Cancel,
    ) -> Result<(), HistoryError> {
        let paths: Vec<_> = wanted.keys().cloned().collect();
        self.fetch_footers(&paths, cancel)?;
        let mut ranges = Vec::new();
        for (path, columns) in wanted {
            ranges.push((path.as_path(), self.column_ranges(path, columns.as_ref())?));
        }
        let bytes = ranges.iter().flat_map(|(_, ranges)| ranges).map(|range| range.end - range.start).sum();
        self.check_room(bytes)?;
        tracing::debug!(num_files = ranges.len(), bytes, "fetching the columns that the query reads");
        self.fetch_ranges(ranges, cancel)
    }

    fn fetch_footers(&mut self, paths: &[PathBuf], cancel: &Cancel) -> Result<(), HistoryError> {
        let missing: Vec<_> = paths.iter().filter(|path| !self.copied(path).has_footer).collect();
        for folder in missing.iter().filter_map(|path| path.parent()).collect::<BTreeSet<_>>() {
            fs::create_dir_all(folder).map_err(io_error("create", folder))?;
        }
        self.check_room(missing.len() as u64 * FOOTER_BYTES)?;
        let ends = missing.iter().map(|path| {
            let bytes = self.copied(path).bytes;
            (path.as_path(), only(bytes.saturating_sub(FOOTER_BYTES)..bytes))
        });
        self.fetch_ranges(ends.collect(), cancel)?;
        let mut long = Vec::new();
        for path in &missing {
            let start = self.footer_start(path)?;
            let fetched = self.copied(path).bytes.saturating_sub(FOOTER_BYTES);
            if start < fetched {
                long.push((path.as_path(), only(start..fetched)));
            }
        }
        self.fetch_ranges(long, cancel)?;
        for path in missing {
            if let Some(copied) = self.files.get_mut(path) {
                copied.has_footer = true;
            }
        }
        Ok(())
    }

    fn fetch_ranges(
        &self,
        ranges: Vec<(&Path, Vec<Range<u64>>)>,
        cancel: &Cancel,
    ) -> Result<(), HistoryError> {
        let objects = ranges.into_iter().map(|(path, ranges)| ObjectRanges {
            path: &self.copied(path).object,
            ranges,
            to: path,
        });
        Ok(self.store.fetch_ranges(&objects.collect::<Vec<_>>(), cancel)?)
    }

    /// Returns where the footer of a file starts, whose end is fetched.
    fn footer_start(&self, path: &Path) -> Result<u64, HistoryError> {
        let copied = self.copied(path);
        let mut trailer = [0; TRAILER_BYTES];
        let read = File::open(path).and_then(|file| {
            file.read_exact_at(&mut trailer, copied.bytes.saturating_sub(TRAILER_BYTES as u64))
        });
        read.map_err(io_error("read", path))?;
        let [a, b, c, d, ..] = trailer;
        let footer_bytes = u64::from(u32::from_le_bytes([a, b, c, d])) + TRAILER_BYTES as u64;
        if !trailer.ends_with(b"PAR1") || footer_bytes > copied.bytes {
            return Err(
                self.damaged(path, ParquetError::General("the footer is not one of Parquet".to_owned()))
            );
        }
        Ok(copied.bytes - footer_bytes)
    }

    fn read_footer(&self, path: &Path) -> Result<ParquetMetaData, HistoryError> {
        let file = File::open(path).map_err(io_error("read", path))?;
        ParquetMetaDataReader::new().parse_and_finish(&file).map_err(|source| self.damaged(path, source))
    }

    /// Returns where the columns of a file are.
    fn column_ranges(
        &self,
        path: &Path,
        columns: Option<&BTreeSet<String>>,
    ) -> Result<Vec<Range<u64>>, HistoryError> {
        let bytes = self.copied(path).bytes;
        let Some(columns) = columns else { return Ok(only(0..bytes)) };
        let metadata = self.read_footer(path)?;
        let chunks = metadata.row_groups().iter().flat_map(RowGroupMetaData::columns);
        let chunks = chunks
            .filter(|chunk| chunk.column_path().parts().first().is_some_and(|name| columns.contains(name)));
        let ranges = chunks.map(|chunk| {
            byte_range(chunk).filter(|range| range.end <= bytes).ok_or_else(|| {
                self.damaged(path, ParquetError::General("a column is outside of the file".to_owned()))
            })
        });
        ranges.collect()
    }

    /// Fails if the disk has no room for `bytes` more.
    fn check_room(&self, bytes: u64) -> Result<(), HistoryError> {
        let disk = rustix::fs::statvfs(&self.folder)
            .map_err(|error| io_error("check the disk of", &self.folder)(error.into()))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize).saturating_sub(MIN_FREE_BYTES);
        if bytes <= free {
            return Ok(());
        }
        let folder = self.store.work_dir().to_path_buf();
        Err(HistoryError::NoRoom { needed: ByteSize(bytes), free: ByteSize(free), folder })
    }

    fn copied(&self, path: &Path) -> &CopiedFile {
        self.files.get(path).expect("a file that was added")
    }

    fn damaged(&self, path: &Path, source: ParquetError) -> HistoryError {
        HistoryError::DamagedFile { path: self.copied(path).name.clone(), source }
    }
}

impl Drop for LocalCopies {
    /// Best effort: the next query removes what is left.
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Returns where a column chunk is; nothing if its numbers are damaged.
fn byte_range(chunk: &ColumnChunkMetaData) -> Option<Range<u64>> {
    let start = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
    let start = u64::try_from(start).ok()?;
    Some(start..start.checked_add(u64::try_from(chunk.compressed_size()).ok()?)?)
}

fn only(range: Range<u64>) -> Vec<Range<u64>> {
    std::iter::once(range).collect()
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LakeError {
    move |source| LakeError::Io { action, path: path.to_path_buf(), source }
}
