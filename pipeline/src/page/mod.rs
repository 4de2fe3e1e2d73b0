//! The report: one HTML page about a lake.
//!
//! Takes the published snapshots of a lake; gives the data of a page, and the page. Never writes to the lake but a cache
//! of figures.

pub mod data;
#[cfg(test)]
mod sample;
pub mod render;
mod filters;
mod text;
mod charts;
