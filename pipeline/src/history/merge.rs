//! Compares the rows of products that could have changed: what is in one snapshot alone, and what has
//! other values in both.

use polars::prelude::*;

use super::version_order;

const PRODUCT: [&str; 3] = ["DeviceId", "SoftwareVendor", "SoftwareName"];
const KEY: [&str; 4] = ["DeviceId", "SoftwareVendor", "SoftwareName", "SoftwareVersion"];
/// The columns that every kind of change has for itself.
const OWN: [&str; 8] = [
    "Change",
    "DeviceId",
    "SoftwareVendor",
    "SoftwareName",
    "OldVersion",
    "NewVersion",
    "OldValue",
    "NewValue",
];

/// Compares installations: those in one snapshot only, paired where they are versions of one product
/// on one device, and the values of those in both.
pub(super) fn software_changes(old: DataFrame, new: DataFrame) -> PolarsResult<Vec<LazyFrame>> {
    let ranks = version_ranks(&[&old, &new])?;
    let installations = |rows: DataFrame, side: &str| {
        let renamed = |name: &str| col(name).max().alias(format!("{side}_{name}"));
        let values = [renamed("NumberOfWeaknesses"), renamed("EndOfSupportStatus")];
        rows.lazy().group_by(KEY.map(col)).agg(values).with_column(lit(true).alias(side))
    };
    let both = full_join(installations(old, "old"), installations(new, "new"), &KEY)
        .join(ranks.lazy(), [col("SoftwareVersion")], [col("SoftwareVersion")], JoinArgs::new(JoinType::Left))
        .collect()?
        .lazy();

    let index = int_range(lit(0), len(), 1, DataType::UInt32).over(PRODUCT.map(col))?.alias("index");
    let only = |side: &str, other: &str, version: &str| {
        both.clone()
            .filter(col(other).is_null())
            .sort(
                PRODUCT.iter().chain([&"rank"]).copied().collect::<Vec<_>>(),
                SortMultipleOptions::default(),
            )
            .select([
                cols(PRODUCT).as_expr(),
                index.clone(),
                col("SoftwareVersion").alias(version),
                col(side),
            ])
    };
    let place = ["DeviceId", "SoftwareVendor", "SoftwareName", "index"];
    let versions = full_join(only("old", "new", "OldVersion"), only("new", "old", "NewVersion"), &place)
        .with_columns([
            when(col("old").is_null())
                .then(lit("installed"))
                .when(col("new").is_null())
                .then(lit("removed"))
                .otherwise(lit("version_changed"))
                .alias("Change"),
            lit(NULL).cast(DataType::String).alias("OldValue"),
            lit(NULL).cast(DataType::String).alias("NewValue"),
        ])
        .select(OWN.map(col));
    let values = |kind: &str, name: &str| {
        let [old, new] = ["old", "new"].map(|side| col(format!("{side}_{name}")));
        both.clone()
            .filter(
                col("old")
                    .is_not_null()
                    .and(col("new").is_not_null())
                    .and(old.clone().neq_missing(new.clone())),
            )
            .with_columns([
                lit(kind).alias("Change"),
                col("SoftwareVersion").alias("OldVersion"),
                col("SoftwareVersion").alias("NewVersion"),
                old.cast(DataType::String).alias("OldValue"),
                new.cast(DataType::String).alias("NewValue"),
            ])
            .select(OWN.map(col))
    };
    Ok(vec![
        versions,
        values("weaknesses_changed", "NumberOfWeaknesses"),
        values("end_of_support_changed", "EndOfSupportStatus"),
    ])
}

/// Null equals null.
fn full_join(left: LazyFrame, right: LazyFrame, on: &[&str]) -> LazyFrame {
    left.join_builder()
        .with(right)
        .how(JoinType::Full)
        .on(on.iter().map(|name| col(*name)).collect::<Vec<_>>())
        .join_nulls(true)
        .coalesce(JoinCoalesce::CoalesceColumns)
        .finish()
}

/// Every version of `frames` with its place in the natural order; null has none and comes first.
fn version_ranks(frames: &[&DataFrame]) -> PolarsResult<DataFrame> {
    let mut versions = Vec::new();
    for frame in frames {
        let distinct = frame.column("SoftwareVersion")?.as_materialized_series().unique()?;
        versions.extend(distinct.str()?.iter().flatten().map(str::to_owned));
    }
    versions.sort_unstable_by(|one, other| version_order::compare(one, other));
    versions.dedup();
    let ranks = UInt32Chunked::from_iter_values(
        "rank".into(),
        (0..versions.len()).map(|rank| u32::try_from(rank).unwrap_or(u32::MAX)),
    );
    let versions = StringChunked::from_iter_values("SoftwareVersion".into(), versions.iter());
    DataFrame::new(versions.len(), vec![versions.into_column(), ranks.into_column()])
}
