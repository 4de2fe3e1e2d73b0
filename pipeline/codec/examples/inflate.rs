//! Inflates every gzip part below a folder, on all cores, and does nothing else: the floor that an
//! ingest of the same parts is measured against.

use std::fs::File;
use std::io::{Read, copy, sink};
use std::path::{Path, PathBuf};

use codec::decode::inflate::Inflate;
use rayon::iter::{IntoParallelIterator, ParallelIterator};

fn main() -> anyhow::Result<()> {
    let folder = std::env::args_os().nth(1).ok_or_else(|| anyhow::anyhow!("usage: inflate FOLDER"))?;
    let mut parts = Vec::new();
    find(Path::new(&folder), &mut parts)?;
    parts.into_par_iter().try_for_each(|part| {
        let Some(mut text) = Inflate::try_new(File::open(&part)?)? else {
            anyhow::bail!("{} is empty", part.display())
        };
        copy(&mut text.by_ref(), &mut sink())?;
        Ok(())
    })
}

fn find(folder: &Path, parts: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { find(&path, parts)? } else { parts.push(path) }
    }
    Ok(())
}
