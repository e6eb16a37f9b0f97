//! The shim as a program of its own, for tests and for embedders whose binary does not wire the
//! subcommand.

use k8s_embedded::runtime::shim;

fn main() {
    let args = std::env::args_os().skip(2);
    if let Err(error) = shim::run(args) {
        eprintln!("container-shim: {error}");
        std::process::exit(127);
    }
}
