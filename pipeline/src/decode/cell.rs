//! One value of a row between JSON and Arrow, borrowed from the record.

use std::borrow::Cow;

use simd_json::Node;

/// A value that fits its column.
#[derive(Debug, Clone, Copy, Default)]
pub enum Cell<'a> {
    /// No value.
    #[default]
    Null,
    /// For `Utf8`.
    Text(&'a str),
    /// For `Int32`.
    Int32(i32),
    /// For `TimestampMicros`: microseconds since the epoch, UTC.
    Micros(i64),
    /// For `Date32`: days since the epoch.
    Days(i32),
    /// For `Utf8List`.
    List(List<'a>),
}

/// The elements of a list; null elements stay null.
#[derive(Debug, Clone, Copy)]
pub enum List<'a> {
    /// As they lie on simd-json's tape: strings and nulls only.
    Nodes(&'a [Node<'a>]),
    /// Collected one by one.
    Texts(&'a [Option<Cow<'a, str>>]),
}

impl<'a> List<'a> {
    /// Gives each element in order.
    pub fn for_each(self, mut element: impl FnMut(Option<&'a str>)) {
        match self {
            Self::Nodes(nodes) => {
                for node in nodes {
                    match node {
                        Node::String(text) => element(Some(text)),
                        _ => element(None),
                    }
                }
            }
            Self::Texts(texts) => texts.iter().for_each(|text| element(text.as_deref())),
        }
    }
}
