//! siege's flags, and its addresses with method and body in one argument.

use std::time::Duration;

use clap::Parser;
use clap::error::ErrorKind;

/// The flags.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "siege",
    about = "Simulated users that besiege an address",
    long_about = None,
    no_binary_name = true,
    disable_version_flag = true,
    args_override_self = true
)]
pub struct Flags {
    /// Simulated users
    #[arg(short, long, default_value_t = 25, value_parser = clap::value_parser!(u16).range(1..=5_000))]
    pub concurrent: u16,
    /// How long, a number and S, M or H; minutes without a letter
    #[arg(short, long, value_name = "NUMm", value_parser = time)]
    pub time: Option<Duration>,
    /// How many requests each user sends
    #[arg(short, long, value_name = "NUM", value_parser = clap::value_parser!(u64).range(1..))]
    pub reps: Option<u64>,
    /// The longest rest of a user between two requests, in seconds
    #[arg(short, long, value_name = "NUM", default_value = "1", value_parser = delay)]
    pub delay: Duration,
    /// No rests between requests
    #[arg(short, long)]
    pub benchmark: bool,
    /// Print a line for every request
    #[arg(short, long)]
    pub verbose: bool,
    /// Print no line for requests
    #[arg(short, long, overrides_with = "verbose")]
    pub quiet: bool,
    /// The body's type
    #[arg(short = 'T', long)]
    pub content_type: Option<String>,
    /// A header, `Name: value`; may be repeated
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    pub headers: Vec<String>,
    /// What to send as user-agent
    #[arg(short = 'A', long)]
    pub user_agent: Option<String>,
    /// Keep connections for the next request instead of closing them
    #[arg(long)]
    pub keep_alive: bool,
    /// Time limit of each request, for example 30s
    #[arg(long, default_value = "30s", value_parser = dojo_kit::duration::parse)]
    pub timeout: Duration,
    /// Print the version
    #[arg(short = 'V', long)]
    version: bool,
    /// The address, alone or followed by a method and a body: 'http://host/path POST {"a":1}'
    #[arg(value_name = "URL")]
    urls: Vec<String>,
}

/// An address with what is sent there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetLine {
    /// The address.
    pub url: String,
    /// The method.
    pub method: String,
    /// The body; empty for none.
    pub body: String,
}

/// A siege to be laid.
#[derive(Clone, Debug)]
pub struct Besiege {
    /// How.
    pub flags: Flags,
    /// To whom.
    pub target: TargetLine,
}

/// What a command line asks for.
#[derive(Debug)]
pub enum Parsed {
    /// A siege.
    Besiege(Box<Besiege>),
    /// A text on standard output: help or the version.
    Show(String),
}

/// Reads a command line.
///
/// # Errors
/// When it cannot be used, with what to print.
pub fn parse(arguments: &[String]) -> Result<Parsed, String> {
    let flags = match Flags::try_parse_from(arguments) {
        Ok(flags) => flags,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            return Ok(Parsed::Show(error.to_string()));
        }
        Err(error) => return Err(error.to_string()),
    };
    if flags.version {
        let version = env!("CARGO_PKG_VERSION");
        return Ok(Parsed::Show(format!("SIEGE 4.0.4 (meshdojo {version})\n")));
    }
    let target = match flags.urls.as_slice() {
        [] => return Err(
            "[error] no address to besiege; give one, for example http://booking:8080/bookings\n"
                .to_owned(),
        ),
        // Method and body may come unquoted, too.
        words => target_line(&words.join(" "))?,
    };
    Ok(Parsed::Besiege(Box::new(Besiege { flags, target })))
}

/// Reads `URL`, `URL POST` or `URL POST body with blanks`.
fn target_line(text: &str) -> Result<TargetLine, String> {
    let mut parts = text.trim().splitn(3, char::is_whitespace);
    let url = parts.next().unwrap_or_default().to_owned();
    let method = parts.next().unwrap_or("GET").to_ascii_uppercase();
    let body = parts.next().unwrap_or_default().trim().to_owned();
    let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    if !known.contains(&method.as_str()) {
        return Err(format!(
            "[error] {method:?} after the address is not a method; write 'URL POST BODY' in quotes\n"
        ));
    }
    if let Some(file) = body.strip_prefix('<') {
        let file = file.trim();
        let body =
            std::fs::read_to_string(file).map_err(|error| format!("[error] {file}: {error}\n"))?;
        return Ok(TargetLine { url, method, body });
    }
    Ok(TargetLine { url, method, body })
}

/// `10S`, `2m`, `1H`; minutes without a letter.
fn time(text: &str) -> Result<Duration, String> {
    let (number, seconds) = match text.char_indices().last() {
        Some((at, 'S' | 's')) => (&text[..at], 1),
        Some((at, 'M' | 'm')) => (&text[..at], 60),
        Some((at, 'H' | 'h')) => (&text[..at], 3600),
        _ => (text, 60),
    };
    let number = number.trim().parse::<u32>().ok();
    number
        .filter(|number| *number > 0)
        .map(|number| Duration::from_secs(u64::from(number) * seconds))
        .ok_or_else(|| "write a number and S, M or H, for example 30S".to_owned())
}

fn delay(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok();
    seconds
        .filter(|seconds| (0.0..=3600.0).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "write a number of seconds from 0 to 3600".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn besiege(arguments: &[&str]) -> Result<Besiege, String> {
        let arguments: Vec<_> = arguments.iter().map(|&a| a.to_owned()).collect();
        match parse(&arguments)? {
            Parsed::Besiege(besiege) => Ok(*besiege),
            Parsed::Show(text) => Err(text),
        }
    }

    #[test]
    fn the_labs_command_line_is_understood() {
        let body = r#"{"vaccineId":1, "vcName":"FIZER", "userId":5, "status":"BOOCKED"}"#;
        let url = format!("http://booking:8080/bookings POST {body}");
        let json = "application/json";
        let siege =
            besiege(&["-c100", "-t10S", "-v", "--content-type", json, &url]).expect("a siege");
        assert_eq!(siege.flags.concurrent, 100);
        assert_eq!(siege.flags.time, Some(Duration::from_secs(10)));
        assert!(siege.flags.verbose);
        assert_eq!(siege.flags.content_type.as_deref(), Some(json));
        assert_eq!(siege.target.url, "http://booking:8080/bookings");
        assert_eq!(siege.target.method, "POST");
        assert_eq!(siege.target.body, body);
    }

    #[test]
    fn times_have_siege_s_letters() {
        for (text, seconds) in [("10S", 10), ("2m", 120), ("1H", 3600), ("3", 180)] {
            assert_eq!(time(text), Ok(Duration::from_secs(seconds)));
        }
        assert!(time("S").is_err() && time("0S").is_err() && time("soon").is_err());
    }

    #[test]
    fn mistakes_are_explained() {
        for (arguments, message) in [
            (vec!["-c10"], "no address to besiege"),
            (vec!["http://x/ body"], "is not a method"),
            (vec!["-c0", "x"], "1..=5000"),
            (vec!["--nope", "x"], "unexpected argument '--nope'"),
            (vec!["-t", "soon", "x"], "for example 30S"),
            (vec!["http://x/ POST </nowhere"], "/nowhere: "),
        ] {
            let error = besiege(&arguments).expect_err(message);
            assert!(error.contains(message), "{error}");
        }
        assert!(
            besiege(&["-V"])
                .expect_err("a text")
                .starts_with("SIEGE 4.0.4")
        );
    }
}
