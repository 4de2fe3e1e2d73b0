//! One value of a row between JSON and Arrow, borrowed from the record.

use std::borrow::Cow;

use simd_json::Node;

use super::json::{self, JsonKind, Reader};

/// A value that fits its column.
#[derive(Debug, Clone, Copy, Default)]
pub enum JsonValue<'a> {
    /// No value.
    #[default]
    Null,
    /// For `Utf8` and `Json`.
    Text(&'a str),
    /// For `Int32`.
    Int32(i32),
    /// For `Int64`.
    Int64(i64),
    /// For `Float64`.
    Float64(f64),
    /// For `Boolean`.
    Boolean(bool),
    /// For `TimestampMicros`: microseconds since the epoch, UTC.
    Micros(i64),
    /// For `Date32`: days since the epoch.
    Days(i32),
    /// For `Utf8List`.
    List(List<'a>),
    /// For `StructList`: of each struct its members in their order; null structs stay null.
    Structs(&'a [Option<Vec<CoercedValue<'a>>>]),
}

/// A value that fits its column, with what had to be made for it.
#[derive(Debug)]
pub enum CoercedValue<'a> {
    /// Nothing had to be made.
    Plain(JsonValue<'a>),
    /// Text, perhaps unescaped.
    Text(Cow<'a, str>),
    /// As in [`List::Json`].
    List {
        /// The value.
        text: &'a [u8],
        /// How many elements it has.
        num_elements: usize,
    },
    /// As in [`JsonValue::Structs`].
    Structs(Vec<Option<Vec<CoercedValue<'a>>>>),
}

impl CoercedValue<'_> {
    /// Borrows the value.
    pub fn as_json_value(&self) -> JsonValue<'_> {
        match self {
            Self::Plain(value) => *value,
            Self::Text(text) => JsonValue::Text(text),
            Self::List { text, num_elements } => {
                JsonValue::List(List::Json { text, num_elements: *num_elements })
            }
            Self::Structs(structs) => JsonValue::Structs(structs),
        }
    }
}

/// The elements of a list; null elements stay null.
#[derive(Debug, Clone, Copy)]
pub enum List<'a> {
    /// As they lie on simd-json's tape: strings and nulls only.
    Nodes(&'a [Node<'a>]),
    /// As JSON text that was read before: an array of strings, numbers, booleans and nulls, or one string. Elements
    /// are taken from it one by one: of a large list, all of them would be many times its text.
    Json {
        /// The value.
        text: &'a [u8],
        /// How many elements it has.
        num_elements: usize,
    },
}

impl List<'_> {
    /// Gives each element in order; numbers and booleans as their text.
    ///
    /// # Panics
    ///
    /// If the JSON text was not read before.
    pub fn for_each(self, mut element: impl FnMut(Option<&str>)) {
        match self {
            Self::Nodes(nodes) => {
                for node in nodes {
                    match node {
                        Node::String(text) => element(Some(text)),
                        _ => element(None),
                    }
                }
            }
            Self::Json { text: text @ [b'"', ..], .. } => element(Some(&json::unescape(text))),
            Self::Json { text, .. } => Reader::new(text)
                .array(0, |kind, text| match kind {
                    JsonKind::Null => element(None),
                    JsonKind::String => element(Some(&json::unescape(text))),
                    _ => element(Some(json::ascii(text))),
                })
                .expect("the list has been read before"),
        }
    }

    /// Counts the elements.
    pub fn len(self) -> usize {
        match self {
            Self::Nodes(nodes) => nodes.len(),
            Self::Json { num_elements, .. } => num_elements,
        }
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}
