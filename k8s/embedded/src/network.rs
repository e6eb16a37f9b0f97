//! The pod network without root: addresses, doors and forwarders.

pub mod addresses;
