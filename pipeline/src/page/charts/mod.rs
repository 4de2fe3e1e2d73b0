//! Charts: SVG pictures drawn by plotters and coloured by the page's style sheet.
//!
//! Takes numbers and days, gives SVG elements for the page. Their numbers stand in a table beside them; a picture never
//! holds text from the lake.

mod axis;
mod svg;

use std::fmt::Write as _;

use chrono::NaiveDate;
use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{Circle, PathElement, Rectangle};
use plotters::series::LineSeries;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, IntoFont, TextStyle};

use self::axis::{Axis, Scale, day_ticks};
pub use self::axis::{DayAxis, Unit};
pub use self::svg::Ink;
use self::svg::{LABEL_SIZE, Svg, TENTHS};

/// Size of a chart in pixels of its own; the page scales it.
const CHART: (u32, u32) = (380, 168);
/// Size of a line without axes.
const SPARK: (u32, u32) = (120, 28);
/// Room for the labels of the axes.
const LEFT: u32 = 48;
const BOTTOM: u32 = 20;

/// A value of a day.
pub type DayValue = (NaiveDate, f64);

/// Splits a history where days are missing: at steps longer than its usual one.
fn runs(values: &[DayValue]) -> Vec<&[DayValue]> {
    let step = |pair: &[DayValue]| (pair[1].0 - pair[0].0).num_days();
    let mut steps: Vec<i64> = values.windows(2).map(step).collect();
    steps.sort_unstable();
    let usual = steps.get(steps.len() / 2).copied().unwrap_or(1).max(1);
    values.chunk_by(|a, b| (b.0 - a.0).num_days() <= usual).collect()
}

/// Returns a line over days; days without a value are a gap.
pub fn lines(values: &[DayValue], days: DayAxis, unit: Unit, label: &str) -> String {
    let (min, max) =
        values.iter().fold((f64::MAX, f64::MIN), |(min, max), (_, v)| (min.min(*v), max.max(*v)));
    let y = Scale::around(min, max, unit);
    draw(CHART, label, |area| {
        let mut chart = day_chart(area, days, 0.0, &y)?;
        let runs = runs(values);
        gaps(&mut chart, days, &runs, &y)?;
        for run in runs {
            let points = run.iter().map(|(date, value)| (days.position(*date), *value));
            if run.len() == 1 {
                chart.draw_series(points.map(|at| Circle::new(at, 15, Ink::Line.filled())))?;
            } else {
                chart.draw_series(LineSeries::new(points, Ink::Line.stroked()))?;
            }
        }
        if let Some((date, value)) = values.last() {
            let end = Circle::new((days.position(*date), *value), 28, Ink::Line.filled());
            chart.draw_series(std::iter::once(end))?;
        }
        Ok(())
    })
}

/// Returns a line without axes.
pub fn spark(values: &[DayValue], days: DayAxis) -> String {
    let (min, max) =
        values.iter().fold((f64::MAX, f64::MIN), |(min, max), (_, v)| (min.min(*v), max.max(*v)));
    let room = if max > min { (max - min) * 0.12 } else { 1.0 };
    let last = days.span().max(1) as f64;
    draw(SPARK, "", |area| {
        let mut chart =
            ChartBuilder::on(area).margin_right(30).build_cartesian_2d(0.0..last, min - room..max + room)?;
        for run in runs(values) {
            let mut points: Vec<_> = run.iter().map(|(date, value)| (days.position(*date), *value)).collect();
            if let [(at, value)] = points[..] {
                // A line with round ends and no length: a circle would be stretched.
                points.push((at + last * 0.002, value));
            }
            chart.draw_series(LineSeries::new(points, Ink::Line.stroked()))?;
        }
        Ok(())
    })
}

/// What came and what went on a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// The day.
    pub date: NaiveDate,
    /// What came.
    pub up: u64,
    /// What went.
    pub down: u64,
}

/// Returns bars of what came, upwards, and what went, downwards; a day without a snapshot is a gap.
pub fn bars(pairs: &[Pair], days: DayAxis, label: &str) -> String {
    let up = pairs.iter().map(|pair| pair.up).max().unwrap_or(0) as f64;
    let down = pairs.iter().map(|pair| pair.down).max().unwrap_or(0) as f64;
    let y = Scale::from_zero(-down, up);
    draw(CHART, label, |area| {
        let mut chart = day_chart(area, days, 0.5, &y)?;
        let values: Vec<DayValue> = pairs.iter().map(|pair| (pair.date, 0.0)).collect();
        gaps(&mut chart, days, &runs(&values), &y)?;
        for (is_up, ink) in [(true, Ink::Added), (false, Ink::Removed)] {
            chart.draw_series(pairs.iter().filter_map(|pair| {
                let height = if is_up { pair.up as f64 } else { -(pair.down as f64) };
                let at = days.position(pair.date);
                (height != 0.0).then(|| Rectangle::new([(at - 0.4, 0.0), (at + 0.4, height)], ink.filled()))
            }))?;
        }
        zero_line(&mut chart, days)?;
        Ok(())
    })
}

/// Returns bars at the days of a time to come.
pub fn timeline(values: &[(NaiveDate, u64)], days: DayAxis, label: &str) -> String {
    let y = Scale::from_zero(0.0, values.iter().map(|(_, value)| *value).max().unwrap_or(0) as f64);
    draw(CHART, label, |area| {
        let mut chart = day_chart(area, days, 1.0, &y)?;
        chart.draw_series(values.iter().map(|(date, value)| {
            let at = days.position(*date);
            Rectangle::new([(at - 0.8, 0.0), (at + 0.8, *value as f64)], Ink::Line.filled())
        }))?;
        zero_line(&mut chart, days)?;
        Ok(())
    })
}

/// Returns bars with parts upon each other, a bar each of `names`; parts are coloured by rank.
pub fn stacks(bars: &[Vec<u64>], names: &[String], inks: &[Ink], label: &str) -> String {
    let highest = bars.iter().map(|parts| parts.iter().sum::<u64>()).max().unwrap_or(0);
    let y = Scale::from_zero(0.0, highest as f64);
    draw(CHART, label, |area| {
        let x = Axis {
            range: -0.5..bars.len() as f64 - 0.5,
            ticks: (0..bars.len()).map(|at| at as f64).collect(),
        };
        let is_at = |index: usize, at: f64| (index as f64 - at).abs() < 0.5;
        let name = |at: &f64| {
            (0..)
                .zip(names)
                .find(|(index, _)| is_at(*index, *at))
                .map(|(_, name)| name.clone())
                .unwrap_or_default()
        };
        let mut chart = ChartBuilder::on(area)
            .margin_top(60)
            .margin_right(40)
            .x_label_area_size(BOTTOM * TENTHS)
            .y_label_area_size(LEFT * TENTHS)
            .build_cartesian_2d(x, y.axis())?;
        mesh(&mut chart, &name, &|value| y.label(*value))?;
        for (at, parts) in bars.iter().enumerate() {
            let mut from = 0;
            for (part, ink) in parts.iter().zip(inks).rev().filter(|(part, _)| **part > 0) {
                let corners = [(at as f64 - 0.36, from as f64), (at as f64 + 0.36, (from + part) as f64)];
                chart.draw_series(std::iter::once(Rectangle::new(corners, ink.filled())))?;
                from += part;
            }
        }
        Ok(())
    })
}

/// Returns a bar of a share from 0 to 1, for a cell of a table.
pub fn share_bar(share: f64) -> String {
    parts_bar(&[(share, Ink::Line)])
}

/// Returns a bar of parts beside each other, shares of its width, for a cell of a table.
pub fn parts_bar(parts: &[(f64, Ink)]) -> String {
    let tenths = |share: f64| (share.clamp(0.0, 1.0) * 1000.0).round() / 10.0;
    let mut svg =
        "<svg class=\"bar\" viewBox=\"0 0 100 8\" preserveAspectRatio=\"none\" aria-hidden=\"true\">"
            .to_owned();
    let mut from = 0.0;
    for (share, ink) in parts {
        let (x, width, class) = (tenths(from), tenths(*share), ink.class());
        let _ = write!(svg, "<rect class=\"{class}\" x=\"{x}\" width=\"{width}\" height=\"8\"/>");
        from += share;
    }
    svg.push_str("</svg>");
    svg
}

type Area<'a> = DrawingArea<Svg<'a>, Shift>;
type Fallible<T = ()> = Result<T, Box<dyn std::error::Error>>;
type AxesChart<'a, 'b> = ChartContext<'b, Svg<'a>, Cartesian2d<Axis, Axis>>;

fn draw((width, height): (u32, u32), label: &str, draw: impl FnOnce(&Area<'_>) -> Fallible) -> String {
    let role = if label.is_empty() {
        "aria-hidden=\"true\" preserveAspectRatio=\"none\"".to_owned()
    } else {
        format!("role=\"img\" aria-label=\"{}\"", svg::escaped(label))
    };
    let mut out =
        format!("<svg class=\"chart\" viewBox=\"0 0 {} {}\" {role}>", width * TENTHS, height * TENTHS);
    draw(&Svg::new(&mut out, (width, height)).into_drawing_area())
        .expect("a picture in memory has room and no errors");
    out + "</svg>"
}

/// Begins a chart over days, with `room` of a day at both ends, and draws its axes.
fn day_chart<'a, 'b>(area: &Area<'a>, days: DayAxis, room: f64, y: &Scale) -> Fallible<AxesChart<'a, 'b>> {
    let room = if days.span() == 0 { 1.0 } else { room };
    let (ticks, is_month) = day_ticks(days);
    let x = Axis {
        range: -room..days.span() as f64 + room,
        ticks: ticks.iter().map(|day| days.position(*day)).collect(),
    };
    let mut chart = ChartBuilder::on(area)
        .margin_top(60)
        .margin_right(60)
        .x_label_area_size(BOTTOM * TENTHS)
        .y_label_area_size(LEFT * TENTHS)
        .build_cartesian_2d(x, y.axis())?;
    let format = if is_month { "%Y-%m" } else { "%Y-%m-%d" };
    let is_at = |day: NaiveDate, at: f64| (days.position(day) - at).abs() < 0.5;
    let day = |at: &f64| {
        ticks
            .iter()
            .find(|day| is_at(**day, *at))
            .map(|day| day.format(format).to_string())
            .unwrap_or_default()
    };
    mesh(&mut chart, &day, &|value| y.label(*value))?;
    Ok(chart)
}

fn mesh(chart: &mut AxesChart<'_, '_>, x: &dyn Fn(&f64) -> String, y: &dyn Fn(&f64) -> String) -> Fallible {
    let color = Ink::Label.color();
    let label = |h_pos, v_pos| {
        TextStyle::from(("sans-serif", LABEL_SIZE).into_font()).color(&color).pos(Pos::new(h_pos, v_pos))
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .axis_style(Color::mix(&Ink::Grid.color(), 0.0))
        .set_all_tick_mark_size(25)
        .x_labels(8)
        .y_labels(8)
        .max_light_lines(0)
        .bold_line_style(Ink::Grid.stroked())
        .x_label_style(label(HPos::Center, VPos::Top))
        .y_label_style(label(HPos::Right, VPos::Center))
        .x_label_formatter(x)
        .y_label_formatter(y)
        .draw()?;
    Ok(())
}

/// Shades the days between runs.
fn gaps(chart: &mut AxesChart<'_, '_>, days: DayAxis, runs: &[&[DayValue]], y: &Scale) -> Fallible {
    let range = y.range();
    chart.draw_series(runs.windows(2).filter_map(|pair| {
        let (from, to) = (pair[0].last()?.0, pair[1].first()?.0);
        let corners = [(days.position(from) + 0.5, range.start), (days.position(to) - 0.5, range.end)];
        Some(Rectangle::new(corners, Ink::Gap.filled()))
    }))?;
    Ok(())
}

fn zero_line(chart: &mut AxesChart<'_, '_>, days: DayAxis) -> Fallible {
    let ends = vec![(-1.0, 0.0), (days.span() as f64 + 1.0, 0.0)];
    chart.draw_series(std::iter::once(PathElement::new(ends, Ink::Label.stroked())))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn values(days: &[u64]) -> Vec<DayValue> {
        let first = day("2021-01-11");
        days.iter().map(|at| (first + chrono::Days::new(*at), 100.0 + *at as f64)).collect()
    }

    fn num_runs(days: &[u64]) -> usize {
        runs(&values(days)).len()
    }

    #[test]
    fn missing_days_are_gaps() {
        assert_eq!(num_runs(&[0, 1, 2, 3]), 1);
        assert_eq!(num_runs(&[0, 1, 2, 5, 6]), 2);
        // A week between snapshots is no gap if it always is one.
        assert_eq!(num_runs(&[0, 7, 14, 21]), 1);
        assert_eq!(num_runs(&[0, 7, 14, 28]), 2);
        assert_eq!(num_runs(&[]), 0);
    }

    #[test]
    fn lines_have_gaps_and_labels() {
        let days = DayAxis { first: day("2021-01-11"), last: day("2021-01-21") };
        let svg = lines(&values(&[0, 1, 2, 8, 9, 10]), days, Unit::Count, "a <b> of \"c\"");
        assert_eq!(svg.matches("class=\"line stroke\"").count(), 2, "{svg}");
        assert_eq!(svg.matches("class=\"gap\"").count(), 1, "{svg}");
        assert!(svg.contains(">2021-01-1"), "{svg}");
        assert!(svg.contains(">105<") && svg.contains(">110<"), "{svg}");
        assert!(!svg.contains("<b>") && svg.contains("role=\"img\""), "{svg}");
    }

    #[test]
    fn few_and_equal_values_are_drawn() {
        let days = DayAxis { first: day("2021-01-11"), last: day("2021-01-11") };
        for svg in [
            lines(&values(&[0]), days, Unit::Count, "one"),
            lines(&[(day("2021-01-11"), 0.0)], days, Unit::Share, "nothing"),
            lines(&[], days, Unit::Count, "none"),
            bars(&[Pair { date: day("2021-01-11"), up: 0, down: 0 }], days, "no change"),
            timeline(&[(day("2021-01-11"), 1)], days, "one"),
            stacks(&[vec![0, 0]], &["0".to_owned()], &[Ink::Rank(0), Ink::Rank(1)], "nothing"),
            spark(&values(&[0, 1]), days),
        ] {
            assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>") && !svg.contains("NaN"), "{svg}");
        }
    }

    #[test]
    fn numbers_of_an_axis_are_round() {
        let check = |scale: Scale, expected: &[&str]| {
            let labels: Vec<String> = scale.axis().ticks.iter().map(|tick| scale.label(*tick)).collect();
            assert_eq!(labels, expected);
        };
        check(Scale::from_zero(0.0, 7.0), &["0", "2", "4", "6", "8"]);
        check(Scale::from_zero(-900.0, 1800.0), &["1,000", "0", "1,000", "2,000"]);
        check(
            Scale::around(1_310_000.0, 1_318_000.0, Unit::Count),
            &["1.310M", "1.312M", "1.314M", "1.316M", "1.318M"],
        );
        check(Scale::around(0.75, 0.81, Unit::Share), &["74 %", "76 %", "78 %", "80 %", "82 %"]);
        check(Scale::around(5.0, 5.0, Unit::Count), &["4", "5", "6"]);
    }

    #[test]
    fn days_of_an_axis_leave_room() {
        for span in 0..800 {
            let first = day("2021-01-11");
            let days = DayAxis { first, last: first + chrono::Days::new(span) };
            let (ticks, is_month) = day_ticks(days);
            assert!(!ticks.is_empty() && ticks.len() <= 6, "{span}: {ticks:?}");
            assert!(ticks.iter().all(|tick| (days.first..=days.last).contains(tick)), "{span}: {ticks:?}");
            assert_eq!(is_month, span > 130, "{span}");
        }
    }
}
