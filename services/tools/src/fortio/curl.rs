//! `fortio curl`: one request; headers on standard error, the body on standard output.

use std::sync::Arc;

use crate::connection::{self, CallError, Connection};
use crate::shell::Shell;

use super::arguments::Flags;

/// Sends the request. 0 for an answer of status 200, else 1.
pub(super) async fn run(flags: &Flags, shell: &Shell) -> u8 {
    let target = match super::target(flags, shell).await {
        Ok(target) => target,
        Err(error) => {
            shell.err.line(&format!("Error: {error}"));
            return 1;
        }
    };
    let mut connection = Connection::new(Arc::new(target), flags.timeout);
    let answer = tokio::time::timeout(flags.timeout, show(&mut connection, shell)).await;
    match answer.unwrap_or(Err(CallError::Timeout(flags.timeout))) {
        Ok(200) => 0,
        Ok(status) => {
            shell
                .err
                .line(&format!("[ERR] Error status {status} for {}", flags.url));
            1
        }
        Err(error) => {
            shell
                .err
                .line(&format!("[ERR] Unable to get {}: {error}", flags.url));
            1
        }
    }
}

async fn show(connection: &mut Connection, shell: &Shell) -> Result<u16, CallError> {
    let response = connection.begin().await?;
    shell
        .err
        .text(&format!("{}\r\n", connection::head(&response)));
    let status = response.status().as_u16();
    let mut body = response.into_body();
    while let Some(chunk) = connection.chunk(&mut body).await? {
        shell.out.bytes(&chunk);
    }
    Ok(status)
}
