//! Renders the page.
//!
//! Takes the page's data, gives one HTML document that asks for nothing else: its style and its script are in it, and its
//! content security policy names their hashes and forbids the rest. Reads nothing; text from the lake is escaped wherever it
//! stands.

use askama::Template;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{Days, NaiveDate};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::charts::{self, DayAxis, DayValue, Ink, Unit};
use super::data::{
    AgeBucket, Better, Breakdown, Changes, Cve, Exposure, Figure, FigureValue, Flow, Head, Note, PageData,
    Point, Product, Products, Support,
};
use super::filters;
use super::text::{age, label, number, percent, sentence_case};
use crate::display::{count, grouped};
use crate::printable::printable;

const STYLE: &str = include_str!("templates/page.css");
const SCRIPT: &str = include_str!("templates/page.js");

/// Products of a page of the table: those that the page has without its script.
const PRODUCTS_OF_A_PAGE: usize = 25;

/// Returns the page as one HTML document.
///
/// # Panics
///
/// If a template fails, which none can: they write to memory, and their filters return text.
pub fn render(page: &PageData) -> String {
    Page::new(page).render().expect("templates write to memory and fail for nothing else")
}

#[derive(Template)]
#[template(path = "page.html", config = "src/page/templates/askama.toml")]
struct Page<'a> {
    data: &'a PageData,
    csp: String,
    style: &'static str,
    script: &'static str,
    sections: Vec<(String, String)>,
    age: String,
    /// Each with the tables that it is of.
    notes: Vec<(&'a Note, String)>,
    figures: Vec<FigureView<'a>>,
    lines: Vec<Chart>,
    bars: Vec<Chart>,
    changes: Vec<ChangesView<'a>>,
    supports: Vec<SupportView<'a>>,
    exposures: Vec<ExposureView<'a>>,
    products: Vec<ProductsView<'a>>,
    breakdowns: Vec<(&'static str, &'a Breakdown)>,
}

/// A key figure.
struct FigureView<'a> {
    of: &'a Figure,
    shown: String,
    changes: Vec<Change>,
    spark: String,
}

/// How a figure differs from an older one.
struct Change {
    text: String,
    class: &'static str,
    since: Option<NaiveDate>,
}

/// A picture with its numbers.
struct Chart {
    title: String,
    legend: Vec<(&'static str, String)>,
    picture: String,
    header: Vec<String>,
    rows: Vec<(String, Vec<String>)>,
}

struct ChangesView<'a> {
    of: &'a Changes,
    /// Changes of the kind that has most.
    most: u64,
}

struct SupportView<'a> {
    of: &'a Support,
    /// Devices of what is out of support on most.
    most: u64,
    timeline: String,
}

struct ExposureView<'a> {
    of: &'a Exposure,
    columns: Vec<(String, bool)>,
    matrix: Vec<MatrixRow>,
    totals: Vec<u64>,
    total: u64,
    ages: Chart,
    cves: Vec<CveView<'a>>,
    most_devices: u64,
    most_findings: u64,
}

/// A CVE with the names of its levels.
struct CveView<'a> {
    of: &'a Cve,
    severity: String,
    ink: Ink,
    exploitability: String,
}

/// A severity: its findings by exploitability, each with the class of its shade.
struct MatrixRow {
    name: String,
    ink: Ink,
    cells: Vec<(u64, &'static str)>,
    total: u64,
}

struct ProductsView<'a> {
    of: &'a Products,
    first: &'a [Product],
    json: String,
}

impl<'a> Page<'a> {
    fn new(data: &'a PageData) -> Self {
        let days = DayAxis {
            first: data
                .figures
                .iter()
                .filter_map(|figure| figure.series.first())
                .map(|p| p.date)
                .min()
                .unwrap_or(data.head.date),
            last: data.head.date,
        };
        let breakdowns = [("Platform", &data.platforms), ("Device group", &data.groups)];
        Self {
            csp: policy(),
            style: STYLE,
            script: SCRIPT,
            sections: sections(data),
            age: age(data.head.generated_time, data.head.made_at),
            notes: notes(&data.head),
            figures: data.figures.iter().map(|figure| figure_view(figure, days)).collect(),
            lines: data
                .figures
                .iter()
                .filter(|figure| values(figure).len() > 1)
                .map(|figure| line_chart(figure, days))
                .collect(),
            bars: data
                .flows
                .iter()
                .filter(|flow| !flow.days.is_empty())
                .map(|flow| bar_chart(flow, days))
                .collect(),
            changes: data
                .changes
                .iter()
                .map(|of| ChangesView { of, most: most(&of.kinds, |kind| kind.total) })
                .collect(),
            supports: data.support.iter().map(|support| support_view(support, data.head.date)).collect(),
            exposures: data.exposure.iter().map(exposure_view).collect(),
            products: data.products.iter().map(products_view).collect(),
            breakdowns: breakdowns
                .into_iter()
                .filter_map(|(title, of)| of.as_ref().map(|of| (title, of)))
                .collect(),
            data,
        }
    }
}

/// Forbids everything but the page's own style and script.
fn policy() -> String {
    let hash = |text: &str| format!("'sha256-{}'", BASE64.encode(Sha256::digest(text)));
    format!(
        "default-src 'none'; style-src {}; script-src {}; img-src data:; base-uri 'none'; form-action 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
}

/// Returns the notes with the tables that they are of, the same note of several tables once.
fn notes(head: &Head) -> Vec<(&Note, String)> {
    let mut notes: Vec<(&Note, Vec<&str>)> = Vec::new();
    for note in &head.notes {
        let is_same = |other: &Note| match (note, other) {
            (Note::MissingDays { gaps, .. }, Note::MissingDays { gaps: others, .. }) => gaps == others,
            (Note::OneSnapshot { .. }, Note::OneSnapshot { .. }) => true,
            _ => false,
        };
        let table = match note {
            Note::MissingDays { dataset, .. } | Note::OneSnapshot { dataset } => dataset.as_str(),
            _ => "",
        };
        match notes.iter_mut().find(|(other, _)| is_same(other)) {
            Some((_, tables)) => tables.push(table),
            None => notes.push((note, vec![table])),
        }
    }
    let names = |tables: Vec<&str>| match tables.len() {
        1 => sentence_case(tables[0]),
        all if all == head.datasets.len() => "All tables".to_owned(),
        _ => tables.into_iter().map(sentence_case).collect::<Vec<_>>().join(", "),
    };
    notes.into_iter().map(|(note, tables)| (note, names(tables))).collect()
}

/// Returns the sections that the page has: anchor and title.
fn sections(data: &PageData) -> Vec<(String, String)> {
    let mut sections: Vec<(String, String)> = [
        ("figures", "Figures"),
        ("over-time", "Over time"),
        ("changes", "What changed"),
        ("support", "Out of support"),
        ("exposure", "Exposure"),
        ("products", "Products"),
    ]
    .map(|(id, title)| (id.to_owned(), title.to_owned()))
    .into();
    if data.platforms.is_some() || data.groups.is_some() {
        sections.push(("platforms".to_owned(), "Platforms and groups".to_owned()));
    }
    let named =
        |prefix: &str, index: usize, dataset: &str| (format!("{prefix}-{index}"), sentence_case(dataset));
    sections
        .extend(data.expiries.iter().enumerate().map(|(at, table)| named("expiries", at, &table.dataset)));
    sections.extend(data.risks.iter().enumerate().map(|(at, table)| named("risks", at, &table.dataset)));
    if data.devices.is_some() {
        sections.push(("devices".to_owned(), "Devices".to_owned()));
    }
    sections
}

// ---- figures ----

fn figure_view(figure: &Figure, days: DayAxis) -> FigureView<'_> {
    let shown = shown(figure.value);
    let mut changes = vec![change(figure, figure.before, "no snapshot before")];
    if figure.before.is_some() {
        changes.push(change(figure, figure.month_before, "no snapshot 30 days before"));
    }
    let history = values(figure);
    let spark = if history.len() > 1 { charts::spark(&history, days) } else { String::new() };
    FigureView { of: figure, shown, changes, spark }
}

fn change(figure: &Figure, before: Option<Point>, otherwise: &str) -> Change {
    let nothing = |text: &str| Change { text: text.to_owned(), class: "same", since: None };
    let Some(before) = before else { return nothing(otherwise) };
    let (sign, size) = match (figure.value, before.value) {
        (FigureValue::Count(new), FigureValue::Count(old)) => (new.cmp(&old), grouped(new.abs_diff(old))),
        (FigureValue::Share(Some(new)), FigureValue::Share(Some(old))) => {
            // In tenths of a point, as it is shown.
            let tenths = ((new - old) * 1000.0).round();
            let size = format!("{:.1} points", tenths.abs() / 10.0);
            (tenths.total_cmp(&0.0), size)
        }
        _ => return nothing("no share to compare"),
    };
    let is_good = match (figure.better, sign) {
        (_, std::cmp::Ordering::Equal) | (Better::Neither, _) => None,
        (Better::More, sign) => Some(sign.is_gt()),
        (Better::Less, sign) => Some(sign.is_lt()),
    };
    let text = match sign {
        std::cmp::Ordering::Less => format!("−{size}"),
        std::cmp::Ordering::Equal => "±0".to_owned(),
        std::cmp::Ordering::Greater => format!("+{size}"),
    };
    let class = is_good.map_or("same", |is_good| if is_good { "good" } else { "bad" });
    Change { text, class, since: Some(before.date) }
}

/// Returns the history of a figure without the snapshots that have no value.
fn values(figure: &Figure) -> Vec<DayValue> {
    let value = |point: &Point| match point.value {
        FigureValue::Count(count) => Some((point.date, count as f64)),
        FigureValue::Share(share) => share.map(|share| (point.date, share)),
    };
    figure.series.iter().filter_map(value).collect()
}

fn shown(value: FigureValue) -> String {
    match value {
        FigureValue::Count(count) => number(&count.to_string()),
        FigureValue::Share(Some(share)) => percent(share),
        FigureValue::Share(None) => "–".to_owned(),
    }
}

// ---- over time ----

fn line_chart(figure: &Figure, days: DayAxis) -> Chart {
    let unit = match figure.value {
        FigureValue::Count(_) => Unit::Count,
        FigureValue::Share(_) => Unit::Share,
    };
    let history = values(figure);
    let label = format!(
        "{} from {} to {}: {} at last. The numbers are in the table below.",
        figure.title,
        history.first().map_or(days.first, |(date, _)| *date),
        history.last().map_or(days.last, |(date, _)| *date),
        shown(figure.value)
    );
    Chart {
        title: figure.title.clone(),
        legend: Vec::new(),
        picture: charts::lines(&history, days, unit, &label),
        header: vec!["Date".to_owned(), figure.title.clone()],
        rows: figure
            .series
            .iter()
            .rev()
            .map(|point| (point.date.to_string(), vec![shown(point.value)]))
            .collect(),
    }
}

fn bar_chart(flow: &Flow, days: DayAxis) -> Chart {
    let dataset = sentence_case(&flow.dataset);
    let (added, removed) = (sentence_case(&flow.added), sentence_case(&flow.removed));
    let pairs: Vec<charts::Pair> = flow
        .days
        .iter()
        .map(|day| charts::Pair { date: day.date, up: day.added, down: day.removed })
        .collect();
    let sum = |of: fn(&charts::Pair) -> u64| grouped(pairs.iter().map(of).sum());
    let label = format!(
        "{dataset}: {} {} and {} {} from {} to {}. The numbers are in the table below.",
        sum(|pair| pair.up),
        flow.added,
        sum(|pair| pair.down),
        flow.removed,
        flow.days.first().map_or(days.first, |day| day.from),
        flow.days.last().map_or(days.last, |day| day.date)
    );
    Chart {
        title: dataset,
        legend: vec![(Ink::Added.class(), added.clone()), (Ink::Removed.class(), removed.clone())],
        picture: charts::bars(&pairs, days, &label),
        header: vec!["Date".to_owned(), "Since".to_owned(), added, removed],
        rows: flow
            .days
            .iter()
            .rev()
            .map(|day| {
                (day.date.to_string(), vec![day.from.to_string(), grouped(day.added), grouped(day.removed)])
            })
            .collect(),
    }
}

// ---- out of support, exposure ----

fn support_view(support: &Support, date: NaiveDate) -> SupportView<'_> {
    let mut by_day: Vec<(NaiveDate, u64)> = Vec::new();
    for end in &support.ending {
        let Some(day) = end.date else { continue };
        match by_day.last_mut() {
            Some((last, devices)) if *last == day => *devices += end.devices,
            _ => by_day.push((day, end.devices)),
        }
    }
    by_day.sort_unstable();
    let days = DayAxis { first: date, last: date + Days::new(u64::from(support.days_ahead)) };
    let label = format!(
        "Devices by the day that support ends, from {} to {}: {} with an end. The numbers are in the table beside it.",
        days.first,
        days.last,
        count(by_day.len() as u64, "day")
    );
    let timeline = if by_day.is_empty() { String::new() } else { charts::timeline(&by_day, days, &label) };
    SupportView { of: support, most: most(&support.ended, |end| end.devices), timeline }
}

fn exposure_view(exposure: &Exposure) -> ExposureView<'_> {
    let largest = exposure.matrix.iter().flatten().copied().max().unwrap_or(0);
    let matrix: Vec<MatrixRow> = exposure
        .matrix
        .iter()
        .enumerate()
        .map(|(at, cells)| MatrixRow {
            name: label(exposure.severities.get(at).and_then(Option::as_deref)),
            ink: rank(at),
            cells: cells.iter().map(|count| (*count, shade(*count, largest))).collect(),
            total: cells.iter().sum(),
        })
        .collect();
    let names = exposure.exploitabilities.iter().map(|name| label(name.as_deref()));
    let totals: Vec<u64> = (0..exposure.exploitabilities.len())
        .map(|at| exposure.matrix.iter().filter_map(|row| row.get(at)).sum())
        .collect();
    ExposureView {
        columns: names.zip(exposure.is_exploitable.iter().copied()).collect(),
        total: totals.iter().sum(),
        totals,
        ages: age_chart(exposure),
        cves: exposure.cves.iter().map(|cve| cve_view(exposure, cve)).collect(),
        most_devices: most(&exposure.cves, |cve| cve.devices),
        most_findings: most(&exposure.products, |product| product.findings),
        matrix,
        of: exposure,
    }
}

fn cve_view<'a>(exposure: &Exposure, cve: &'a Cve) -> CveView<'a> {
    let name = |names: &[Option<String>], at: usize| label(names.get(at).and_then(Option::as_deref));
    CveView {
        of: cve,
        severity: name(&exposure.severities, cve.severity),
        ink: rank(cve.severity),
        exploitability: name(&exposure.exploitabilities, cve.exploitability),
    }
}

fn age_chart(exposure: &Exposure) -> Chart {
    let names: Vec<String> = exposure.ages.iter().map(bucket_name).collect();
    let bars: Vec<Vec<u64>> = exposure.ages.iter().map(|bucket| bucket.by_severity.clone()).collect();
    let inks: Vec<Ink> = (0..exposure.severities.len()).map(rank).collect();
    let severities: Vec<String> = exposure.severities.iter().map(|name| label(name.as_deref())).collect();
    let header = ["Days open".to_owned()]
        .into_iter()
        .chain(severities.iter().cloned())
        .chain(["All".to_owned()])
        .collect();
    let row = |(name, parts): (&String, &Vec<u64>)| {
        let all = parts.iter().sum();
        (name.clone(), parts.iter().copied().chain([all]).map(grouped).collect())
    };
    Chart {
        title: "Open findings by days since first seen".to_owned(),
        legend: inks.iter().map(|ink| ink.class()).zip(severities).collect(),
        picture: charts::stacks(
            &bars,
            &exposure.ages.iter().map(bucket_tick).collect::<Vec<_>>(),
            &inks,
            "Open findings by age and severity. The numbers are in the table below.",
        ),
        header,
        rows: names.iter().zip(&bars).map(row).collect(),
    }
}

/// Returns the label of a bar, which has little room.
fn bucket_tick(bucket: &AgeBucket) -> String {
    match (bucket.from_days, bucket.to_days) {
        (Some(_), Some(to)) => format!("≤ {to}"),
        _ => bucket_name(bucket),
    }
}

fn bucket_name(bucket: &AgeBucket) -> String {
    match (bucket.from_days, bucket.to_days) {
        (None, _) => "unknown".to_owned(),
        (Some(from), None) => format!("≥ {from}"),
        (Some(from), Some(to)) => format!("{from}–{to}"),
    }
}

fn rank(at: usize) -> Ink {
    Ink::Rank(u8::try_from(at).unwrap_or(u8::MAX))
}

/// Returns the class of a cell's shade: by orders of magnitude, as few criticals would not show among many lows.
fn shade(count: u64, most: u64) -> &'static str {
    if count == 0 {
        return "q0";
    }
    let share = (count as f64 + 1.0).ln() / (most as f64 + 1.0).ln();
    match share {
        ..=0.25 => "q1",
        ..=0.5 => "q2",
        ..=0.75 => "q3",
        _ => "q4",
    }
}

fn most<T>(things: &[T], of: impl Fn(&T) -> u64) -> u64 {
    things.iter().map(of).max().unwrap_or(0)
}

// ---- products ----

fn products_view(products: &Products) -> ProductsView<'_> {
    let first = &products.products[..products.products.len().min(PRODUCTS_OF_A_PAGE)];
    ProductsView { of: products, first, json: products_json(products) }
}

/// Returns what the script shows: JSON that can stand in a `<script>`.
fn products_json(products: &Products) -> String {
    let text = |value: &Option<String>| value.as_deref().map_or(Value::Null, |text| json!(printable(text)));
    let texts = |values: &[Option<String>]| values.iter().map(text).collect::<Vec<_>>();
    let rows: Vec<Value> = products
        .products
        .iter()
        .map(|product| {
            let detail = product.detail.as_ref().map(|detail| {
                let versions: Vec<_> =
                    detail.versions.iter().map(|(name, devices)| json!([text(name), devices])).collect();
                json!([versions, detail.platforms, detail.groups])
            });
            json!([
                texts(&product.name),
                product.devices,
                product.installations,
                product.num_versions,
                product.weaknesses,
                product.ended,
                detail
            ])
        })
        .collect();
    let data = json!({
        "platforms": texts(&products.platforms),
        "groups": texts(&products.groups),
        "weaknesses": products.has_weaknesses,
        "support": products.has_support,
        "rows": rows,
    });
    data.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

#[cfg(test)]
mod tests {
    use super::super::sample::sample;
    use super::*;

    #[test]
    fn page_asks_for_nothing_and_escapes_everything() {
        let html = render(&sample());
        let scripts: Vec<&str> = html.match_indices("<script").map(|(at, _)| &html[at..at + 32]).collect();
        assert_eq!(scripts, ["<script>'use strict';\n// Sorting", "<script type=\"application/json\" "]);
        assert!(!html.contains("alert(1)</script>") && html.contains("&#60;script&#62;alert(1)"));
        assert!(!html.contains("src=") && !html.contains("url(") && !html.contains("@import"));
        assert!(html.contains("script-src &#39;sha256-"), "{}", &html[..600]);
    }

    #[test]
    fn figures_are_data_elements() {
        let page = sample();
        let html = render(&page);
        for figure in &page.figures {
            let element = format!("<data data-figure=\"{}\" value=\"{}\">", figure.name, figure.raw());
            assert_eq!(html.matches(&element).count(), 1, "{element}");
        }
        assert!(html.contains(">1,311,907</data>"));
    }

    #[test]
    fn products_of_the_script_are_all_of_them() {
        let page = sample();
        let json = products_json(&page.products[0]);
        assert!(!json.contains('<'));
        let data: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(data["rows"].as_array().unwrap().len(), page.products[0].products.len());
        assert_eq!(data["rows"][1][0][1], "</script><script>alert(1)</script>");
    }

    #[test]
    fn sections_without_anything_are_sentences() {
        let mut page = sample();
        page.flows.clear();
        page.changes.clear();
        page.support.clear();
        page.exposure.clear();
        page.products.clear();
        page.expiries[0].items.clear();
        page.risks[0].items.clear();
        (page.platforms, page.groups, page.devices) = (None, None, None);
        page.head.notes.clear();
        for figure in &mut page.figures {
            figure.series.truncate(1);
            (figure.before, figure.month_before) = (None, None);
        }
        let html = render(&page);
        for sentence in [
            "The history holds one snapshot",
            "There is no older snapshot",
            "The lake has no table that says when support ends.",
            "The lake has no table of vulnerabilities.",
            "The lake has no table of products.",
            "None expires in the next 90 days.",
            "None has a high risk.",
            "no snapshot before",
        ] {
            assert!(html.contains(sentence), "{sentence}");
        }
        assert!(!html.contains("id=\"platforms\"") && !html.contains("class=\"notes\""));
    }
}
