//! Thalweg.
fn main() {}
