//! Behaviour, seen from outside: an application, a proxy and a client on real sockets.

mod faults;
mod harness;
mod lifecycle;
mod observability;
mod protocol;
mod resilience;
mod routing;
