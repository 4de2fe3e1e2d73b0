//! Reads environment variables. An empty variable counts as absent: container runtimes and service managers set
//! declared variables without a value. Line ends after a value are cut: secrets are often read from files.

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
