//! What a program needs beside itself.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::Error;

/// The shared libraries of a program and their loader, as `ldd` finds them; none for one that is
/// linked statically.
pub(crate) fn of(program: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |why: String| Error::Ldd {
        program: program.to_owned(),
        why,
    };
    let output = Command::new("ldd")
        .arg(program)
        .env("LC_ALL", "C")
        .output()
        .map_err(|error| failed(error.to_string()))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let alone = ["not a dynamic executable", "Not a valid dynamic program"];
        if alone.iter().any(|text| errors.contains(text)) {
            return Ok(Vec::new());
        }
        return Err(failed(errors.trim().to_owned()));
    }
    parse(&String::from_utf8_lossy(&output.stdout)).map_err(|library| Error::Library {
        program: program.to_owned(),
        library,
    })
}

/// `libc.so.6 => /lib/libc.so.6 (0x7f)` and `/lib64/ld-linux-x86-64.so.2 (0x7f)`; what is in the
/// kernel (`linux-vdso.so.1 (0x7f)`) is no file. `Err` names a library that is missing.
fn parse(listed: &str) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for line in listed.lines().map(str::trim) {
        let (name, place) = line.split_once(" => ").unwrap_or(("", line));
        if place.starts_with("not found") {
            return Err(name.to_owned());
        }
        let place = place.split(" (").next().unwrap_or_default();
        if place.starts_with('/') {
            found.push(PathBuf::from(place));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_ldd() {
        let listed = "\tlinux-vdso.so.1 (0x00007ffc)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f8f)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f8f)\n";
        let paths = [
            "/lib/x86_64-linux-gnu/libc.so.6",
            "/lib64/ld-linux-x86-64.so.2",
        ];
        assert_eq!(parse(listed).unwrap(), paths.map(PathBuf::from));
        assert_eq!(
            parse("\tstatically linked\n").unwrap(),
            Vec::<PathBuf>::new()
        );
        let missing = "\tlibgone.so.1 => not found\n";
        assert_eq!(parse(missing).unwrap_err(), "libgone.so.1");
    }
}
