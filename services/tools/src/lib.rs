//! The client tools that labs run in pods.
