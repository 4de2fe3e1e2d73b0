//! Moves a complete part into its spool.

use std::{fs, io, sync::atomic::Ordering};

use super::{PartWriter, Spool, SpoolError, Spooled, SpooledFacts};

impl PartWriter {
    /// Moves the complete part into `spool`. Fills in size and CRC of `facts`.
    ///
    /// # Errors
    ///
    /// Fails if the disk cannot be written.
    pub async fn finish(mut self, spool: &Spool, facts: SpooledFacts) -> Result<Spooled, SpoolError> {
        self.flush().await?;
        let crc32 = self.take_file().await?.crc32.finalize();
        let facts = SpooledFacts { bytes: self.bytes, written_crc32: crc32, ..facts };
        let (path, facts_path) = (spool.part_path(&facts.name), spool.facts_path(&facts.name));
        // The old facts are removed first, so that they never describe other bytes.
        match fs::remove_file(&facts_path) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => {
                return Err(SpoolError::new("remove", facts_path)(err));
            }
            _ => {}
        }
        fs::rename(&self.path, &path).map_err(SpoolError::new("rename", &self.path))?;
        self.is_finished = true;
        self.forget_note();
        let facts_partial = facts_path.with_extension("json.partial");
        let text = serde_json::to_vec(&facts).map_err(io::Error::from);
        text.and_then(|text| fs::write(&facts_partial, text))
            .map_err(SpoolError::new("write", &facts_partial))?;
        fs::rename(&facts_partial, &facts_path).map_err(SpoolError::new("rename", &facts_partial))?;
        spool.inner.bytes.fetch_add(facts.bytes, Ordering::Relaxed);
        Ok(Spooled { path, facts })
    }
}
