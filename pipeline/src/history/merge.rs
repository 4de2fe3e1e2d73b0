//! Compares the rows of products that could have changed: what is in one snapshot alone, and what has
//! other values in both.

use polars::prelude::*;

use super::roles::{CHANGE, NEW_VALUE, NEW_VERSION, OLD_VALUE, OLD_VERSION, Roles};
use super::version_order;

/// Column with the version, null if the dataset's products have none.
const VERSION: &str = "version";

/// The columns that every kind of change has for itself.
pub(super) fn own_columns(roles: Roles) -> Vec<&'static str> {
    let mut columns = vec![CHANGE];
    columns.extend(roles.product_columns());
    columns.extend([OLD_VERSION, NEW_VERSION, OLD_VALUE, NEW_VALUE]);
    columns
}

fn columns(names: &[&'static str]) -> Vec<Expr> {
    names.iter().map(|name| col(*name)).collect()
}

/// Compares products: those in one snapshot only, paired if they are versions of one product
/// on one device, and the values of those in both.
pub(super) fn product_changes(roles: Roles, old: DataFrame, new: DataFrame) -> PolarsResult<Vec<LazyFrame>> {
    let ranks = version_ranks(roles, &[&old, &new])?;
    let product = roles.product_columns();
    let key: Vec<_> = product.iter().copied().chain([VERSION]).collect();
    let products = |rows: DataFrame, side: &str| {
        let version = roles.version.map_or_else(|| lit(NULL).cast(DataType::String), col);
        let renamed = |name: &str| col(name).max().alias(format!("{side}_{name}"));
        let values: Vec<_> = roles.compared.iter().map(|compared| renamed(compared.column)).collect();
        rows.lazy()
            .with_column(version.alias(VERSION))
            .group_by(columns(&key))
            .agg(values)
            .with_column(lit(true).alias(side))
    };
    let both = full_join(products(old, "old"), products(new, "new"), &key)
        .join(ranks.lazy(), [col(VERSION)], [col(VERSION)], JoinArgs::new(JoinType::Left))
        .collect()?
        .lazy();

    let index = int_range(lit(0), len(), 1, DataType::UInt32).over(columns(&product))?.alias("index");
    let only = |side: &str, other: &str, version: &str| {
        let mut selected = columns(&product);
        selected.extend([index.clone(), col(VERSION).alias(version), col(side)]);
        both.clone()
            .filter(col(other).is_null())
            .sort(product.iter().copied().chain(["rank"]).collect::<Vec<_>>(), SortMultipleOptions::default())
            .select(selected)
    };
    let place: Vec<_> = product.iter().copied().chain(["index"]).collect();
    let own = columns(&own_columns(roles));
    let versions = full_join(only("old", "new", OLD_VERSION), only("new", "old", NEW_VERSION), &place)
        .with_columns([
            when(col("old").is_null())
                .then(lit(roles.words.added))
                .when(col("new").is_null())
                .then(lit(roles.words.removed))
                .otherwise(lit(roles.words.version_changed))
                .alias(CHANGE),
            lit(NULL).cast(DataType::String).alias(OLD_VALUE),
            lit(NULL).cast(DataType::String).alias(NEW_VALUE),
        ])
        .select(own.clone());
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
                lit(kind).alias(CHANGE),
                col(VERSION).alias(OLD_VERSION),
                col(VERSION).alias(NEW_VERSION),
                old.cast(DataType::String).alias(OLD_VALUE),
                new.cast(DataType::String).alias(NEW_VALUE),
            ])
            .select(own.clone())
    };
    let mut changes = vec![versions];
    changes.extend(roles.compared.iter().map(|compared| values(compared.kind, compared.column)));
    Ok(changes)
}

/// Null equals null.
fn full_join(left: LazyFrame, right: LazyFrame, on: &[&'static str]) -> LazyFrame {
    left.join_builder()
        .with(right)
        .how(JoinType::Full)
        .on(columns(on))
        .join_nulls(true)
        .coalesce(JoinCoalesce::CoalesceColumns)
        .finish()
}

/// Returns every version of `frames` with its position in the natural order; null has none and comes first.
fn version_ranks(roles: Roles, frames: &[&DataFrame]) -> PolarsResult<DataFrame> {
    let mut versions = Vec::new();
    for (frame, column) in frames.iter().filter_map(|frame| Some((frame, roles.version?))) {
        let distinct = frame.column(column)?.as_materialized_series().unique()?;
        versions.extend(distinct.str()?.iter().flatten().map(str::to_owned));
    }
    versions.sort_unstable_by(|one, other| version_order::compare(one, other));
    versions.dedup();
    let ranks = UInt32Chunked::from_iter_values(
        "rank".into(),
        (0..versions.len()).map(|rank| u32::try_from(rank).unwrap_or(u32::MAX)),
    );
    let versions = StringChunked::from_iter_values(VERSION.into(), versions.iter());
    DataFrame::new(versions.len(), vec![versions.into_column(), ranks.into_column()])
}
