//! Requests to the service and its blob storage, with retries and call rates. Takes URLs, gives bounded responses;
//! never writes parts to the disk, never shows a bare URL.
//!
//! The two clients are independent: [`api`] sends the bearer token, to the API's own origin only; [`blob`] sends no
//! authorisation at all, because blob storage refuses a signed URL that comes with a bearer token (pipeline/docs/service.md#signed-urls).
//!
#![doc = include_str!("failures.md")]

mod error;
pub mod cloud;
pub mod api;
pub mod blob;
pub mod budget;
pub mod retry;
pub mod stall;
pub mod server_clock;
pub mod service_error;

pub use self::error::FetchError;
pub use self::retry::RetryPolicy;
pub use self::service_error::ServiceError;
pub use self::stall::MinThroughput;

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::{Path, PathBuf},
    };

    fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                rust_files(&path, files);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                files.push(path);
            }
        }
    }

    #[test]
    fn every_test_that_the_table_names_exists() {
        let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut files = Vec::new();
        for folder in ["src/source", "src/spool", "../tests"] {
            rust_files(&crate_dir.join(folder), &mut files);
        }
        let quoted = include_str!("failures.md").split('`').skip(1).step_by(2);
        let tests: Vec<_> = quoted.filter(|text| text.contains("::") && !text.contains('…')).collect();
        assert!(tests.len() > 50, "{tests:?}");
        for test in tests {
            let (module, name) = test.rsplit_once("::").unwrap();
            let module = module.rsplit("::").next().unwrap();
            let is_there = files.iter().any(|path| {
                path.with_extension("").components().any(|part| part.as_os_str() == module)
                    && fs::read_to_string(path).unwrap().contains(&format!("fn {name}("))
            });
            assert!(is_there, "{test}");
        }
    }
}
