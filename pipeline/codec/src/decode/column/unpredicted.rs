//! The sign that a value needs the slow path.

/// The value is not just as documented.
#[derive(Debug)]
pub struct Unpredicted;
