//! The booking sample.
