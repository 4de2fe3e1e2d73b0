//! The report: one HTML page about a lake.
//!
//! Takes the published snapshots of a lake; gives the data of a page, counted as `trend` and `diff` count, and the page.
//! Never writes to the lake but the caches of counts.

pub mod request;
pub mod read;
mod tables;
mod figures;
mod changes;
mod products;
mod exposure;
mod expiries;
mod risks;
mod devices;
pub mod data;
#[cfg(test)]
mod sample;
pub mod render;
mod filters;
mod text;
mod charts;
