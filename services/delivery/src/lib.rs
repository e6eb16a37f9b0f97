//! The delivery sample.
