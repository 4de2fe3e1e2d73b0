//! A record, or a field of one, that could not become a row or value.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;

/// Whether a record or a field was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectKind {
    /// The record: there is no row. Only these count against `--max-rejects`.
    Record,
    /// One field: it is null in the row.
    Field,
}

/// One reject, with its place and text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// 1-based line in the decompressed part.
    pub line: u64,
    /// Bytes from the start of the decompressed part.
    pub offset: u64,
    /// Record or field.
    pub kind: RejectKind,
    /// The column, for a field.
    pub field: Option<&'static str>,
    /// Why, in words.
    pub reason: String,
    /// The whole record as it came; of one longer than 16 MiB, its first 16 MiB.
    pub raw: Vec<u8>,
}

#[derive(Serialize)]
struct RejectLine<'a> {
    part: &'a str,
    line: u64,
    offset: u64,
    kind: RejectKind,
    field: Option<&'static str>,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_base64: Option<String>,
}

impl Reject {
    /// Writes the reject as one line of the rejects file: text as `raw`, bytes that are not UTF-8
    /// as `raw_base64`.
    pub fn write_line(&self, part: &str, mut out: impl std::io::Write) -> std::io::Result<()> {
        let raw = std::str::from_utf8(&self.raw).ok();
        let line = RejectLine {
            part,
            line: self.line,
            offset: self.offset,
            kind: self.kind,
            field: self.field,
            reason: &self.reason,
            raw,
            raw_base64: raw.is_none().then(|| BASE64_STANDARD.encode(&self.raw)),
        };
        serde_json::to_writer(&mut out, &line)?;
        out.write_all(b"\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_is_kept_losslessly() {
        let mut reject = Reject {
            line: 2,
            offset: 30,
            kind: RejectKind::Record,
            field: None,
            reason: "no DeviceId".into(),
            raw: br#"{"a":"\u00e9"}"#.to_vec(),
        };
        let mut text = Vec::new();
        reject.write_line("part-0", &mut text).unwrap();
        reject.raw = b"\xff{}".to_vec();
        reject.kind = RejectKind::Field;
        reject.field = Some("DiskPaths");
        reject.write_line("part-0", &mut text).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            concat!(
                r#"{"part":"part-0","line":2,"offset":30,"kind":"record","field":null,"reason":"no DeviceId","raw":"{\"a\":\"\\u00e9\"}"}"#,
                "\n",
                r#"{"part":"part-0","line":2,"offset":30,"kind":"field","field":"DiskPaths","reason":"no DeviceId","raw_base64":"/3t9"}"#,
                "\n"
            )
        );
    }
}
