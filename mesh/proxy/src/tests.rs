//! Behaviour, seen from outside: an application, a proxy and a client on real sockets.

mod breakers;
mod continue_100;
mod faults;
mod fuzzing;
mod harness;
mod lifecycle;
mod malformed;
mod mutual_tls;
mod observability;
mod outlier;
mod protocol;
mod resilience;
mod routing;
mod spans;
mod tcp;
mod updates;
