//! The executable `defender-lake`: sets the allocator and runs the command line.

/// Returns free memory to the system after a delay, which `.cargo/config.toml` sets. glibc's allocator keeps it: the
/// peak with 13 million rows was a third higher than with 1.3 million.
#[cfg(not(feature = "query"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The same allocator, which also counts the memory in use: the engine spills to disk by it, and `query` stops.
#[cfg(feature = "query")]
#[global_allocator]
static ALLOCATOR: polars_ooc::Allocator = polars_ooc::Allocator;

fn main() -> std::process::ExitCode {
    pipeline::cli::run().into()
}
