//! Paths that a student types for a container, told apart from the host's.
//!
//! A container's `/` is a folder ([`ROOT`]), and no command knows that. So the arguments of commands
//! run by `kubectl exec` that name what is there are rewritten: `cat /etc/config/key` reads the
//! volume, `ls /proc` the host. What a shell is told in one argument (`sh -c`) is left alone.

use super::process::Launch;
use std::path::Path;

/// Environment variable with the folder that stands for the container's `/`.
pub const ROOT: &str = "DOJO_ROOT";

/// The command as it is run: programs of the image replaced, paths of the container made real.
pub(super) fn inside(launch: &Launch, command: &[String]) -> Vec<String> {
    let root = launch.env.get(ROOT).map(String::as_str).unwrap_or("/");
    let word = command.first().map(String::as_str).unwrap_or_default();
    let name = word.rsplit('/').next().unwrap_or(word);
    let mut argv = match launch.programs.get(name) {
        Some(instead) => instead.clone(),
        None => vec![program(word, name, root, launch)],
    };
    let arguments = command.get(1..).unwrap_or_default();
    let packs = name == "tar" && arguments.first().is_some_and(|a| a.contains('c'));
    for (index, argument) in arguments.iter().enumerate() {
        let mapped = real(argument, root);
        match mapped {
            // an archive names its members as the container does
            Some(_)
                if packs
                    && arguments
                        .get(index.wrapping_sub(1))
                        .is_none_or(|a| a != "-C") =>
            {
                let member = argument.trim_start_matches('/');
                let member = if member.is_empty() { "." } else { member };
                argv.extend(["-C".into(), root.to_owned(), member.to_owned()]);
            }
            Some(path) => argv.push(path),
            None => argv.push(argument.clone()),
        }
    }
    argv
}

/// A program named by its path in the upstream image is found where programs are.
fn program(word: &str, name: &str, root: &str, launch: &Launch) -> String {
    if !word.starts_with('/') {
        return word.to_owned();
    }
    let there = format!("{root}{word}");
    if Path::new(&there).exists() {
        return there;
    }
    let path = launch.env.get("PATH").map(String::as_str);
    let tool = std::env::split_paths(path.unwrap_or_default())
        .next()
        .map(|tools| tools.join(name))
        .filter(|tool| tool.exists());
    match tool {
        Some(tool) => tool.display().to_string(),
        None if Path::new(word).exists() => word.to_owned(),
        // by its name: another system may keep it elsewhere
        None => name.to_owned(),
    }
}

/// Where an argument really is, if it names something of the container.
fn real(argument: &str, root: &str) -> Option<String> {
    if !argument.starts_with('/') {
        return None;
    }
    let there = format!("{root}{argument}");
    if Path::new(&there).exists() {
        return Some(there);
    }
    let parent = Path::new(argument).parent()?.to_str()?;
    let to_be_made = parent != "/"
        && !Path::new(argument).exists()
        && Path::new(&format!("{root}{parent}")).exists();
    to_be_made.then_some(there)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn what_is_in_the_container_is_found_there() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().display().to_string();
        std::fs::create_dir_all(folder.path().join("tmp")).unwrap();
        std::fs::create_dir_all(folder.path().join("bin")).unwrap();
        std::fs::write(folder.path().join("bin/fortio"), "").unwrap();
        std::fs::write(folder.path().join("tmp/key"), "").unwrap();
        let launch = Launch {
            argv: Vec::new(),
            env: [
                (ROOT.to_owned(), root.clone()),
                ("PATH".to_owned(), format!("{root}/bin:/usr/bin")),
            ]
            .into(),
            dir: folder.path().into(),
            programs: [("pilot-agent".to_owned(), words(&["/self"]))].into(),
        };
        let run = |command: &[&str]| inside(&launch, &words(command)).join(" ");
        assert_eq!(run(&["cat", "/tmp/key"]), format!("cat {root}/tmp/key"));
        assert_eq!(run(&["touch", "/tmp/new"]), format!("touch {root}/tmp/new"));
        assert_eq!(run(&["ls", "/proc", "/reviews"]), "ls /proc /reviews");
        assert_eq!(
            run(&["tar", "cf", "-", "/tmp/key"]),
            format!("tar cf - -C {root} tmp/key")
        );
        assert_eq!(
            run(&["tar", "-xmf", "-", "-C", "/tmp"]),
            format!("tar -xmf - -C {root}/tmp")
        );
        assert_eq!(
            run(&["/usr/bin/fortio", "load"]),
            format!("{root}/bin/fortio load")
        );
        assert_eq!(run(&["/bin/sh"]), "/bin/sh");
        assert_eq!(
            run(&["/usr/local/bin/pilot-agent", "request"]),
            "/self request"
        );
        assert_eq!(run(&["/opt/nosuch"]), "nosuch");
    }
}
