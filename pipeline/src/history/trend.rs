//! Key counts over time: the measures of every snapshot in a range.
//!
//! Takes published snapshots and reads one at a time, within a budget for memory;
//! gives a frame with a row for each snapshot, or for each snapshot and value of what is asked by.
//! Rows are counted as they are: a repeated key counts as often as it is repeated.

use std::collections::BTreeMap;

use polars::prelude::*;

use super::counts::{self, SnapshotCounts, Values};
use super::roles::{DEVICES, Roles};
use super::summary::FrameRows;
use super::{HistoryError, SnapshotReader};
use crate::cancel::Cancel;
use crate::display::{grouped, named, table};
use crate::lake::{PublishedSnapshot, Table};

/// What counts are grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Each platform
    Platform,
    /// Each device group
    Group,
    /// Each vendor
    Vendor,
    /// Each product, with its vendor
    Product,
}

impl By {
    /// Returns the columns to count by.
    pub fn columns(self, roles: Roles) -> Vec<&'static str> {
        match self {
            Self::Platform => roles.platform.into_iter().collect(),
            Self::Group => roles.group.into_iter().collect(),
            Self::Vendor => roles.filter_column("vendor").into_iter().collect(),
            Self::Product => roles.product.to_vec(),
        }
    }
}

/// Counts every snapshot, oldest first: its date, its generated time, the columns of `by`, and
/// [`Roles::measure_names`]. Values are ordered by their text, null first.
///
/// # Errors
///
/// A snapshot that cannot be read, or an interruption.
pub fn trend(
    table: &Table,
    snapshots: &[PublishedSnapshot],
    by: &[&'static str],
    memory_bytes: u64,
    cancel: &Cancel,
) -> Result<DataFrame, HistoryError> {
    let roles = Roles::of(table.dataset())?;
    let mut frames = Vec::new();
    for snapshot in snapshots {
        let source = SnapshotReader::open(table, snapshot, cancel)?;
        let counts = counts::count(roles, &source, by, memory_bytes, cancel)?;
        frames.push(frame(roles, &source, by, &counts)?.lazy());
    }
    Ok(concat(frames, UnionArgs::default())?.collect()?)
}

fn frame(
    roles: Roles,
    source: &SnapshotReader<'_>,
    by: &[&str],
    counts: &BTreeMap<Values, SnapshotCounts>,
) -> Result<DataFrame, HistoryError> {
    let time = Int64Chunked::full(
        roles.generated_time().into(),
        source.generated_time().timestamp_micros(),
        counts.len(),
    );
    let time = time.into_datetime(TimeUnit::Microseconds, Some(TimeZone::UTC)).into_column();
    let mut columns = vec![time.cast(&DataType::Date)?.with_name(schema::SNAPSHOT_DATE.name.into()), time];
    for (index, name) in by.iter().enumerate() {
        let values = counts.keys().map(|values| values[index].as_deref());
        columns.push(StringChunked::from_iter_options((*name).into(), values).into_column());
    }
    let mut push = |name: &str, count: &dyn Fn(&SnapshotCounts) -> i64| {
        columns.push(Int64Chunked::from_iter_values(name.into(), counts.values().map(count)).into_column());
    };
    push(DEVICES, &|counts| counts.devices);
    for (index, measure) in roles.measures.iter().enumerate() {
        push(measure.name, &|counts| counts.measures[index]);
    }
    Ok(DataFrame::new(counts.len(), columns)?)
}

/// Characters of a sparkline at most.
const MAX_SPARKS: usize = 40;

/// Returns the trend for people: all snapshots and a sparkline for each measure, or the `top` values by the
/// main measure in the newest snapshot.
///
/// # Errors
///
/// What the engine says.
pub fn text(
    roles: Roles,
    trend: &DataFrame,
    by: &[&'static str],
    top: usize,
) -> Result<String, HistoryError> {
    if by.is_empty() { overall(roles, trend) } else { by_value(roles, trend, by, top) }
}

fn overall(roles: Roles, trend: &DataFrame) -> Result<String, HistoryError> {
    let measures = roles.measure_names();
    let mut header = vec!["snapshot"];
    header.extend(&measures);
    let mut rows = Vec::new();
    let mut series = vec![Vec::new(); measures.len()];
    for row in FrameRows::of(trend) {
        let mut cells = vec![row.cell(0)?];
        for (measure, series) in series.iter_mut().enumerate() {
            let number = row.number(2 + measure)?;
            cells.push(grouped(number));
            series.push(Some(number));
        }
        rows.push(cells);
    }
    rows.push(std::iter::once(String::new()).chain(series.iter().map(|series| sparkline(series))).collect());
    Ok(table(&header, 1, rows))
}

/// The measures of one value by snapshot; `None` if a snapshot has no such rows.
type Series = Vec<Option<Vec<u64>>>;

fn by_value(
    roles: Roles,
    trend: &DataFrame,
    by: &[&'static str],
    top: usize,
) -> Result<String, HistoryError> {
    let measures = roles.measure_names();
    let main = measures.iter().position(|name| *name == roles.main_measure).expect("tests hold this");
    let first = 2 + by.len();
    let mut dates = Vec::new();
    let mut values: Vec<(Vec<String>, Series)> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for row in FrameRows::of(trend) {
        let date = row.cell(1)?;
        if dates.last() != Some(&date) {
            dates.push(date);
        }
        let value = (2..first)
            .map(|column| Ok(named(row.text(column)?.as_deref())))
            .collect::<PolarsResult<Vec<_>>>()?;
        let place = *places.entry(value.clone()).or_insert_with(|| {
            values.push((value, Vec::new()));
            values.len() - 1
        });
        let numbers =
            (first..first + measures.len()).map(|column| row.number(column)).collect::<PolarsResult<_>>()?;
        let series = &mut values[place].1;
        series.resize(dates.len() - 1, None);
        series.push(Some(numbers));
    }
    for (_, series) in &mut values {
        series.resize(dates.len(), None);
    }
    let at = |series: &[Option<Vec<u64>>], index: usize| {
        series.get(index).and_then(Option::as_ref).map_or(0, |numbers| numbers[main])
    };
    let newest = dates.len().saturating_sub(1);
    values.sort_by_key(|(_, series)| std::cmp::Reverse(at(series, newest)));
    let num_values = values.len();
    values.truncate(top);
    let mut header: Vec<_> = by.iter().map(|column| roles.label(column)).collect();
    header.extend(&measures);
    header.extend(["change", roles.main_measure]);
    let num_names = by.len();
    let rows = values.into_iter().map(|(mut cells, series)| {
        match series.last().and_then(Option::as_ref) {
            Some(numbers) => cells.extend(numbers.iter().map(|number| grouped(*number))),
            None => cells.extend(measures.iter().map(|_| "0".to_owned())),
        }
        let (before, after) = (at(&series, 0), at(&series, newest));
        let sign = if after < before { "-" } else { "+" };
        cells.push(format!("{sign}{}", grouped(after.abs_diff(before))));
        let counts: Vec<_> =
            series.iter().map(|numbers| numbers.as_ref().map(|numbers| numbers[main])).collect();
        cells.push(sparkline(&counts));
        cells
    });
    let mut text = table(&header, num_names, rows);
    if num_values > top {
        let _ = std::fmt::Write::write_fmt(
            &mut text,
            format_args!(
                "{} more; --top shows more of them, --out writes all\n",
                grouped((num_values - top) as u64)
            ),
        );
    }
    Ok(text)
}

/// Draws a sparkline between minimum and maximum, with a blank for `None`. Long series are thinned.
fn sparkline(series: &[Option<u64>]) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let least = series.iter().flatten().min().copied().unwrap_or(0);
    let spread = series.iter().flatten().max().map_or(0, |most| most - least);
    let len = series.len().min(MAX_SPARKS);
    let sparks = (0..len).map(|index| {
        // The newest value is always kept.
        let from_end = (len - 1 - index) * series.len() / len;
        match series[series.len() - 1 - from_end] {
            None => ' ',
            Some(_) if spread == 0 => BLOCKS[3],
            Some(number) => {
                let height = u128::from(number - least) * (BLOCKS.len() as u128 - 1) / u128::from(spread);
                BLOCKS[usize::try_from(height).unwrap_or(0)]
            }
        }
    });
    sparks.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparkline_spans_the_least_and_the_most() {
        let line = |series: &[u64]| sparkline(&series.iter().copied().map(Some).collect::<Vec<_>>());
        assert_eq!(line(&[0, 1, 2, 3, 4, 5, 6, 7]), "▁▂▃▄▅▆▇█");
        assert_eq!(line(&[100, 101]), "▁█");
        assert_eq!(line(&[5]), "▄");
        assert_eq!(line(&[5, 5]), "▄▄");
        assert_eq!(line(&[]), "");
        assert_eq!(sparkline(&[Some(0), None, Some(u64::MAX)]), "▁ █");
        let long: Vec<u64> = (0..1000).collect();
        assert_eq!(line(&long).chars().count(), MAX_SPARKS);
        assert!(line(&long).ends_with('█'));
    }
}
