//! The fleetman sample.
