//! The container image without Docker: one file, for clusters without a registry.
//!
//! ```text
//! the running binary ─┐
//! sh, curl, nft, ip   ├─► contents ─► archive ─► FILE ─► kind load image-archive FILE
//! their libraries     ┘   (a tree)    (OCI)              ctr -n k8s.io images import FILE
//! ```
//!
//! The same programs make the same file, byte for byte. With Docker at hand the `Dockerfile` makes an
//! image from source, on a base of its own.

mod archive;
mod contents;
mod libraries;

use std::{
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

pub use archive::Image;
pub use contents::{Node, Tree};

/// Why there is no archive.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program of the image is not on this machine.
    #[error(
        "no {0} on the PATH, which the image needs: install its package, or leave it out with --without {0}"
    )]
    Missing(String),
    /// A library of a program is not there.
    #[error("{program} needs the library {library}, which is not on this machine")]
    Library {
        /// The program.
        program: PathBuf,
        /// The library's name.
        library: String,
    },
    /// `ldd` is missing, or fails.
    #[error("cannot list the libraries of {program} with ldd: {why}")]
    Ldd {
        /// The program.
        program: PathBuf,
        /// What it said.
        why: String,
    },
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Programs of other systems do not run in containers.
    #[error(
        "images hold programs for Linux: run `meshdojo image save` there, or build with Docker"
    )]
    NotLinux,
}

/// A function that names the file of an error.
pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { path, source }
}

/// `meshdojo image save`.
#[derive(Clone, Debug, clap::Args)]
pub struct SaveArgs {
    /// Where to write the archive
    pub file: PathBuf,
    /// Name of the image
    #[arg(long, value_name = "NAME:TAG", default_value = concat!("meshdojo/meshdojo:", env!("CARGO_PKG_VERSION")))]
    pub name: String,
    /// Leave out a program (of sh, curl, nft, ip) that this machine has not
    #[arg(long, value_name = "PROGRAM")]
    pub without: Vec<String>,
    /// Put in another program of this machine, with its libraries
    #[arg(long, value_name = "PROGRAM")]
    pub with: Vec<String>,
}

/// Writes the archive. `links` are names under which the binary is found, too.
///
/// # Errors
/// See [`Error`].
pub fn save(args: &SaveArgs, links: &[&str]) -> Result<(), Error> {
    if !cfg!(target_os = "linux") {
        return Err(Error::NotLinux);
    }
    let own = Path::new("/proc/self/exe");
    let binary = std::fs::read_link(own).map_err(at(own))?;
    let tree = contents::collect(&binary, links, &args.with, &args.without)?;
    let image = Image {
        name: args.name.clone(),
        tree,
    };
    // Whole or not at all.
    let folder = match args.file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let mut file = tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o644))
        .tempfile_in(folder)
        .map_err(at(folder))?;
    let bytes = image.archive()?;
    file.write_all(&bytes).map_err(at(&args.file))?;
    file.persist(&args.file)
        .map_err(|error| at(&args.file)(error.error))?;
    eprintln!(
        "{}: image {}, {} files, {:.1} MB",
        args.file.display(),
        args.name,
        image.tree.len(),
        bytes.len() as f64 / 1e6
    );
    Ok(())
}
