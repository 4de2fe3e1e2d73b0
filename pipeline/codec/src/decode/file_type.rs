//! Takes the first bytes of a part that is not an export; gives its file type, for the error.

use std::fmt;

use super::field_map::{FieldMap, Names, Target};
use super::json::Reader;

/// Bytes that [`FileType::of`] looks at: a tar archive is recognised behind the first 257.
pub const HEAD_BYTES: usize = 1024;

/// Type of a part that is not an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileType {
    /// A zip archive.
    Zip,
    /// gzip once more, inside the gzip of the part.
    GzipInGzip,
    /// The `deflate` of HTTP.
    Zlib,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
    /// Zstandard.
    Zstd,
    /// A 7z archive.
    SevenZip,
    /// A tar archive.
    Tar,
    /// A Parquet file.
    Parquet,
    /// Text in two bytes a letter.
    Utf16,
    /// Text in four bytes a letter.
    Utf32,
    /// HTML.
    Html,
    /// XML: what storage answers with an error.
    Xml,
    /// One JSON object that describes an error of an API.
    JsonError,
    /// Any other text.
    Text,
    /// Anything else.
    Binary,
}

impl FileType {
    /// Tells what begins with `head`, which is not JSON in UTF-8.
    pub fn of(head: &[u8]) -> Self {
        const SIGNATURES: [(&[u8], FileType); 16] = [
            (b"PK\x03\x04", FileType::Zip),
            (b"PK\x05\x06", FileType::Zip),
            (b"PK\x07\x08", FileType::Zip),
            (b"\x1f\x8b", FileType::GzipInGzip),
            (b"\x78\x01", FileType::Zlib),
            (b"\x78\x9c", FileType::Zlib),
            (b"\x78\xda", FileType::Zlib),
            (b"BZh", FileType::Bzip2),
            (b"\xfd7zXZ\0", FileType::Xz),
            (b"\x28\xb5\x2f\xfd", FileType::Zstd),
            (b"7z\xbc\xaf\x27\x1c", FileType::SevenZip),
            (b"PAR1", FileType::Parquet),
            // Before UTF-16, whose mark is the beginning of the first of these.
            (b"\xff\xfe\0\0", FileType::Utf32),
            (b"\0\0\xfe\xff", FileType::Utf32),
            (b"\xff\xfe", FileType::Utf16),
            (b"\xfe\xff", FileType::Utf16),
        ];
        let by_signature = SIGNATURES.iter().find(|(signature, _)| head.starts_with(signature));
        match by_signature {
            Some((_, file_type)) => *file_type,
            None if head.starts_with(b"<") && has_html_tag(head) => Self::Html,
            None if head.starts_with(b"<") => Self::Xml,
            None if head.get(257..262) == Some(b"ustar") => Self::Tar,
            None => without_signature(head),
        }
    }

    /// Suggested fix for a file of this type.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Zip | Self::SevenZip | Self::Tar => "unpack it and pass the files that are in it",
            Self::GzipInGzip => "decompress it once, as with `gzip -d`",
            Self::Zlib | Self::Bzip2 | Self::Xz | Self::Zstd => "decompress it first",
            Self::Utf16 => "convert it, as with `iconv -f UTF-16 -t UTF-8`, or write it as UTF-8",
            Self::Utf32 => "convert it, as with `iconv -f UTF-32 -t UTF-8`, or write it as UTF-8",
            Self::Html | Self::Xml | Self::JsonError => {
                "download the part again: a server or proxy has answered with this instead of the export"
            }
            Self::Parquet | Self::Text | Self::Binary => {
                "pass the parts of the export as they were downloaded"
            }
        }
    }
}

impl fmt::Display for FileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Zip => "a zip archive",
            Self::GzipInGzip => "gzip inside gzip",
            Self::Zlib => "zlib data",
            Self::Bzip2 => "a bzip2 file",
            Self::Xz => "an xz file",
            Self::Zstd => "a zstd file",
            Self::SevenZip => "a 7z archive",
            Self::Tar => "a tar archive",
            Self::Parquet => "a Parquet file",
            Self::Utf16 => "UTF-16",
            Self::Utf32 => "UTF-32",
            Self::Html => "HTML",
            Self::Xml => "XML",
            Self::JsonError => "a JSON error body",
            Self::Text => "plain text",
            Self::Binary => "binary data",
        })
    }
}

/// Whether there is a tag that HTML begins with, be it the fragment that many proxies send.
fn has_html_tag(head: &[u8]) -> bool {
    const TAGS: [&[u8]; 12] = [
        b"html", b"head", b"body", b"title", b"meta", b"h1", b"center", b"div", b"p", b"pre", b"br",
        b"script",
    ];
    head.split(|byte| *byte == b'<').skip(1).any(|tag| {
        let is_name = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'!';
        let (name, rest) = tag.split_at(tag.iter().take_while(is_name).count());
        let is_tag = |known: &&[u8]| name.eq_ignore_ascii_case(known);
        // `<p:Error>` is of XML.
        (TAGS.iter().any(is_tag) && !rest.starts_with(b":"))
            || (name.eq_ignore_ascii_case(b"!doctype")
                && rest.trim_ascii_start().get(..4).is_some_and(|kind| kind.eq_ignore_ascii_case(b"html")))
    })
}

/// Tells wide text by the zeros of its first letters, which are ASCII, and other text by its controls.
fn without_signature(head: &[u8]) -> FileType {
    let zeros: Vec<bool> = head.iter().take(4).map(|byte| *byte == 0).collect();
    match zeros[..] {
        [true, true, true, false] | [false, true, true, true] => FileType::Utf32,
        [true, false]
        | [false, true]
        | [true, false, true]
        | [false, true, false]
        | [true, false, true, false]
        | [false, true, false, true] => FileType::Utf16,
        _ if head.iter().any(|byte| byte.is_ascii_control() && !byte.is_ascii_whitespace()) => {
            FileType::Binary
        }
        _ => FileType::Text,
    }
}

/// Whether a record says what went wrong: it has a name that APIs put on errors, and none of a column.
pub fn is_error_body(record: &[u8], field_map: &FieldMap, names: &mut Names) -> bool {
    const NAMES: [&str; 8] =
        ["error", "errors", "odata.error", "message", "code", "statuscode", "errorcode", "error_description"];
    let (mut is_error, mut has_column) = (false, false);
    let read = Reader::new(record).object(0, |name, _, _| {
        is_error |= NAMES.iter().any(|error| name.eq_ignore_ascii_case(error));
        has_column |= matches!(names.resolve(field_map, &name), Target::Property(_));
    });
    read.is_ok() && is_error && !has_column
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_first_bytes() {
        let mut tar = b"part-0.json".to_vec();
        tar.resize(257, 0);
        tar.extend_from_slice(b"ustar");
        let cases: [(&[u8], &str); 34] = [
            (b"PK\x03\x04\x14\0", "a zip archive"),
            (b"PK\x05\x06\0\0", "a zip archive"),
            (b"\x1f\x8b\x08\0", "gzip inside gzip"),
            (b"\x78\x9c\xab", "zlib data"),
            (b"BZh91AY", "a bzip2 file"),
            (b"\xfd7zXZ\0\0", "an xz file"),
            (b"\x28\xb5\x2f\xfd\x04", "a zstd file"),
            (b"7z\xbc\xaf\x27\x1c\0", "a 7z archive"),
            (&tar, "a tar archive"),
            (b"PAR1\x15", "a Parquet file"),
            (b"\xff\xfe{\0\"\0", "UTF-16"),
            (b"\xfe\xff\0{\0\"", "UTF-16"),
            (b"{\0\"\0D\0", "UTF-16"),
            (b"[\0", "UTF-16"),
            (b"\0\n\0{", "UTF-16"),
            (b"\0{\0", "UTF-16"),
            (b"\xff\xfe\0\0{\0\0\0", "UTF-32"),
            (b"\0\0\xfe\xff\0\0\0{", "UTF-32"),
            (b"{\0\0\0\"\0\0\0", "UTF-32"),
            (b"\0\0\0{", "UTF-32"),
            (b"<!DOCTYPE html>\n<title>x", "HTML"),
            (b"<!doctype HTML PUBLIC", "HTML"),
            (b"<HTML><Body>", "HTML"),
            (b"<?xml version=\"1.0\"?><!DOCTYPE html PUBLIC>", "HTML"),
            (b"<!-- proxy --><html lang=en>", "HTML"),
            (b"<h1>502 Bad Gateway</h1>", "HTML"),
            (b"<?xml version=\"1.0\"?><Error><Code>AuthenticationFailed</Code>", "XML"),
            (b"<Error><Header/><p:p/></Error>", "XML"),
            (b"<", "XML"),
            (b"DeviceId,DeviceName\n1,2\n", "plain text"),
            (b"null", "plain text"),
            (b"upstream connect error", "plain text"),
            ("\u{e9}\u{2028}".as_bytes(), "plain text"),
            (b"\x00\x01\x02\x03", "binary data"),
        ];
        for (head, expected) in cases {
            assert_eq!(FileType::of(head).to_string(), expected, "{}", head.escape_ascii());
        }
    }

    #[test]
    fn error_bodies_are_known_by_their_names() {
        let field_map = FieldMap::new(schema::DATASETS[0], false);
        for (record, expected) in [
            (r#"{"error":{"code":"TooManyRequests","message":"x"}}"#, true),
            (r#"{"error":"invalid_client","error_description":"x"}"#, true),
            (r#"{ "Message" : "An error has occurred." }"#, true),
            (r#"{"statusCode":429,"message":"x"}"#, true),
            (r#"{"error":{},"DeviceName":null}"#, false),
            (r#"{"DeviceName":"a"}"#, false),
            (r#"{"a":{"error":1}}"#, false),
            ("{}", false),
            (r#"{"error":"#, false),
            ("[]", false),
        ] {
            assert_eq!(is_error_body(record.as_bytes(), &field_map, &mut Names::new()), expected, "{record}");
        }
    }
}
