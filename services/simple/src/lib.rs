//! The simple sample.
