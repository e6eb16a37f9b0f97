//! The `meshdojo` binary.
fn main() {}
