//! `defender-lake`: everything is in the library; here it starts and ends.

fn main() -> std::process::ExitCode {
    pipeline::cli::run().into()
}
