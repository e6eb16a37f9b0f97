//! The httpbin sample.
