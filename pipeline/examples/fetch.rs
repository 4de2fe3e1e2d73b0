//! Fetches an export's parts into a spool and does nothing else: what a download is measured by
//! against other programs. Takes the environment's tenant, a work dir, and `check` where the parts are
//! to be held against the server's MD5 as well, on as many threads as decoding has.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use pipeline::cli::IngestOptions;
use pipeline::ingest::DatasetChoice;
use pipeline::source::{FetchProgress, Sources};
use tokio::sync::mpsc;

#[expect(clippy::print_stdout, reason = "the figure is what the program is for")]
fn main() -> anyhow::Result<()> {
    let work_dir =
        PathBuf::from(std::env::args_os().nth(1).ok_or_else(|| anyhow::anyhow!("usage: fetch DIR [check]"))?);
    let is_checked = std::env::args_os().nth(2).is_some_and(|arg| arg == "check");
    // The environment stands behind the command line, which this program has none of.
    let url = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let options = IngestOptions {
        api_url: url("DEFENDER_API_URL"),
        login_url: url("AZURE_AUTHORITY_HOST"),
        work_dir: Some(work_dir),
        ..IngestOptions::default()
    };
    let config = options.to_config()?;
    let DatasetChoice::Named(datasets) = &config.datasets else { anyhow::bail!("expected one dataset") };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let sources = Sources::try_new(&config.source, &config.work_dir)?;
        let (_, source) = sources.open(datasets[0]).await?;
        let started = Instant::now();
        let (sender, mut receiver) = mpsc::channel(64);
        let delivery = tokio::spawn(source.deliver(sender, Arc::new(FetchProgress::default())));
        let (mut num_parts, mut num_bytes) = (0, 0);
        while let Some(part) = receiver.recv().await {
            num_parts += 1;
            num_bytes += part.bytes;
            if is_checked {
                rayon::spawn(move || {
                    if let Err(damage) = part.open() {
                        part.reject(&damage);
                    }
                });
            }
        }
        delivery.await??;
        let seconds = started.elapsed().as_secs_f64();
        println!("{num_parts} parts, {num_bytes} bytes in {seconds:.3} s");
        Ok(())
    })
}
