//! Which mode and which policy holds where several speak.

use std::path::Path;

use anyhow::ensure;
use dojo_tests::{dojo::eventually, kubectl};

use crate::{SOON, curl, page, policy};

/// A port's mode outranks its workload's, that the namespace's, that the mesh's; UNSET asks the next.
pub(crate) async fn the_nearest_mode_holds(file: &Path, details: &str) -> anyhow::Result<()> {
    // Modes of the mesh, the namespace, the workload and its port ("" for no such rule), and
    // whether a caller without a certificate is served.
    // In turns, so that each row shows what it changes.
    const MODES: [([&str; 4], bool); 11] = [
        (["", "", "", ""], true),
        (["STRICT", "", "", ""], false),
        (["STRICT", "PERMISSIVE", "", ""], true),
        (["STRICT", "UNSET", "", ""], false),
        (["PERMISSIVE", "STRICT", "PERMISSIVE", ""], true),
        (["PERMISSIVE", "STRICT", "", ""], false),
        (["STRICT", "STRICT", "DISABLE", ""], true),
        (["UNSET", "STRICT", "UNSET", ""], false),
        (["PERMISSIVE", "PERMISSIVE", "STRICT", "PERMISSIVE"], true),
        (["PERMISSIVE", "PERMISSIVE", "PERMISSIVE", "STRICT"], false),
        (["STRICT", "", "DISABLE", "UNSET"], true),
    ];
    const RULES: [(&str, &str); 3] = [
        ("istio-system", "default"),
        ("default", "default"),
        ("default", "details"),
    ];
    let forget = |namespace: &str, name: &str| {
        let which = ["peerauthentication", name, "-n", namespace];
        let command = [&["delete", "--ignore-not-found"], &which[..]].concat();
        kubectl::ok(file, &command, "")
    };
    for (modes, served) in MODES {
        for ((namespace, name), mode) in RULES.into_iter().zip(modes) {
            if mode.is_empty() {
                forget(namespace, name)?;
                continue;
            }
            let port = match modes[3] {
                "" => String::new(),
                mode => format!(", portLevelMtls: {{\"9080\": {{mode: {mode}}}}}"),
            };
            let spec = match name {
                "details" => format!(
                    "{{selector: {{matchLabels: {{app: details}}}}, mtls: {{mode: {mode}}}{port}}}"
                ),
                _ => format!("{{mtls: {{mode: {mode}}}}}"),
            };
            let rule = format!(
                "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
                 metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
            );
            kubectl::ok(file, &["apply", "-f", "-"], &rule)?;
        }
        eventually(&format!("{modes:?}"), SOON, async || {
            let code = curl(&[details])?.status.code();
            let expected = if served { 0 } else { 56 };
            ensure!(code == Some(expected), "{modes:?}: curl ends with {code:?}");
            Ok(())
        })
        .await?;
    }
    for (namespace, name) in RULES {
        forget(namespace, name)?;
    }
    Ok(())
}

/// What a DENY names is refused, whatever ALLOW says; where there is an ALLOW, what none names is, too.
pub(crate) async fn denial_goes_before_permission(
    file: &Path,
    details: &str,
) -> anyhow::Result<()> {
    const THIS: &str = "rules: [{to: [{operation: {paths: [\"/details/*\"]}}]}]";
    const OTHER: &str = "rules: [{to: [{operation: {paths: [\"/other\"]}}]}]";
    // Rules of a DENY and of an ALLOW ("" for no such policy), and the status.
    // In turns, so that each row shows what it changes.
    for (deny, allow, status) in [
        ("", "", "200"),
        (THIS, "", "403"),
        (OTHER, "", "200"),
        ("", OTHER, "403"),
        ("", THIS, "200"),
        (THIS, THIS, "403"),
        (OTHER, THIS, "200"),
        ("rules: [{}]", THIS, "403"),
        ("", "rules: [{}]", "200"),
    ] {
        for (action, rules) in [("DENY", deny), ("ALLOW", allow)] {
            let name = action.to_lowercase();
            if rules.is_empty() {
                kubectl::ok(
                    file,
                    &["delete", "--ignore-not-found", "authorizationpolicy", &name],
                    "",
                )?;
            } else {
                let spec = format!("{{action: {action}, {rules}}}");
                kubectl::ok(file, &["apply", "-f", "-"], &policy(&name, &spec))?;
            }
        }
        eventually(
            &format!("{status} by {deny:?} and {allow:?}"),
            SOON,
            async || {
                let (seen, _) = page(&[details])?;
                ensure!(
                    seen == status,
                    "{seen}, not {status}, by DENY {deny:?} and ALLOW {allow:?}"
                );
                Ok(())
            },
        )
        .await?;
    }
    kubectl::ok(file, &["delete", "authorizationpolicy", "--all"], "")?;
    Ok(())
}
