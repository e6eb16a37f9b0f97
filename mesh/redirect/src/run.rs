//! Carrying the rules out.

use std::{
    io::{self, Write as _},
    process::{Command, Stdio},
};

use crate::args::{Args, Mode};

/// Set in pods of the embedded cluster, whose way out is a door.
const DOOR: &str = "DOJO_POD_IP";

/// Why connections are not redirected.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The mode is not carried out.
    #[error(
        "interception mode TPROXY is not carried out: use REDIRECT (annotation sidecar.istio.io/interceptionMode)"
    )]
    Tproxy,
    /// The program is missing or cannot be started.
    #[error("cannot run nft: {0}; the image needs the package nftables")]
    Start(#[source] io::Error),
    /// As for `nft`.
    #[error("cannot run ip: {0}; the image needs the package iproute2")]
    StartIp(#[source] io::Error),
    /// As for `nft`.
    #[error(
        "ip cannot give the loopback interface the address ::6 ({0}): the container needs the capability NET_ADMIN"
    )]
    RefusedIp(std::process::ExitStatus),
    /// The kernel refuses, or the container may not.
    #[error(
        "nft failed ({0}): the container needs the capability NET_ADMIN, the node a kernel with nf_tables (5.2 or later)"
    )]
    Refused(std::process::ExitStatus),
}

/// Redirects the connections of the pod that this runs in.
///
/// # Errors
/// When the rules cannot be carried out; then none is.
pub fn run(args: &Args) -> Result<(), Error> {
    let script = args.rules().script();
    if args.dry_run {
        print!("{script}");
        return Ok(());
    }
    if std::env::var_os(DOOR).is_some() {
        println!("this cluster's pods have a door: nothing to redirect");
        return Ok(());
    }
    match args.istio_inbound_interception_mode {
        Mode::Redirect => apply(&script),
        Mode::Tproxy => Err(Error::Tproxy),
        Mode::None => {
            println!("interception mode NONE: nothing to redirect");
            Ok(())
        }
    }
}

fn apply(script: &str) -> Result<(), Error> {
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .map_err(Error::Start)?;
    if let Some(mut input) = nft.stdin.take() {
        input.write_all(script.as_bytes()).map_err(Error::Start)?;
    }
    let status = nft.wait().map_err(Error::Start)?;
    if !status.success() {
        return Err(Error::Refused(status));
    }
    give_source()?;
    print!("{script}");
    Ok(())
}

/// The sidecar reaches its workload from ::6, which unlike 127.0.0.6 the loopback interface has only
/// when it is told so.
fn give_source() -> Result<(), Error> {
    if !std::path::Path::new("/proc/net/if_inet6").exists() {
        return Ok(());
    }
    let status = Command::new("ip")
        .args(["-6", "addr", "replace", "::6/128", "dev", "lo"])
        .status()
        .map_err(Error::StartIp)?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::RefusedIp(status))
    }
}
