//! The image catalogue that the embedded cluster is given: `images.yaml` beside this crate, and what
//! the user adds to a cluster with `meshdojo image map`.

use anyhow::Context;
use k8s_embedded::images::{Catalogue, Image, Reference};

use crate::{
    arguments::{ImageCommand, ImagesArgs, Output},
    home::{Cluster, Home},
};

/// All images.
pub fn images() -> anyhow::Result<Catalogue> {
    let images: Vec<Image> =
        serde_norway::from_str(include_str!("../images.yaml")).context("images.yaml")?;
    Ok(Catalogue::new(images))
}

/// `meshdojo images`: every image that a pod can name, the user's own first.
pub fn list(home: &Home, args: &ImagesArgs) -> anyhow::Result<()> {
    let added = Catalogue::added(&home.cluster(&args.cluster.name).folder)?;
    let built_in = images()?;
    let all: Vec<&Image> = added.images().iter().chain(built_in.images()).collect();
    if args.output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(());
    }
    println!("{:<58} {:<28} COMMAND", "IMAGE", "TAGS");
    for image in all {
        let tags = if image.tags.is_empty() {
            "any".into()
        } else {
            image.tags.join(",")
        };
        if let Some(why) = &image.absent {
            println!("{:<58} {tags:<28} none: {why}", image.name);
            continue;
        }
        let command: Vec<&str> = image
            .command
            .iter()
            .chain(&image.args)
            .map(String::as_str)
            .collect();
        let command = command
            .join(" ")
            .replace(k8s_embedded::images::SELF, "meshdojo");
        println!("{:<58} {tags:<28} {command}", image.name);
    }
    Ok(())
}

/// `meshdojo image ...`.
pub fn image(home: &Home, command: ImageCommand) -> anyhow::Result<()> {
    match command {
        ImageCommand::Map {
            cluster,
            image,
            command,
        } => map(&home.cluster(&cluster.name), &image, command),
        ImageCommand::Save(args) => {
            let links = [&dojo_tools::NAMES[..], &["pilot-agent"]].concat();
            Ok(k8s_image::save(&args, &links)?)
        }
    }
}

/// Lets an image name stand for a program of this machine.
fn map(cluster: &Cluster, image: &str, command: Vec<String>) -> anyhow::Result<()> {
    let reference = Reference::parse(image)?;
    // `a/b` is every tag, `a/b:1` that one.
    let path = image.rsplit('/').next().unwrap_or(image);
    let tags = if path.contains([':', '@']) {
        vec![reference.tag]
    } else {
        Vec::new()
    };
    cluster.create()?;
    let entry = Image {
        name: reference.name,
        tags,
        command,
        ..Image::default()
    };
    Catalogue::add(&cluster.folder, entry)?;
    eprintln!(
        "containers of image {image} now start this program in cluster {:?}",
        cluster.name
    );
    Ok(())
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
            // Flags that the pod's environment provides may be absent here.
            if argv.len() > 1
                && argv[0] == SELF
                && let Err(error) = Arguments::try_parse_from(&argv)
            {
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
