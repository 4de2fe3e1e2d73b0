//! Reads environment variables, of this process or as another process of the same run sent them. An empty variable counts as absent: container runtimes and service managers set
//! declared variables without a value. Line ends after a value are cut: secrets are often read from files.

use std::collections::BTreeMap;
use std::fmt;

/// Returns the value of a variable.
pub fn variable(name: &str) -> Option<String> {
    value(&std::env::var(name).ok()?)
}

/// Returns every variable with its value.
pub fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, text)| Some((name.into_string().ok()?, value(&text.into_string().ok()?)?)))
}

/// Returns the folder for temporary files.
pub fn temp_dir() -> std::path::PathBuf {
    variable("TMPDIR").map_or_else(|| "/tmp".into(), Into::into)
}

/// Variables with their values, which may be secrets: only names are ever shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// Reads those of this process.
    pub fn of_process() -> Self {
        Self(variables().collect())
    }

    /// Takes variables that another process wrote with [`Variables::to_wire`].
    pub fn from_wire(variables: BTreeMap<String, String>) -> Self {
        Self(variables)
    }

    /// Returns names and values, for a task of the same run and nothing else.
    pub fn to_wire(&self) -> BTreeMap<String, String> {
        self.0.clone()
    }

    /// Returns the value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Returns every variable with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Keeps those whose name is wanted.
    #[must_use]
    pub fn only(mut self, is_wanted: impl Fn(&str) -> bool) -> Self {
        self.0.retain(|name, _| is_wanted(name));
        self
    }

    /// Adds those of `others` that are not set here.
    #[must_use]
    pub fn or(mut self, others: Self) -> Self {
        for (name, value) in others.0 {
            self.0.entry(name).or_insert(value);
        }
        self
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

fn value(text: &str) -> Option<String> {
    let text = text.trim_end_matches(['\r', '\n']);
    (!text.trim().is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_is_absent_and_line_ends_are_cut() {
        for (text, expected) in [
            ("", None),
            (" ", None),
            ("\r\n", None),
            ("a b", Some("a b")),
            ("s \r\n\n", Some("s ")),
            ("a\nb", Some("a\nb")),
        ] {
            assert_eq!(value(text).as_deref(), expected, "{text:?}");
        }
    }
}
