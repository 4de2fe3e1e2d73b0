//! Text that cannot be printed by accident.

use std::{
    fmt, fs,
    io::{self, Read},
    os::unix::fs::FileTypeExt,
    path::Path,
};

/// A token or client secret. [`fmt::Debug`] shows that there is one; there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the text in.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text, only for the header or body of a request.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Reads a file with a secret, or a pipe (`<(…)`). Blocks until a pipe's writer closes it: call it on a thread that
/// may block.
///
/// # Errors
///
/// Fails if it is neither, has more than `max_bytes`, or cannot be read.
pub fn read_secret_file(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() && !metadata.file_type().is_fifo() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "is not a regular file"));
    }
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(max_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// Longest text of a service that an error quotes.
const MAX_QUOTED_CHARS: usize = 300;
/// A longer word is a token, a signature or a URL.
const MAX_WORD_CHARS: usize = 80;

/// Returns the first line of a service's message, safe to show: bounded, without control characters and anything
/// that looks like a signature or a token.
pub fn quotable(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("");
    let mut quoted = String::new();
    for word in line.split_whitespace() {
        let lower = word.to_ascii_lowercase();
        let is_secret = ["sig=", "eyj", "bearer", "secret="].iter().any(|mark| lower.contains(mark));
        let word = if is_secret || word.chars().count() > MAX_WORD_CHARS { "…" } else { word };
        if !quoted.is_empty() {
            quoted.push(' ');
        }
        quoted.extend(word.chars().filter(|c| !c.is_control()));
        if quoted.chars().count() > MAX_QUOTED_CHARS {
            return quoted.chars().take(MAX_QUOTED_CHARS).chain(['…']).collect();
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "Secret(…)");
    }

    #[test]
    fn secret_files_are_bounded_and_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, "0123456789").unwrap();
        assert_eq!(read_secret_file(&path, 10).unwrap(), b"0123456789");
        assert_eq!(read_secret_file(&path, 9).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        for path in [Path::new("/dev/zero"), folder.path()] {
            assert_eq!(read_secret_file(path, 9).unwrap_err().to_string(), "is not a regular file");
        }
    }

    #[test]
    fn quoted_text_is_one_short_line_without_secrets() {
        assert_eq!(quotable("\n AADSTS7000215: Invalid\tclient.\r\nTrace"), "AADSTS7000215: Invalid client.");
        assert_eq!(quotable("see https://h/p?sv=1&sig=abc now"), "see … now");
        assert_eq!(quotable("token eyJhbGciOi.x.y bad"), "token … bad");
        assert_eq!(quotable(&"x".repeat(5000)), "…");
        assert!(quotable(&"word ".repeat(5000)).chars().count() <= MAX_QUOTED_CHARS + 1);
        assert_eq!(quotable("a\u{1b}[31mb"), "a[31mb");
    }
}
