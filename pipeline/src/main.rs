//! `defender-lake`: everything is in the library; here it starts and ends.

/// Gives back what is free for a while (`.cargo/config.toml` says how long). The system's allocator keeps it,
/// the more the longer a run is: with 13 million rows a third more at the peak than with 1.3 million.
#[cfg(not(feature = "history"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The same, and it counts what is in use: the engine goes to disk by that, and `query` ends by it.
#[cfg(feature = "history")]
#[global_allocator]
static ALLOCATOR: polars_ooc::Allocator = polars_ooc::Allocator;

fn main() -> std::process::ExitCode {
    pipeline::cli::run().into()
}
