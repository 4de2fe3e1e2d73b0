//! Redacts paths and URLs from the command line, files and the environment before they are printed.
//!
//! Paths, hosts and names of options are printed without what could be a secret. Other values are never printed.

use std::borrow::Cow;

use crate::printable::printable;

/// Text that precedes a secret in signed URLs, connection strings and login forms.
const MARKS: [&str; 12] = [
    "sig=",
    "sig%3d",
    "accountkey=",
    "accesskey=",
    "accesssignature=",
    "amz-signature=",
    "goog-signature=",
    "security-token=",
    "secret=",
    "password=",
    "passwd=",
    "access_token=",
];

/// Whether text contains a signature, key or token.
pub fn holds_secret(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    MARKS.iter().any(|mark| lower.contains(mark))
        || text
            .split(|c: char| !is_token(c))
            .any(|word| word.starts_with("eyJ") && word.len() >= MIN_TOKEN_BYTES)
}

/// The least length of the first part of a token; shorter words of a path may begin like one.
const MIN_TOKEN_BYTES: usize = 16;

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

/// Returns a path or URL without user information, query and fragment.
pub fn place(text: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return if holds_secret(text) { Cow::Borrowed("…") } else { printable(text) };
    };
    let query = rest.find(['?', '#']);
    let shown = match (rest.rfind('@'), query) {
        // Ambiguous: a password with a question mark, or a query with an at sign.
        (Some(at), Some(query)) if query < at => None,
        // A container is not a secret, a user name may be one.
        (Some(at), _) if !(is_container(&rest[..at]) && takes_container(scheme)) => Some(&rest[at + 1..]),
        _ => Some(rest),
    };
    let shown = shown.map(|shown| &shown[..shown.find(['?', '#']).unwrap_or(shown.len())]);
    match shown {
        Some(shown) if !holds_secret(shown) && !scheme.is_empty() => {
            Cow::Owned(format!("{}://{}", printable(scheme), printable(shown)))
        }
        _ => Cow::Owned(format!("{}://…", printable(if holds_secret(scheme) { "" } else { scheme }))),
    }
}

/// Whether URLs of this scheme have a container before `@`.
pub fn takes_container(scheme: &str) -> bool {
    ["abfss", "abfs", "az", "azure", "adl"].iter().any(|known| known.eq_ignore_ascii_case(scheme))
}

/// Whether text can be the name of a container or workspace.
fn is_container(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "-_. $".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_printed_without_secrets() {
        let check = |text: &str, expected: &str| assert_eq!(place(text), expected, "{text}");
        check("/data/lake", "/data/lake");
        check("a?b", "a?b");
        check("a\u{1b}b", r"a\u{1b}b");
        check("s3://bucket/x", "s3://bucket/x");
        check("abfss://c@a.dfs.core.windows.net/x", "abfss://c@a.dfs.core.windows.net/x");
        check("https://h/p?sv=1&sig=SECRET", "https://h/p");
        check("https://h/p#SECRET", "https://h/p");
        check("https://user:SECRET@h/p", "https://h/p");
        check("https://user:SEC/RET@h/p", "https://h/p");
        check("https://user:SEC?RET@h/p", "https://…");
        check("https://h/p?sig=SEC@RET", "https://…");
        check("s3://SECRET@bucket/x", "s3://bucket/x");
        check("abfss://c:SECRET@a.dfs.core.windows.net/x", "abfss://a.dfs.core.windows.net/x");
        check("https://h/p;AccountKey=SECRET", "https://…");
        check("h/p?sv=1&sig=SECRET", "…");
        check("DefaultEndpointsProtocol=https;AccountName=a;AccountKey=SECRET", "…");
        check("x?SIG%3DSECRET", "…");
        check("lake/eyJhbGciOiJIUzI1NiJ9.x.y", "…");
        check("lake/eyJungle/monkeyJungle", "lake/eyJungle/monkeyJungle");
    }
}
