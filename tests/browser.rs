//! The report's page in a real browser: Debian's Chromium, driven by `tests/browser/checks.mjs` with Playwright and axe-core;
//! `make test` installs them. One browser for all checks, two pages: every section filled, and one of hostile names.

use std::path::{Path, PathBuf};
use std::process::Command;

use pipeline::page::data::PageData;
use pipeline::page::{data, render};
use serde_json::Value;

use crate::support::{Run, Sandbox};

/// The invented page of the unit tests, which no program has.
#[path = "../pipeline/src/page/sample.rs"]
mod sample;

/// Names that a page must show as they are; the last is escaped as it would turn text around.
const HOSTILE: [&str; 8] = [
    "</script><script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "'><svg/onload=alert(1)>",
    "javascript:alert(1)",
    "&lt;b&gt;",
    "<!--",
    "{{ 7 * 7 }}",
    "abc\u{202e}gpj.exe",
];

/// The page with hostile names wherever the lake has text.
fn hostile() -> PageData {
    let mut page = sample::sample();
    let long = "x".repeat(500);
    let names: Vec<&str> = HOSTILE.into_iter().chain([long.as_str()]).collect();
    let name = |at: usize| Some(names[at % names.len()].to_owned());
    let two = |at: usize| vec![name(at), name(at)];
    page.head.lake = names.concat();
    page.products[0].products.truncate(names.len());
    for (at, product) in page.products[0].products.iter_mut().enumerate() {
        product.name = two(at);
        let detail = product.detail.get_or_insert_default();
        detail.versions = vec![(name(at), 3)];
    }
    page.products[0].num_products = names.len() as u64;
    page.products[0].groups.iter_mut().enumerate().for_each(|(at, group)| *group = name(at));
    page.products[0].platforms.iter_mut().enumerate().for_each(|(at, platform)| *platform = name(at + 3));
    let breakdowns = page.platforms.iter_mut().chain(&mut page.groups);
    breakdowns.flat_map(|of| &mut of.rows).enumerate().for_each(|(at, row)| row.value = name(at));
    page.changes
        .iter_mut()
        .flat_map(|of| &mut of.products)
        .enumerate()
        .for_each(|(at, of)| of.name = two(at));
    for (at, end) in
        page.support.iter_mut().flat_map(|of| of.ended.iter_mut().chain(&mut of.ending)).enumerate()
    {
        (end.name, end.version, end.status) = (two(at), name(at + 1), name(at + 2));
    }
    for exposure in &mut page.exposure {
        exposure.products.iter_mut().enumerate().for_each(|(at, product)| product.name = two(at));
        exposure
            .cves
            .iter_mut()
            .enumerate()
            .for_each(|(at, cve)| names[at % names.len()].clone_into(&mut cve.id));
        exposure.severities.iter_mut().enumerate().for_each(|(at, severity)| *severity = name(at));
        exposure.exploitabilities.iter_mut().enumerate().for_each(|(at, of)| *of = name(at + 1));
    }
    for (at, item) in page.expiries.iter_mut().flat_map(|of| &mut of.items).enumerate() {
        (item.id, item.name) = (name(at), name(at + 1));
    }
    for (at, item) in page.risks.iter_mut().flat_map(|of| &mut of.items).enumerate() {
        (item.id, item.name, item.place, item.risk) = (name(at), name(at + 1), name(at + 2), name(at + 3));
    }
    for (at, device) in page.devices.iter_mut().flat_map(|of| &mut of.devices).enumerate() {
        (device.name, device.platform, device.group) = (name(at), name(at + 1), name(at + 2));
    }
    page
}

#[test]
fn page_is_whole_in_a_browser() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let tools =
        std::env::var_os("DEFENDER_LAKE_BROWSER").map_or_else(|| repository.join(".browser"), PathBuf::from);
    assert!(tools.exists(), "no tools of the browser at {}: run `make test`", tools.display());
    let sandbox = Sandbox::new();
    let write = |name: &str, page: &PageData| {
        let file = sandbox.path().join(name);
        std::fs::write(&file, render::render(page)).unwrap();
        file
    };
    let output = Command::new("node")
        .arg(repository.join("tests/browser/checks.mjs"))
        .arg(tools)
        .args([write("page.html", &sample::sample()), write("hostile.html", &hostile())])
        .output()
        .unwrap();
    let run = Run::of(output);
    let checks: Vec<Value> = run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let failed: Vec<&Value> = checks.iter().filter(|check| !check["error"].is_null()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(checks.len() >= 15, "{} checks: {}", checks.len(), run.stderr);
    run.expect(0);
}
