//! A page of invented data: every section filled, a value of every kind, and names that need escaping.

use chrono::{DateTime, Days, NaiveDate, Utc};

use super::data::{
    AgeBucket, Better, Breakdown, BreakdownFigure, BreakdownRow, Changes, Cve, DatasetFacts, DayRange,
    Device, Devices, EndOfSupport, Expiries, Expiry, Exposure, Figure, FigureValue, Flow, FlowDay, Head,
    KindChanges, Note, PageData, Point, Product, ProductChanges, ProductDetail, Products, Risk, Risks,
    Support, VulnerableProduct,
};

const DATE: NaiveDate = NaiveDate::from_ymd_opt(2021, 3, 12).expect("a date");

/// Names that a page must escape, or be able to break.
const NAMES: [(&str, &str); 6] = [
    ("google", "chrome"),
    ("contoso", "</script><script>alert(1)</script>"),
    ("mozilla", "firefox & \"friends\""),
    (
        "a vendor with a name of many words that goes on and on",
        "a_product_name_without_any_place_to_break_the_line_at_all",
    ),
    ("ソフトウェア", "日本語"),
    ("microsoft", "visual_c++_2013_redistributable"),
];

fn time(text: &str) -> DateTime<Utc> {
    text.parse().expect("a time")
}

fn days_ago(days: u64) -> NaiveDate {
    DATE - Days::new(days)
}

#[expect(clippy::unnecessary_wraps, reason = "values of the lake may be null")]
fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn name(index: usize) -> Vec<Option<String>> {
    let (vendor, product) = NAMES[index % NAMES.len()];
    let number = index / NAMES.len();
    let product = if number == 0 { product.to_owned() } else { format!("{product} {number}") };
    vec![text(vendor), Some(product)]
}

fn columns() -> Vec<String> {
    vec!["vendor".to_owned(), "product".to_owned()]
}

fn figure(name: &str, title: &str, dataset: &str, better: Better, at: impl Fn(i64) -> FigureValue) -> Figure {
    // Days 20 to 24 before have no snapshot.
    let days = (0..60_u64).rev().filter(|days| !(20..25).contains(days));
    let point = |days: u64| Point { date: days_ago(days), value: at(days.cast_signed()) };
    Figure {
        name: name.to_owned(),
        title: title.to_owned(),
        dataset: dataset.to_owned(),
        date: DATE,
        value: at(0),
        before: Some(point(1)),
        month_before: Some(point(30)),
        series: days.map(point).collect(),
        better,
    }
}

/// Returns the page.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::too_many_lines,
    reason = "small invented numbers, one page of them"
)]
pub fn sample() -> PageData {
    let count =
        |start: i64, step: i64| move |days: i64| FigureValue::Count(start + step * days + days * days % 7);
    let inventory = "software_inventory";
    let vulnerabilities = "software_vulnerabilities";
    let figures = vec![
        figure("devices", "Devices", inventory, Better::Neither, count(11_200, 2)),
        figure("installations", "Installations", inventory, Better::Neither, count(1_311_907, 310)),
        figure("products", "Products", inventory, Better::Neither, count(1_078, 0)),
        figure("weaknesses", "Weaknesses", inventory, Better::Less, count(524_547, -900)),
        figure("end_of_support", "Out of support", inventory, Better::Less, count(48_216, 110)),
        figure("vulnerabilities", "Vulnerabilities", vulnerabilities, Better::Less, count(812_345, 1_200)),
        figure("critical", "Critical", vulnerabilities, Better::Less, count(41_002, -45)),
        figure("exploitable", "With an exploit", vulnerabilities, Better::Less, count(9_811, 12)),
        figure("compliance_rate", "Compliance", "secure_configurations", Better::More, |days| {
            FigureValue::Share(Some(0.8125 - days as f64 / 1_000.0))
        }),
    ];
    let flow = |dataset: &str, added: &str, removed: &str, size: u64| Flow {
        dataset: dataset.to_owned(),
        added: added.to_owned(),
        removed: removed.to_owned(),
        days: (0..59)
            .rev()
            .filter(|days| !(20..25).contains(days))
            .map(|days: u64| FlowDay {
                from: days_ago(if days == 19 { 25 } else { days + 1 }),
                date: days_ago(days),
                added: size + days * 7919 % size,
                removed: size / 2 + days * 104_729 % size,
            })
            .collect(),
    };
    let kind = |kind: &str, is_of_devices: bool, total: u64| KindChanges {
        kind: kind.to_owned(),
        is_of_devices,
        total,
        on_known_devices: total / 2,
        on_new_devices: total / 4,
        on_gone_devices: total - total / 2 - total / 4,
    };
    let changes = |dataset: &str, words: [&str; 3]| Changes {
        dataset: dataset.to_owned(),
        from: days_ago(1),
        to: DATE,
        kinds: vec![
            kind(words[0], false, 532),
            kind(words[1], false, 876),
            kind(words[2], false, 1_837),
            kind("device_appeared", true, 3),
            kind("device_disappeared", true, 6),
            kind("device_renamed", true, 0),
            kind("device_moved", true, 2),
            kind("device_platform_changed", true, 2),
        ],
        products: (0..10)
            .map(|index| ProductChanges {
                name: name(index),
                changes: 319 - index as u64 * 20,
                devices: 300 - index as u64 * 20,
                by_kind: vec![index as u64, 9, 310 - index as u64 * 21],
            })
            .collect(),
        name_columns: columns(),
        left_out: 411,
    };
    let end = |index: usize, days: i64, status: &str| EndOfSupport {
        name: name(index),
        version: text(["9.9", "11.27.3", "82.0.4163.284-very-long-build+metadata.20210101"][index % 3]),
        status: text(status),
        date: (index % 4 != 3).then(|| DATE + chrono::TimeDelta::days(days)),
        devices: 4_000 / (index as u64 + 1),
        installations: 4_400 / (index as u64 + 1),
    };
    let product = |index: usize| {
        let devices = 11_000 / (index as u64 + 1) + 1;
        let detail = ProductDetail {
            versions: (0..=index % 7)
                .map(|at| (text(&format!("{at}.{index}.1")), devices / (at as u64 + 2) + 1))
                .collect(),
            platforms: (0..=index % 4).map(|at| (at as u32, devices / (at as u64 + 1) + 1)).collect(),
            groups: (0..=index % 3).map(|at| (at as u32, devices / (at as u64 + 1) + 1)).collect(),
        };
        Product {
            name: name(index),
            devices,
            installations: devices + devices / 10,
            num_versions: index as u64 % 23 + 1,
            weaknesses: (index as i64 * 7919) % 400,
            ended: index as u64 % 5 * devices / 7,
            detail: (index < 1_000).then_some(detail),
        }
    };
    let breakdown = |values: &[Option<&str>]| Breakdown {
        figures: figures
            .iter()
            .filter(|figure| figure.name != "products")
            .map(|figure| BreakdownFigure {
                name: figure.name.clone(),
                title: figure.title.clone(),
                dataset: figure.dataset.clone(),
            })
            .collect(),
        rows: values
            .iter()
            .enumerate()
            .map(|(row, value)| BreakdownRow {
                value: value.map(str::to_owned),
                figures: figures
                    .iter()
                    .filter(|figure| figure.name != "products")
                    .map(|figure| match figure.value {
                        _ if row == 3 && figure.dataset == vulnerabilities => None,
                        FigureValue::Count(count) => Some(FigureValue::Count(count / (row as i64 + 2))),
                        FigureValue::Share(share) => Some(FigureValue::Share(share.filter(|_| row != 4))),
                    })
                    .collect(),
            })
            .collect(),
        left_out: 0,
    };
    let platforms =
        [Some("Windows11"), Some("Windows10"), Some("WindowsServer2022"), Some("macOS"), Some("Linux"), None];
    let groups = [Some("Unassigned"), Some("Servers <prod> & \"test\""), Some("Workstations")];
    let texts =
        |values: &[Option<&str>]| values.iter().map(|value| value.map(str::to_owned)).collect::<Vec<_>>();
    let facts = |dataset: &str, rows| DatasetFacts {
        dataset: dataset.to_owned(),
        date: DATE,
        generated_time: time("2021-03-12T11:01:00Z"),
        rows,
        num_snapshots: 55,
        first_date: days_ago(59),
        num_missing_days: 5,
    };
    PageData {
        head: Head {
            lake: "/data/lake".to_owned(),
            generated_time: time("2021-03-12T11:01:00Z"),
            made_at: time("2021-03-15T07:30:00Z"),
            tool_version: "0.1.0".to_owned(),
            date: DATE,
            since: days_ago(90),
            datasets: vec![
                facts(inventory, 1_311_907),
                facts(vulnerabilities, 812_345),
                DatasetFacts { date: days_ago(1), ..facts("secure_configurations", 900_000) },
                DatasetFacts {
                    num_snapshots: 1,
                    num_missing_days: 0,
                    first_date: DATE,
                    ..facts("certificates", 40_000)
                },
                facts("browser_extensions", 60_000),
            ],
            notes: vec![
                Note::Stale { generated_time: time("2021-03-12T11:01:00Z"), days: 2 },
                Note::Behind { dataset: "secure_configurations".to_owned(), date: days_ago(1), days: 1 },
                Note::MissingDays {
                    dataset: inventory.to_owned(),
                    gaps: vec![DayRange { first: days_ago(24), last: days_ago(20) }],
                    days: 5,
                },
                Note::Rejects { dataset: inventory.to_owned(), records: 12, fields: 1_234 },
                Note::UndocumentedFields {
                    dataset: inventory.to_owned(),
                    fields: [("newField<b>".to_owned(), 1_311_907), ("other".to_owned(), 3)].into(),
                },
                Note::OneSnapshot { dataset: "certificates".to_owned() },
            ],
        },
        flows: vec![
            flow(inventory, "installed", "removed", 700),
            flow(vulnerabilities, "found", "fixed", 5_000),
        ],
        changes: vec![
            changes(inventory, ["installed", "removed", "version_changed"]),
            changes(vulnerabilities, ["found", "fixed", "severity_changed"]),
        ],
        support: vec![Support {
            dataset: inventory.to_owned(),
            name_columns: columns(),
            devices: 5_012,
            installations: 48_216,
            ended: (0..25).map(|index| end(index, -40 * index as i64, "EOS Version")).collect(),
            ended_left_out: 312,
            ending: (0..12).map(|index| end(index, 14 * index as i64, "Upcoming EOS Version")).collect(),
            ending_left_out: 0,
            days_ahead: 180,
        }],
        exposure: vec![Exposure {
            dataset: vulnerabilities.to_owned(),
            severities: texts(&[Some("Critical"), Some("High"), Some("Medium"), Some("Low"), None]),
            exploitabilities: texts(&[
                Some("ExploitIsInKit"),
                Some("ExploitIsVerified"),
                Some("ExploitIsPublic"),
                Some("NoExploit"),
            ]),
            is_exploitable: vec![true, true, true, false],
            matrix: vec![
                vec![120, 411, 2_100, 38_371],
                vec![80, 230, 4_000, 301_000],
                vec![0, 40, 2_830, 400_113],
                vec![0, 0, 0, 62_000],
                vec![0, 0, 0, 1_050],
            ],
            cves: (0..25)
                .map(|index| Cve {
                    id: format!("CVE-2020-{}", 10_000 + index * 37),
                    severity: index % 4,
                    exploitability: index % 4,
                    score: (index % 5 != 4).then_some(9.8 - index as f64 / 10.0),
                    devices: 10_000 / (index as u64 + 1),
                    findings: 12_000 / (index as u64 + 1),
                    findings_with_update: if index % 3 == 0 { 0 } else { 9_000 / (index as u64 + 1) },
                })
                .collect(),
            num_cves: 4_117,
            ages: [
                (Some(0), Some(7)),
                (Some(8), Some(30)),
                (Some(31), Some(90)),
                (Some(91), Some(180)),
                (Some(181), Some(365)),
                (Some(366), None),
                (None, None),
            ]
            .into_iter()
            .enumerate()
            .map(|(index, (from_days, to_days))| AgeBucket {
                from_days,
                to_days,
                by_severity: (1..=5).map(|severity| 9_000 * severity / (index as u64 + 1)).collect(),
            })
            .collect(),
            products: (0..15)
                .map(|index| VulnerableProduct {
                    name: name(index),
                    findings: 80_000 / (index as u64 + 1),
                    critical: 4_000 / (index as u64 + 1),
                    exploitable: 900 / (index as u64 + 1),
                    cves: 210 / (index as u64 + 1),
                    devices: 9_000 / (index as u64 + 1),
                    findings_with_update: [80_000, 0, 20_000][index % 3] / (index as u64 + 1),
                })
                .collect(),
            num_products: 413,
            name_columns: columns(),
        }],
        products: vec![Products {
            dataset: inventory.to_owned(),
            name_columns: columns(),
            platforms: texts(&platforms),
            groups: texts(&groups),
            has_weaknesses: true,
            has_support: true,
            products: (0..1_078).map(product).collect(),
            num_products: 1_078,
            left_out: 0,
            without_detail: 78,
        }],
        platforms: Some(breakdown(&platforms)),
        groups: Some(breakdown(&groups)),
        expiries: vec![Expiries {
            dataset: "certificates".to_owned(),
            expired: 311,
            items: (0..20)
                .map(|index| Expiry {
                    id: text(&format!("{index:040x}")),
                    name: (index != 3).then(|| format!("host{index}.contoso.com")),
                    expires: time("2021-03-12T11:01:00Z") + chrono::TimeDelta::days(index * 4),
                    days: (index * 4).cast_unsigned(),
                    devices: 40 / (index.cast_unsigned() + 1) + 1,
                })
                .collect(),
            left_out: 3,
            days_ahead: 90,
        }],
        risks: vec![Risks {
            dataset: "browser_extensions".to_owned(),
            rows: 4_321,
            items: (0..12)
                .map(|index| Risk {
                    id: text(&format!("abcdefghijklmnop{index:016}")),
                    name: (index != 2).then(|| format!("Extension <{index}>")),
                    place: text(["chrome", "edge", "firefox"][index % 3]),
                    risk: text(["Critical", "High"][index % 2]),
                    devices: 900 / (index as u64 + 1),
                    active_devices: 600 / (index as u64 + 1),
                })
                .collect(),
            left_out: 8,
        }],
        devices: Some(Devices {
            dataset: vulnerabilities.to_owned(),
            counted: "findings".to_owned(),
            devices: (0..10)
                .map(|index| Device {
                    name: text(&format!("desk{index}.lab.contoso.com")),
                    platform: text("Windows11"),
                    group: text("Unassigned"),
                    findings: 4_000 - index * 100,
                })
                .collect(),
        }),
        figures,
    }
}

#[test]
fn page_of_the_sample_is_a_document() {
    let page = sample();
    assert!(super::render::render(&page).starts_with("<!doctype html>"));
    let json = serde_json::to_string(&page).unwrap();
    let again: PageData = serde_json::from_str(&json).unwrap();
    assert_eq!((again.head, again.changes, again.products), (page.head, page.changes, page.products));
}
