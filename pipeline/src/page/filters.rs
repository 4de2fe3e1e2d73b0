//! Filters of the templates: values as people read them.
//!
//! Takes values of the page's data, gives text that askama escapes, or HTML in which everything from the lake is escaped
//! already. Null is `(none)`, nothing to say is a dash; control and bidirectional characters are shown as escapes.

#![expect(
    clippy::inline_always,
    clippy::unused_self,
    clippy::unnecessary_wraps,
    clippy::trivially_copy_pass_by_ref,
    reason = "askama makes these of filters, and calls them with references"
)]

use std::fmt::Display;

use askama::filters::{Html, Safe, escape};
use askama::{Result, Values, filter_fn};
use chrono::{DateTime, NaiveDate, Utc};

use super::charts::{Ink, parts_bar, share_bar};
use super::data::{FigureValue, Product};
use super::text::{number, percent, sentence_case};
use crate::display;
use crate::printable::printable;

/// A number with a comma between its thousands.
#[filter_fn]
pub fn grouped(value: impl Display, _: &dyn Values) -> Result<String> {
    Ok(number(&value.to_string()))
}

/// A number with its noun.
#[filter_fn]
pub fn count(value: impl Display, _: &dyn Values, noun: &str) -> Result<String> {
    let digits = value.to_string();
    let plural = if digits == "1" { "" } else { "s" };
    Ok(format!("{} {noun}{plural}", number(&digits)))
}

/// The value of a figure.
#[filter_fn]
pub fn measure(value: &Option<FigureValue>, _: &dyn Values) -> Result<String> {
    Ok(match value {
        Some(FigureValue::Count(count)) => number(&count.to_string()),
        Some(FigureValue::Share(Some(share))) => percent(*share),
        Some(FigureValue::Share(None)) | None => "–".to_owned(),
    })
}

/// A name of ours as words: `version_changed` is `Version changed`.
#[filter_fn]
pub fn words(name: impl Display, _: &dyn Values) -> Result<String> {
    Ok(sentence_case(&name.to_string()))
}

/// The head of a column of names: what the last of their columns holds.
#[filter_fn]
pub fn heading(columns: &[String], _: &dyn Values) -> Result<String> {
    Ok(columns.last().map(|name| sentence_case(name)).unwrap_or_default())
}

/// A time in UTC to the second.
#[filter_fn]
pub fn time(time: &DateTime<Utc>, _: &dyn Values) -> Result<Safe<String>> {
    Ok(Safe(format!("<time datetime=\"{}\">{}</time>", display::time_text(time), display::time_cell(time))))
}

/// A day, if it is known.
#[filter_fn]
pub fn day(date: &Option<NaiveDate>, _: &dyn Values) -> Result<String> {
    Ok(date.map_or_else(|| "–".to_owned(), |date| date.to_string()))
}

/// Text of any origin on one line.
#[filter_fn]
pub fn line(text: impl Display, _: &dyn Values) -> Result<String> {
    Ok(printable(&text.to_string()).into_owned())
}

/// Text from the lake.
#[filter_fn]
pub fn text(value: &Option<String>, _: &dyn Values) -> Result<Safe<String>> {
    Ok(Safe(text_html(value.as_deref())))
}

/// A name of several columns: the last one, and the others after it.
#[filter_fn]
pub fn name(parts: &[Option<String>], _: &dyn Values) -> Result<Safe<String>> {
    let Some((last, others)) = parts.split_last() else { return Ok(Safe(String::new())) };
    let mut html = format!("<span class=\"name\">{}", text_html(last.as_deref()));
    for other in others {
        html.push_str(" <span class=\"of\">");
        html.push_str(&text_html(other.as_deref()));
        html.push_str("</span>");
    }
    html.push_str("</span>");
    Ok(Safe(html))
}

/// A bar of the value as a share of the most.
#[filter_fn]
pub fn bar(value: &u64, _: &dyn Values, most: &u64) -> Result<Safe<String>> {
    Ok(Safe(share_bar(*value as f64 / (*most).max(1) as f64)))
}

/// A bar of a product's versions by their devices.
#[filter_fn]
pub fn distribution(product: &Product, _: &dyn Values) -> Result<Safe<String>> {
    let Some(detail) = &product.detail else { return Ok(Safe(String::new())) };
    let listed: u64 = detail.versions.iter().map(|(_, devices)| devices).sum();
    let all = listed.max(product.installations).max(1) as f64;
    let parts: Vec<_> =
        detail.versions.iter().map(|(_, devices)| (*devices as f64 / all, Ink::Line)).collect();
    Ok(Safe(parts_bar(&parts)))
}

/// How many of all: none, some, all.
#[filter_fn]
pub fn some_of(part: &u64, _: &dyn Values, all: &u64) -> Result<String> {
    Ok(match *part {
        0 => "none".to_owned(),
        part if part >= *all => "for all".to_owned(),
        part => format!("for {}", percent(part as f64 / *all as f64)),
    })
}

fn text_html(value: Option<&str>) -> String {
    match value {
        None => "<i>(none)</i>".to_owned(),
        Some(text) => match escape(printable(text), Html) {
            Ok(escaped) => format!("<bdi>{escaped}</bdi>"),
            Err(never) => match never {},
        },
    }
}
