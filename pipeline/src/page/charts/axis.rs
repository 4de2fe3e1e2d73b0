//! Axes: where ticks stand and what they are called.
//!
//! Takes the least and the greatest value, or the first and the last day; gives ticks at round numbers and at days that
//! leave room for their labels.

use std::ops::Range;

use chrono::{Datelike, Days, NaiveDate};
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};

use crate::page::text::number;

/// About so many ticks a chart has above its first.
const WANTED_TICKS: f64 = 4.0;
/// More are never drawn.
const MAX_TICKS: u32 = 12;

/// The days of a chart, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayAxis {
    /// The first.
    pub first: NaiveDate,
    /// The last.
    pub last: NaiveDate,
}

impl DayAxis {
    pub(super) fn position(self, date: NaiveDate) -> f64 {
        (date - self.first).num_days() as f64
    }

    pub(super) fn span(self) -> i64 {
        (self.last - self.first).num_days()
    }
}

/// What the numbers of an axis are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Counts of things.
    Count,
    /// Shares from 0 to 1.
    Share,
}

impl Unit {
    /// Returns what a change of nothing is drawn within.
    fn least_range(self) -> f64 {
        match self {
            Self::Count => 1.0,
            Self::Share => 0.01,
        }
    }

    fn least_step(self) -> f64 {
        match self {
            Self::Count => 1.0,
            Self::Share => 0.001,
        }
    }
}

/// An axis of plotters with ticks of our own.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// From the first value to the last.
    pub range: Range<f64>,
    /// Where a tick and its label stand.
    pub ticks: Vec<f64>,
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    #[expect(clippy::cast_possible_truncation, reason = "a place in a picture of a few thousand units")]
    fn map(&self, value: &f64, (first, last): (i32, i32)) -> i32 {
        let share = (value - self.range.start) / (self.range.end - self.range.start);
        first + (share * f64::from(last - first)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

/// An axis of numbers from one round number to another.
#[derive(Debug, Clone, PartialEq)]
pub struct Scale {
    ticks: Vec<f64>,
    step: f64,
    unit: Unit,
}

impl Scale {
    /// Returns an axis that holds the values and need not hold zero.
    pub fn around(min: f64, max: f64, unit: Unit) -> Self {
        let (min, max) = if min > max { (0.0, 0.0) } else { (min, max) };
        let least = unit.least_range();
        let (min, max) = if max - min < least { ((min - least).max(0.0), max + least) } else { (min, max) };
        Self::new(min, max, unit)
    }

    /// Returns an axis of counts from or through zero.
    pub fn from_zero(min: f64, max: f64) -> Self {
        let max = if min < 0.0 { max.max(0.0) } else { max.max(1.0) };
        Self::new(min.min(0.0), max, Unit::Count)
    }

    fn new(min: f64, max: f64, unit: Unit) -> Self {
        let rough = (max - min) / WANTED_TICKS;
        let power = 10_f64.powf(rough.log10().floor());
        let factor =
            [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= rough * 0.999).unwrap_or(10.0);
        let step = (factor * power).max(unit.least_step());
        let first = (min / step).floor() * step;
        let at = |index: u32| first + step * f64::from(index);
        // Until one is not below the greatest value.
        let num_steps = (1..=MAX_TICKS).find(|index| at(*index) >= max - step * 1e-6);
        Self { ticks: (0..=num_steps.unwrap_or(MAX_TICKS)).map(at).collect(), step, unit }
    }

    /// From the first tick to the last.
    pub fn range(&self) -> Range<f64> {
        self.ticks[0]..self.ticks[self.ticks.len() - 1]
    }

    /// Returns the axis with its ticks.
    pub fn axis(&self) -> Axis {
        Axis { range: self.range(), ticks: self.ticks.clone() }
    }

    /// Returns a tick's label: as short as tells it from the next one. What went has no minus.
    pub fn label(&self, value: f64) -> String {
        let value = value.abs();
        let Range { start, end } = self.range();
        let largest = end.max(-start);
        let (unit, suffix) = match self.unit {
            Unit::Share => (0.01, " %"),
            Unit::Count if largest >= 1e6 => (1e6, "M"),
            Unit::Count if largest >= 1e4 => (1e3, "k"),
            Unit::Count => return number(&format!("{value:.0}")),
        };
        if value < self.step / 2.0 {
            return if self.unit == Unit::Share { "0 %".to_owned() } else { "0".to_owned() };
        }
        // So many decimals as the steps have.
        let is_whole = |power: &f64| {
            let shown = self.step / unit * power;
            (shown - shown.round()).abs() < 1e-6
        };
        let decimals = [1.0, 10.0, 100.0, 1000.0].iter().position(is_whole).unwrap_or(4);
        format!("{:.decimals$}{suffix}", value / unit)
    }
}

/// Returns the days that have a label, and whether a label is a month.
pub fn day_ticks(days: DayAxis) -> (Vec<NaiveDate>, bool) {
    let span = days.span();
    if span > 130 {
        let months = months_between(days.first, days.last);
        // The labels need room at both ends.
        let margin = span / 20;
        let step = months.len().div_ceil(5).max(1);
        let is_inside = |date: &NaiveDate| {
            (*date - days.first).num_days() >= margin && (days.last - *date).num_days() >= margin
        };
        return (months.into_iter().filter(is_inside).step_by(step).collect(), true);
    }
    let step = [1, 2, 7, 14, 28, 35].into_iter().find(|step| span / step <= 4).unwrap_or(35);
    // In the middle, so that no label stands over an edge.
    let start = if span < 2 { 0 } else { (span - (span - span / 8) / step * step) / 2 };
    let ticks = (0..).map(|index| start + index * step).take_while(|at| *at <= span - start.min(span / 16));
    (ticks.map(|at| days.first + Days::new(at.unsigned_abs())).collect(), false)
}

/// Returns the firsts of months from the first day to the last.
fn months_between(first: NaiveDate, last: NaiveDate) -> Vec<NaiveDate> {
    let mut month = first.with_day(1).unwrap_or(first);
    let mut months = Vec::new();
    while month <= last {
        months.push(month);
        let Some(next) = month.checked_add_months(chrono::Months::new(1)) else { break };
        month = next;
    }
    months
}
