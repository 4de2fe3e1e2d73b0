//! The measures of a row group as a whole, from dictionaries and codes instead of rows.
//!
//! Takes a row group; gives each measure's count, or its distinct values by their numbers. Gives nothing if a column is
//! not encoded for it or a measure needs rows: they are counted by [`super::counts`] then, with the same result.

use hashbrown::HashSet;
use schema::Counted;

use super::HistoryError;
use super::numbers::Numbers;
use super::roles::Roles;
use super::rows::RowGroup;

/// A measure of a row group.
#[derive(Debug)]
pub enum RowGroupFigure {
    Count(i64),
    /// The numbers of distinct values.
    Distinct(Vec<u32>),
}

/// Calls `give` with each device of a row group that this program wrote, and returns whether the row group told them.
///
/// # Errors
///
/// The file cannot be read.
pub fn for_each_device(
    roles: Roles,
    row_group: &RowGroup<'_>,
    mut give: impl FnMut(Option<&str>),
) -> Result<bool, HistoryError> {
    let Some(chunk) = row_group.chunk(roles.device)? else { return Ok(false) };
    let ids = row_group.checked(chunk.texts())?;
    for id in ids {
        give(Some(id));
    }
    if chunk.num_nulls() > 0 {
        give(None);
    }
    Ok(true)
}

/// Returns the measures in their order, those of distinct values by `numbers`.
///
/// # Errors
///
/// The file cannot be read.
pub fn figures<'n>(
    roles: Roles,
    row_group: &RowGroup<'_>,
    numbers: impl Fn(usize) -> &'n Numbers,
) -> Result<Option<Vec<RowGroupFigure>>, HistoryError> {
    if roles.only_with.is_some() {
        return Ok(None);
    }
    let mut figures = Vec::new();
    for (index, measure) in roles.measures.iter().enumerate() {
        let figure = match measure.counted {
            Counted::Rows => Some(RowGroupFigure::Count(row_group.num_rows())),
            Counted::Share { .. } => Some(RowGroupFigure::Count(0)),
            Counted::Sum(column) => sum(row_group, column)?.map(RowGroupFigure::Count),
            Counted::Status => status(roles, row_group)?.map(RowGroupFigure::Count),
            Counted::Products | Counted::Distinct(_) => {
                let columns = roles.distinct_columns(measure.counted);
                distinct(row_group, columns, numbers(index), measure.counted == Counted::Products)?
                    .map(RowGroupFigure::Distinct)
            }
            Counted::Where(_) => None,
        };
        let Some(figure) = figure else { return Ok(None) };
        figures.push(figure);
    }
    Ok(Some(figures))
}

fn sum(row_group: &RowGroup<'_>, column: &str) -> Result<Option<i64>, HistoryError> {
    let Some(mut chunk) = row_group.chunk(column)? else { return Ok(None) };
    let numbers = match row_group.integer_bytes(column) {
        Some(4) => chunk.integers(|bytes| i32::from_le_bytes(bytes).into()),
        Some(8) => chunk.integers(i64::from_le_bytes),
        _ => return Ok(None),
    };
    let numbers = row_group.checked(numbers)?;
    let times = row_group.checked(chunk.occurrences())?;
    Ok(Some(numbers.iter().zip(times).map(|(number, times)| number * times.cast_signed()).sum()))
}

fn status(roles: Roles, row_group: &RowGroup<'_>) -> Result<Option<i64>, HistoryError> {
    let Some(status) = roles.status else { return Ok(Some(0)) };
    let Some(mut chunk) = row_group.chunk(status.column)? else { return Ok(None) };
    let times = row_group.checked(chunk.occurrences())?;
    let texts = row_group.checked(chunk.texts())?;
    let counted = texts.iter().zip(times).filter(|(text, _)| text.starts_with(status.prefix));
    Ok(Some(counted.map(|(_, times)| times.cast_signed()).sum()))
}

/// Returns the numbers of the distinct values of two columns, if one of them is not null or the measure `takes_nulls`.
fn distinct(
    row_group: &RowGroup<'_>,
    columns: &[&'static str],
    numbers: &Numbers,
    takes_nulls: bool,
) -> Result<Option<Vec<u32>>, HistoryError> {
    let [first, second] = columns else { return Ok(None) };
    let (Some(mut first), Some(mut second)) = (row_group.chunk(first)?, row_group.chunk(second)?) else {
        return Ok(None);
    };
    let mut first_codes = Vec::new();
    let read = first.for_each_code(|code, times| first_codes.resize(first_codes.len() + times, code));
    row_group.checked(read)?;
    // Mostly a second value has the same first one wherever it occurs.
    let mut last_first = vec![u32::MAX; second.num_entries() + 1];
    let mut pairs = HashSet::<(u32, u32), foldhash::quality::FixedState>::default();
    let mut row = 0;
    let read = second.for_each_code(|code, times| {
        for first in first_codes.iter().skip(row).take(times) {
            if std::mem::replace(&mut last_first[code as usize], *first) != *first {
                pairs.insert((*first, code));
            }
        }
        row += times;
    });
    row_group.checked(read)?;
    let (firsts, seconds) = (row_group.checked(first.texts())?, row_group.checked(second.texts())?);
    let values = |(first, second): (u32, u32)| {
        [firsts.get(first as usize).copied(), seconds.get(second as usize).copied()]
    };
    let counted = pairs.into_iter().map(values).filter(|pair| takes_nulls || *pair != [None, None]);
    Ok(Some(counted.map(|pair| numbers.of(&pair)).collect()))
}
