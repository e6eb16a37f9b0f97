//! One of the tools without the rest of Mesh Dojo:
//! `cargo run -p dojo-tools --example tool -- fortio load -c 2 http://127.0.0.1:8080/`.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dojo_tools::Command::by_name(&arguments) {
        Some(Ok(command)) => command.run().await,
        Some(Err(error)) => error.exit(),
        None => {
            eprintln!("give one of {}", dojo_tools::NAMES.join(", "));
            ExitCode::FAILURE
        }
    }
}
