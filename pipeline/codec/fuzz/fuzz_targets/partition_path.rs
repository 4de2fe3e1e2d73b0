//! Any value of a partition column gives one directory inside the table, whose name gives the value back.
//! Any directory name can be read without harm.
//!
//! Input: text, taken as a value and as a directory's name.

#![no_main]

use std::path::{Component, Path};

use codec::partition::{MAX_DIRECTORY_NAME_BYTES, PartitionKey, fits_directory, parse_directory};
use libfuzzer_sys::fuzz_target;

const COLUMN: &str = "OSPlatform";

fuzz_target!(|text: &str| {
    let key = PartitionKey::new(Some(text));
    let directory = key.directory(COLUMN);
    let components: Vec<_> = Path::new(&directory).components().collect();
    assert_eq!(components, [Component::Normal(directory.as_ref())], "one directory");
    assert!(!directory.contains(|c: char| c.is_ascii_control()), "no control character");
    assert_eq!(parse_directory(COLUMN, &directory), Some(key.clone()), "the value comes back");
    assert_eq!(key.value().is_none(), text.is_empty(), "only empty text is null");
    if !text.is_empty() {
        assert_eq!(fits_directory(COLUMN, text), directory.len() <= MAX_DIRECTORY_NAME_BYTES);
    }
    // A value read from a name gives that name again, up to unnecessary escapes.
    for name in [text.to_owned(), format!("{COLUMN}={text}")] {
        if let Some(key) = parse_directory(COLUMN, &name) {
            assert_eq!(parse_directory(COLUMN, &key.directory(COLUMN)), Some(key));
        }
    }
});
