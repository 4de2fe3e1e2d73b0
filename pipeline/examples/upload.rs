//! Uploads the same bytes to a container on Azure twice, in turns: as a snapshot is published, and by the
//! library's own multipart uploads with as many parts in flight. What publishing costs is the difference.
//!
//! `upload az://container/path NUM_FILES FILE_MIB ROUNDS`, with the container's credentials in the environment.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Instant;

use anyhow::Context;
use chrono::{TimeDelta, Utc};
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::{ObjectStore, PutMultipartOptions, WriteMultipart};
use pipeline::commit;
use pipeline::lake::store::connector::Connector;
use pipeline::lake::{Lake, Table};
use pipeline::manifest::{DataFile, GeneratedTimeFrom, Manifest, PartFacts, Route, Totals};
use pipeline::snapshot::{RunId, SnapshotId};
use pipeline::staging::{Portion, WrittenFile};

const PART_BYTES: usize = 8 << 20;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [url, num_files, file_mib, rounds] = &args[..] else {
        anyhow::bail!("usage: upload URL NUM_FILES FILE_MIB ROUNDS");
    };
    let (num_files, file_bytes): (usize, usize) = (num_files.parse()?, file_mib.parse::<usize>()? << 20);
    let files: Vec<Vec<u8>> = (0..num_files).map(|seed| noise(seed as u64, file_bytes)).collect();
    let total_mb = (num_files * file_bytes) as f64 / 1e6;
    let work_dir = std::env::temp_dir().join("defender-lake-upload");
    let table = Lake::open(url)?.with_work_dir(&work_dir).table(schema::DATASETS[0]);
    let builder = MicrosoftAzureBuilder::from_env().with_url(url).with_http_connector(Connector::default());
    let plain = builder.build()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    for round in 0..rounds.parse()? {
        let plain_secs = runtime.block_on(upload_plainly(&plain, &files))?;
        let (upload_secs, publish_secs) = publish(&table, &files, round)?;
        writeln!(
            std::io::stdout(),
            "{total_mb:.0} MB  plain {plain_secs:.2} s ({:.0} MB/s)  published {:.2} s ({:.0} MB/s), of it {publish_secs:.2} s after the last byte",
            total_mb / plain_secs,
            upload_secs + publish_secs,
            total_mb / (upload_secs + publish_secs),
        )?;
    }
    Ok(())
}

/// Bytes that nothing makes smaller.
fn noise(seed: u64, num_bytes: usize) -> Vec<u8> {
    use rand_pcg::rand_core::{Rng, SeedableRng};
    let mut bytes = vec![0; num_bytes];
    rand_pcg::Pcg64Mcg::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

async fn upload_plainly(store: &dyn ObjectStore, files: &[Vec<u8>]) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let uploads = stream::iter(files.iter().enumerate()).map(|(index, bytes)| async move {
        let path = object_store::path::Path::from(format!("plain/{index}"));
        let upload = store.put_multipart_opts(&path, PutMultipartOptions::default()).await?;
        let mut writer = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        for part in bytes.chunks(PART_BYTES) {
            writer.wait_for_capacity(2).await?;
            writer.write(part);
        }
        writer.finish().await
    });
    let _: Vec<_> = uploads.buffer_unordered(4).try_collect().await?;
    Ok(begun.elapsed().as_secs_f64())
}

fn publish(table: &Table, files: &[Vec<u8>], round: i32) -> anyhow::Result<(f64, f64)> {
    let id = SnapshotId::new(Utc::now() + TimeDelta::days(round.into()));
    let run_id = RunId::try_new()?;
    let lock = table.lock(|| (), &|| false)?;
    let staging = lock.stage(&run_id, id)?;
    let mut listed = Vec::new();
    for (index, bytes) in files.iter().enumerate() {
        let mut file = staging
            .destination()
            .create_data_file("OSPlatform=Noise", &format!("part-{id}-{run_id}-{index:05}.parquet"))?;
        file.write_all(bytes)?;
        let file = file.finish()?;
        listed.push(DataFile {
            path: file.path,
            snapshot_date: id.date(),
            os_platform: Some("Noise".to_owned()),
            rows: 1,
            bytes: file.bytes,
            row_groups: 1,
            sha256: file.sha256,
        });
    }
    let parts =
        vec![PartFacts { name: "noise".to_owned(), records: files.len() as u64, ..PartFacts::default() }];
    let manifest = Manifest {
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        schema_version: table.dataset().version,
        dataset: table.dataset().name.to_owned(),
        route: Route::Local,
        generated_time: id.generated_time(),
        generated_time_from: GeneratedTimeFrom::Option,
        run_id,
        started_at: id.generated_time(),
        finished_at: id.generated_time(),
        totals: Totals::sum(&parts, &listed),
        parts,
        files: listed,
        undocumented_fields: BTreeMap::new(),
    };
    // What the Delta log would say of these files, which are not Parquet.
    let statistics = serde_json::json!({ "json": "{}", "has_extra_fields": false });
    let mut portion = Portion::default();
    for facts in manifest.files.iter().cloned() {
        portion.files.push(WrittenFile { facts, statistics: serde_json::from_value(statistics.clone())? });
    }
    let begun = Instant::now();
    commit::send(table, staging.destination(), &mut portion, &|_, _| (), &|| false).context("upload")?;
    let uploaded = begun.elapsed().as_secs_f64();
    staging.publish(&manifest, &[portion], &|| false).context("publish")?;
    Ok((uploaded, begun.elapsed().as_secs_f64() - uploaded))
}
