//! Prints a snapshot as the bootstrap file of a real Envoy:
//! `cargo run -p mesh-config --example bootstrap -- snapshot.json 127.0.0.1:9901`

use std::{error::Error, fs::File, io::stdout};

use mesh_config::{Snapshot, envoy};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(file), Some(admin)) = (arguments.next(), arguments.next()) else {
        return Err("usage: bootstrap SNAPSHOT.json ADMIN_ADDRESS".into());
    };
    let snapshot: Snapshot = serde_json::from_reader(File::open(file)?)?;
    serde_json::to_writer_pretty(stdout(), &envoy::bootstrap(&snapshot, admin.parse()?))?;
    Ok(())
}
