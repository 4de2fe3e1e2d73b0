//! Files to ignore: what desktops, file servers and stores leave in folders.
//!
//! Takes a path and a size, and opens no file. What a reader would take for data is never ignored: a glob finds
//! `lost+found/x/y.parquet` and `._x.parquet`, too.

use std::collections::BTreeMap;

use super::paths::SUCCESS_FILE;

/// Names of folders, case-insensitive. All names that start with a dot are ignored, too.
const FOLDERS: &[&str] = &[
    "lost+found",
    "$RECYCLE.BIN",
    "RECYCLER",
    "System Volume Information",
    // Synology, QNAP, NetApp.
    "@eaDir",
    "@tmp",
    "#recycle",
    "#snapshot",
    "@Recycle",
    "@Recently-Snapshot",
    "~snapshot",
    // macOS.
    "__MACOSX",
    "Network Trash Folder",
    "Temporary Items",
    "TheVolumeSettingsFolder",
];

/// Names of files, case-insensitive.
const FILES: &[&str] = &[
    "Thumbs.db",
    "Thumbs.db:encryptable",
    "ehthumbs.db",
    "ehthumbs_vista.db",
    "desktop.ini",
    "Icon\r",
    "aquota.user",
    "aquota.group",
];

/// Suffix of the folder markers of Hadoop's older S3 clients.
const FOLDER_SUFFIX: &str = "_$folder$";

/// Whether the file at `path`, with `/` as its separator, is to be ignored.
pub(crate) fn is_ignored_file(path: &str, bytes: u64) -> bool {
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    !is_parquet(name)
        && (name.starts_with('.')
            || is_one_of(FILES, name)
            || (bytes == 0 && name.ends_with(FOLDER_SUFFIX))
            || folders.split('/').any(is_ignored_folder))
}

/// Whether everything in a folder of this name is to be ignored, Parquet files aside.
pub(crate) fn is_ignored_folder(name: &str) -> bool {
    name.starts_with('.') || is_one_of(FOLDERS, name)
}

/// Removes a store's folder markers: empty objects with the name of a folder (also `name/`, whose slash the library
/// strips), and those of older clients.
pub(crate) fn remove_folder_markers(files: &mut BTreeMap<String, u64>) {
    let is_marker = |path: &str| {
        let name = path.rsplit('/').next().unwrap_or(path);
        let below = format!("{path}/");
        let is_folder =
            || files.range(below.clone()..).next().is_some_and(|(next, _)| next.starts_with(&below));
        let is_named_like_one = !name.contains('.') || name.contains('=');
        !is_parquet(name)
            && name != SUCCESS_FILE
            && (is_named_like_one || name.ends_with(FOLDER_SUFFIX) || is_folder())
    };
    let markers: Vec<_> = files
        .iter()
        .filter(|(path, bytes)| **bytes == 0 && is_marker(path))
        .map(|(path, _)| path.clone())
        .collect();
    for marker in markers {
        files.remove(&marker);
    }
}

fn is_parquet(name: &str) -> bool {
    const SUFFIX: &str = ".parquet";
    name.len()
        .checked_sub(SUFFIX.len())
        .and_then(|start| name.get(start..))
        .is_some_and(|end| end.eq_ignore_ascii_case(SUFFIX))
}

fn is_one_of(names: &[&str], name: &str) -> bool {
    names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_files_are_told_from_data() {
        for path in [
            ".DS_Store",
            "OSPlatform=x/._part.crc",
            ".Trash-1000/files/x.txt",
            "Thumbs.db",
            "thumbs.DB",
            "OSPlatform=Windows10/desktop.ini",
            "Icon\r",
            "lost+found/#123",
            "$RECYCLE.BIN/S-1-5/desktop.ini",
            "System Volume Information/WPSettings.dat",
            "@eaDir/part-1.parquet/SYNOFILE_THUMB_M.jpg",
            "OSPlatform=x/#recycle/a/b.txt",
        ] {
            assert!(is_ignored_file(path, 7), "{path}");
        }
        assert!(is_ignored_file("OSPlatform=x_$folder$", 0) && !is_ignored_file("OSPlatform=x_$folder$", 1));
        for path in [
            "._part.parquet",
            ".hidden.PARQUET",
            "lost+found/x.parquet",
            "@eaDir/x/y.parquet",
            "README",
            "theirs/x.txt",
            "_committed_1",
            "_SUCCESS",
            "lost+found",
            "Thumbs.db.txt",
            "",
        ] {
            let is_folder = is_ignored_folder(path);
            assert!(!is_ignored_file(path, 7) || is_folder, "{path}");
        }
    }

    #[test]
    fn folder_markers_are_left_out() {
        let check = |names: &[(&str, u64)], expected: &[&str]| {
            let mut files = names.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect();
            remove_folder_markers(&mut files);
            assert_eq!(files.into_keys().collect::<Vec<_>>(), expected);
        };
        check(&[("a", 0), ("a/x.parquet", 1), ("b.d", 0), ("b.d/x", 1)], &["a/x.parquet", "b.d/x"]);
        check(&[("OSPlatform=Windows 8.1", 0), ("OSPlatform=x_$folder$", 0), ("20210111T110100Z", 0)], &[]);
        check(&[("a", 1), ("a.parquet", 0), ("a.parquet/x", 1)], &["a", "a.parquet", "a.parquet/x"]);
        check(&[("_SUCCESS", 0), ("manifest.json", 0)], &["_SUCCESS", "manifest.json"]);
        // What sorts between a marker and what is below it.
        check(&[("a", 0), ("a-b", 1), ("a/x", 1)], &["a-b", "a/x"]);
    }
}
