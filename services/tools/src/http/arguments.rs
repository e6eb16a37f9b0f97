//! HTTPie's flags, and which word is the method, the address or an item.

use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{ArgAction, Parser, ValueEnum};

use super::items::{self, Item};

/// The flags.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "http",
    about = "Send a request and show the answer",
    long_about = None,
    no_binary_name = true,
    disable_help_flag = true,
    args_override_self = true,
    override_usage = "http [flags] [METHOD] URL [key=value key:=json Header:value param==value ...]"
)]
pub struct Flags {
    /// Send items as JSON, which is usual
    #[arg(short, long, overrides_with = "form")]
    json: bool,
    /// Send items as a form
    #[arg(short, long)]
    pub form: bool,
    /// Send this body
    #[arg(long)]
    pub raw: Option<String>,
    /// Show the request, too
    #[arg(short, long)]
    pub verbose: bool,
    /// Show only the answer's headers
    #[arg(short = 'h', long)]
    pub headers: bool,
    /// Show only the answer's body
    #[arg(short, long)]
    pub body: bool,
    /// What to show: H and B for the request's headers and body, h and b for the answer's
    #[arg(short, long, value_parser = parts)]
    pub print: Option<String>,
    /// Show nothing
    #[arg(short, long)]
    pub quiet: bool,
    /// Whether to indent and colour; usual on a terminal
    #[arg(long, value_enum)]
    pub pretty: Option<Pretty>,
    /// Write the answer's body to this file
    #[arg(short, long)]
    pub output: Option<PathBuf>,
    /// Follow redirects
    #[arg(short = 'F', long)]
    pub follow: bool,
    /// How many redirects to follow
    #[arg(long, default_value_t = 30)]
    pub max_redirects: u32,
    /// Show the answers that redirect, too
    #[arg(long)]
    pub all: bool,
    /// Time limit in seconds; 0 for none
    #[arg(long, default_value = "0", value_parser = seconds)]
    pub timeout: Duration,
    /// Exit with 3, 4 or 5 when the answer's status begins with it
    #[arg(long)]
    pub check_status: bool,
    /// user:password for basic authentication
    #[arg(short, long)]
    pub auth: Option<String>,
    /// Do not read a body from standard input
    #[arg(short = 'I', long)]
    pub ignore_stdin: bool,
    /// no: trust any certificate; a file: trust its authorities
    #[arg(long, default_value = "yes")]
    pub verify: String,
    /// Show this help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
    /// Show the version
    #[arg(long)]
    version: bool,
    /// Method, address and items
    #[arg(allow_hyphen_values = false)]
    words: Vec<String>,
    /// The words, understood.
    #[arg(skip)]
    pub line: Line,
}

/// Method, address and items.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Line {
    /// The method in capitals, when given.
    pub method: Option<String>,
    /// The address.
    pub url: String,
    /// The items in order.
    pub items: Vec<Item>,
}

impl Line {
    /// Whether an item is part of a body.
    #[must_use]
    pub fn has_data(&self) -> bool {
        self.items.iter().any(Item::is_data)
    }
}

/// Whether to indent and colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Pretty {
    /// Indent and colour
    All,
    /// Colour alone
    Colors,
    /// Indent alone
    Format,
    /// Neither
    None,
}

/// What a command line asks for.
#[derive(Debug)]
pub enum Parsed {
    /// A request.
    Flags(Box<Flags>),
    /// A text on standard output: help or the version.
    Show(String),
}

/// Reads a command line.
///
/// # Errors
/// When it cannot be used, with what to print.
pub fn parse(arguments: &[String]) -> Result<Parsed, String> {
    let mut flags = match Flags::try_parse_from(arguments) {
        Ok(flags) => flags,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            return Ok(Parsed::Show(error.to_string()));
        }
        Err(error) => return Err(error.to_string()),
    };
    if flags.version {
        return Ok(Parsed::Show(format!(
            "{}-meshdojo\n",
            env!("CARGO_PKG_VERSION")
        )));
    }
    flags.line = line(&flags.words).map_err(|error| {
        format!("usage: http [METHOD] URL [ITEM ...]\n\nhttp: error: {error}\n")
    })?;
    Ok(Parsed::Flags(Box::new(flags)))
}

fn line(words: &[String]) -> Result<Line, String> {
    let is_method = |word: &str| word.bytes().all(|byte| byte.is_ascii_alphabetic());
    let (method, url, rest) = match words {
        [] => return Err("the following arguments are required: URL".to_owned()),
        // A word that can be a method is one when the next word is no item: `http put host/path`.
        [method, url, rest @ ..] if is_method(method) && !items::looks_like_item(url) => {
            (Some(method.to_ascii_uppercase()), url, rest)
        }
        [url, rest @ ..] => (None, url, rest),
    };
    let items = rest.iter().map(|word| items::parse(word));
    Ok(Line {
        method,
        url: address(url),
        items: items
            .collect::<Result<_, _>>()
            .map_err(|error| error.to_string())?,
    })
}

/// `:8080/path` and `:/path` are on this machine.
fn address(url: &str) -> String {
    match url.strip_prefix(':') {
        Some(rest) if !rest.starts_with(':') => {
            let digits = rest.chars().take_while(char::is_ascii_digit).count();
            match (digits, &rest[digits..]) {
                (0, path) => format!("http://localhost{path}"),
                (_, path) => format!("http://localhost:{}{path}", &rest[..digits]),
            }
        }
        _ => url.to_owned(),
    }
}

fn parts(text: &str) -> Result<String, String> {
    if text.chars().all(|part| "HBhb".contains(part)) {
        return Ok(text.to_owned());
    }
    Err("write any of H, B, h and b, for example hb".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok();
    seconds
        .filter(|seconds| (0.0..=86_400.0).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "write a number of seconds from 0 to 86400".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(text: &str) -> Result<Flags, String> {
        let words: Vec<_> = text
            .split(' ')
            .filter(|w| !w.is_empty())
            .map(str::to_owned)
            .collect();
        match parse(&words)? {
            Parsed::Flags(flags) => Ok(*flags),
            Parsed::Show(text) => Err(text),
        }
    }

    #[test]
    fn the_labs_command_lines_are_understood() {
        let echo = "http://delivery:8080/actuator/echo";
        for (text, method) in [
            (echo.to_owned(), None),
            (format!("GET {echo}"), Some("GET")),
            (format!("put {echo}"), Some("PUT")),
        ] {
            let line = flags(&text).expect(&text).line;
            assert_eq!((line.method.as_deref(), line.url.as_str()), (method, echo));
        }
    }

    #[test]
    fn short_addresses_are_on_this_machine() {
        for (given, whole) in [
            (":8080/x", "http://localhost:8080/x"),
            (":/x", "http://localhost/x"),
            (":", "http://localhost"),
            ("reviews:9080", "reviews:9080"),
        ] {
            assert_eq!(address(given), whole);
        }
    }

    #[test]
    fn mistakes_are_explained() {
        for (text, message) in [
            ("", "the following arguments are required: URL"),
            ("GET http://x/ what", "\"what\" is not an item"),
            ("--print=x http://x/", "any of H, B, h and b"),
            ("--timeout=soon http://x/", "number of seconds"),
            ("--nope http://x/", "unexpected argument '--nope'"),
        ] {
            let error = flags(text).expect_err(message);
            assert!(error.contains(message), "{error}");
        }
    }
}
