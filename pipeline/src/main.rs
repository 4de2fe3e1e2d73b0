//! `defender-lake`: everything is in the library; here it starts and ends.

/// Gives back what is free for a while (`.cargo/config.toml` says how long). The system's allocator keeps it,
/// the more the longer a run is: with 13 million rows a third more at the peak than with 1.3 million.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    pipeline::cli::run().into()
}
