//! The image catalogue that the embedded cluster is given: `images.yaml` beside this crate.

use anyhow::Context;
use k8s_embedded::images::{Catalogue, Image};

/// All images.
pub fn images() -> anyhow::Result<Catalogue> {
    let images: Vec<Image> =
        serde_norway::from_str(include_str!("../images.yaml")).context("images.yaml")?;
    Ok(Catalogue::new(images))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use k8s_embedded::images::SELF;

    use super::*;
    use crate::arguments::Arguments;

    /// What the image starts is a command line that this binary takes.
    #[test]
    fn every_command_of_ours_parses() {
        let images: Vec<Image> = serde_norway::from_str(include_str!("../images.yaml")).unwrap();
        for image in &images {
            let argv: Vec<&str> = image
                .command
                .iter()
                .chain(&image.args)
                .map(String::as_str)
                .collect();
            if argv.len() > 1 && argv[0] == SELF {
                if let Err(error) = Arguments::try_parse_from(&argv) {
                    // Flags that the pod's environment provides may be absent here.
                    assert_eq!(
                        error.kind(),
                        clap::error::ErrorKind::MissingRequiredArgument,
                        "{}: {error}",
                        image.name
                    );
                }
            }
        }
    }
}
