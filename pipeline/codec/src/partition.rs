//! Takes the value of a partition column; gives the name of the partition's directory. The one place that
//! knows Hive's escaping and the null partition.
//!
//! Only what Hive itself escapes is escaped, byte for byte: Spark does not decode escaped
//! non-ASCII letters, and `+` and blanks are ordinary characters to every reader.

use std::fmt::Write;

/// Directory value that all readers take for null.
pub const NULL_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";

/// Longest name that the common file systems and object stores allow a directory.
pub const MAX_DIRECTORY_NAME_BYTES: usize = 255;

/// Value of a partition column; an empty string never occurs, it counts as null.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionKey(Option<Box<str>>);

impl PartitionKey {
    /// Takes a value; empty text is null.
    ///
    /// ```
    /// use codec::partition::PartitionKey;
    /// assert_eq!(PartitionKey::new(Some("a/b")).directory("OSPlatform"), "OSPlatform=a%2Fb");
    /// assert_eq!(PartitionKey::new(None).directory("OSPlatform"), "OSPlatform=__HIVE_DEFAULT_PARTITION__");
    /// ```
    pub fn new(value: Option<&str>) -> Self {
        Self(value.filter(|value| !value.is_empty()).map(Into::into))
    }

    /// The value; `None` is null.
    pub fn value(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// The directory's name, `column=value` with the value escaped.
    pub fn directory(&self, column: &str) -> String {
        match self.value() {
            None => format!("{column}={NULL_PARTITION}"),
            Some(value) => format!("{column}={}", escape(value)),
        }
    }
}

/// Whether a directory can be named after `value`.
pub fn fits_directory(column: &str, value: &str) -> bool {
    /// `%XX` for one byte.
    const LONGEST_ESCAPE: usize = 3;
    let prefix = column.len() + 1;
    prefix + value.len() * LONGEST_ESCAPE <= MAX_DIRECTORY_NAME_BYTES
        || prefix + escape(value).len() <= MAX_DIRECTORY_NAME_BYTES
}

/// Escapes a value for a directory name.
fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    // `.` and `..` would name other directories if joined to a path; the literal null
    // marker would read as null. One escaped byte tells them apart.
    let escape_first = matches!(value, "." | ".." | NULL_PARTITION);
    for (index, character) in value.chars().enumerate() {
        if needs_escape(character) || (escape_first && index == 0) {
            let _ = write!(escaped, "%{:02X}", u32::from(character));
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// Hive's own set (`FileUtils.escapePathName`).
fn needs_escape(character: char) -> bool {
    character.is_ascii_control()
        || matches!(
            character,
            '"' | '#' | '%' | '\'' | '*' | '/' | ':' | '=' | '?' | '\\' | '{' | '[' | ']' | '^'
        )
}

/// Returns names that every reader takes for the same partition as `directory`, each with one more character
/// escaped: for file systems that take the names of two partitions for one, by case above all.
pub fn other_spellings(directory: &str) -> impl Iterator<Item = String> {
    let start = directory.find('=').map_or(0, |position| position + 1);
    // Of the null partition there is one spelling: any other is that text.
    let directory = if &directory[start..] == NULL_PARTITION { "" } else { directory };
    let is_escaped = move |index: usize| {
        let bytes = directory.as_bytes();
        (1..=2).any(|distance| index.checked_sub(distance).is_some_and(|at| at >= start && bytes[at] == b'%'))
    };
    // Letters make the difference nearly always. Spark decodes no escaped letters beyond ASCII.
    let is_letter = |character: char| character.is_ascii_alphabetic();
    let is_other = |character: char| {
        character.is_ascii_graphic() && character != '%' && !character.is_ascii_alphabetic()
    };
    let positions = move |is_wanted: fn(char) -> bool| {
        directory
            .char_indices()
            .filter(move |(index, character)| *index >= start && is_wanted(*character) && !is_escaped(*index))
    };
    positions(is_letter).chain(positions(is_other)).map(move |(index, character)| {
        format!("{}%{:02X}{}", &directory[..index], u32::from(character), &directory[index + 1..])
    })
}

/// Returns the name that every reader takes for the same partition as `directory`, without what the file
/// systems of Windows forbid in names; `None` if there is nothing of that in it.
pub fn portable_spelling(directory: &str) -> Option<String> {
    let kept = directory.trim_end_matches(['.', ' ']).len();
    let mut spelling = String::with_capacity(directory.len());
    for (index, character) in directory.char_indices() {
        if matches!(character, '<' | '>' | '|') || index >= kept {
            let _ = write!(spelling, "%{:02X}", u32::from(character));
        } else {
            spelling.push(character);
        }
    }
    (spelling != directory).then_some(spelling)
}

/// Reads a directory name back: `column=value` → the key; `None` if it is not such a name.
pub fn parse_directory(column: &str, directory: &str) -> Option<PartitionKey> {
    let value = directory.strip_prefix(column)?.strip_prefix('=')?;
    if value == NULL_PARTITION {
        return Some(PartitionKey(None));
    }
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first == b'%' {
            let (hex, tail) = tail.split_at_checked(2)?;
            rest = tail;
            bytes.push(u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?);
        } else {
            bytes.push(*first);
        }
    }
    Some(PartitionKey(Some(String::from_utf8(bytes).ok()?.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_spellings_mean_the_same() {
        let spellings = |name: &str| other_spellings(name).collect::<Vec<_>>();
        assert_eq!(
            spellings("OSPlatform=M%4Da1"),
            ["OSPlatform=%4D%4Da1", "OSPlatform=M%4D%611", "OSPlatform=M%4Da%31"]
        );
        assert_eq!(spellings("OSPlatform=é"), [""; 0]);
        let null = PartitionKey::new(None).directory("OSPlatform");
        assert_eq!(other_spellings(&null).count(), 0);
        assert_eq!(portable_spelling("OSPlatform=a<b|. "), Some("OSPlatform=a%3Cb%7C%2E%20".to_owned()));
        assert_eq!(portable_spelling("OSPlatform=Windows 10.1"), None);
        for value in ["macOS", "a/b %é", "__HIVE_DEFAULT_PARTITION__", ".", "x=y"] {
            let directory = PartitionKey::new(Some(value)).directory("OSPlatform");
            for spelling in other_spellings(&directory) {
                assert_ne!(spelling, directory);
                assert_eq!(
                    parse_directory("OSPlatform", &spelling).unwrap().value(),
                    Some(value),
                    "{spelling}"
                );
            }
        }
    }

    #[test]
    fn values_are_escaped_as_hive_does() {
        for (value, expected) in [
            ("Windows10", "OSPlatform=Windows10"),
            ("Windows 10", "OSPlatform=Windows 10"),
            ("a/b", "OSPlatform=a%2Fb"),
            ("..", "OSPlatform=%2E."),
            (".", "OSPlatform=%2E"),
            ("...", "OSPlatform=..."),
            ("x=y", "OSPlatform=x%3Dy"),
            ("50%", "OSPlatform=50%25"),
            ("mac+OS", "OSPlatform=mac+OS"),
            ("a\tb\u{7f}", "OSPlatform=a%09b%7F"),
            ("é{}", "OSPlatform=é%7B}"),
            ("\0", "OSPlatform=%00"),
            (NULL_PARTITION, "OSPlatform=%5F_HIVE_DEFAULT_PARTITION__"),
        ] {
            let key = PartitionKey::new(Some(value));
            assert_eq!(key.directory("OSPlatform"), expected);
            assert_eq!(parse_directory("OSPlatform", expected), Some(key));
        }
        assert_eq!(PartitionKey::new(Some("")), PartitionKey::new(None));
        assert_eq!(
            parse_directory("OSPlatform", &PartitionKey::new(None).directory("OSPlatform")),
            Some(PartitionKey::new(None))
        );
    }

    #[test]
    fn names_too_long_for_a_directory_do_not_fit() {
        assert!(fits_directory("OSPlatform", &"a".repeat(255 - 11)));
        assert!(!fits_directory("OSPlatform", &"a".repeat(255 - 10)));
        assert!(fits_directory("OSPlatform", &"%".repeat(81)));
        assert!(!fits_directory("OSPlatform", &"%".repeat(82)));
        assert!(!fits_directory("OSPlatform", &"é".repeat(130)));
    }

    proptest::proptest! {
        #[test]
        fn every_value_stays_one_directory_and_comes_back(value in "\\PC*|[\\x00-\\x7f]{0,20}") {
            let key = PartitionKey::new(Some(&value));
            let directory = key.directory("OSPlatform");
            proptest::prop_assert!(!directory.contains('/') && !directory.contains('\0'));
            proptest::prop_assert_eq!(parse_directory("OSPlatform", &directory), Some(key));
        }
    }
}
