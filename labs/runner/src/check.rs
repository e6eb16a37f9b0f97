//! What a `check` block can demand. Each item of the block is one of these; all must hold.

use std::{collections::BTreeMap, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

pub mod range;

pub use range::{Range, Seconds};

/// One demand on the cluster.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Check {
    /// The answer to a request.
    Http(Http),
    /// How answers are distributed, decided by a sequential test.
    Shares(Shares),
    /// How many different answers come.
    Answers(Answers),
    /// A line in the log of a container.
    Log(Log),
    /// How a counter of a proxy changes.
    Stat(Stat),
    /// An object of the cluster and its fields.
    Resource(Resource),
    /// How many pods there are, and whether they are ready.
    Pods(Pods),
    /// A certificate that proxies hold.
    Certificate(Certificate),
    /// Which services one request went through under one id.
    Trace(Trace),
}

impl Check {
    /// The namespaces that it looks into.
    pub fn namespaces_mut(&mut self) -> Vec<&mut String> {
        match self {
            Self::Http(http) => vec![&mut http.request.namespace],
            Self::Shares(shares) => vec![&mut shares.request.namespace],
            Self::Answers(answers) => vec![&mut answers.request.namespace],
            Self::Log(log) => [&mut log.namespace]
                .into_iter()
                .chain(log.after.as_mut().map(|request| &mut request.namespace))
                .collect(),
            Self::Stat(stat) => [&mut stat.namespace]
                .into_iter()
                .chain(stat.during.as_mut().map(|request| &mut request.namespace))
                .collect(),
            Self::Resource(resource) => vec![&mut resource.namespace],
            Self::Pods(pods) => vec![&mut pods.namespace],
            Self::Certificate(certificate) => vec![&mut certificate.namespace],
            Self::Trace(trace) => vec![&mut trace.request.namespace],
        }
    }
}

/// A request.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// `/path`: through the ingress gateway. `http://name:port/path`: from inside the mesh, see `from`.
    pub url: String,
    /// The pod that sends it: `deploy/NAME`, `pod/NAME` or `app=LABEL`. Needed for a URL with a host.
    pub from: Option<String>,
    /// The pod that it goes to, from this machine, which is outside the mesh: the address of the pod takes the place of
    /// the host `pod` in the URL.
    pub to: Option<String>,
    /// Namespace of `from` and `to`.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// The Host header, when it is not that of the URL.
    pub host: Option<String>,
    /// GET when not given.
    pub method: Option<String>,
    /// Headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Body.
    pub body: Option<String>,
    /// A form that is sent first; the cookies of its answer go with the request.
    pub session: Option<Session>,
    /// The service that the step is about, when the URL does not name it: where causes are looked for.
    pub about: Option<String>,
    /// How long an answer is waited for.
    #[serde(default = "Seconds::fifteen")]
    pub patience: Seconds,
}

/// A login.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// Path of the form, through the ingress gateway.
    pub url: String,
    /// Its fields.
    pub form: BTreeMap<String, String>,
}

/// See [`Check::Http`].
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// What is sent.
    pub request: Request,
    /// So many times, one after the other; every answer must be as expected.
    #[serde(default = "one")]
    pub times: u32,
    /// What must come back.
    pub expect: Expect,
}

/// What an answer must be.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Status; 0 when the connection must fail.
    pub status: Option<u16>,
    /// Regular expressions that values of headers must match.
    #[serde(default)]
    pub headers: BTreeMap<String, Pattern>,
    /// Regular expressions that must be found in the body.
    #[serde(default)]
    pub body: Vec<Pattern>,
    /// Regular expressions that must not be found in the body.
    #[serde(default)]
    pub not_body: Vec<Pattern>,
    /// From sending to the last byte: `5.9s..7s`.
    pub time: Option<Range<Seconds>>,
}

/// See [`Check::Shares`].
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shares {
    /// What is sent.
    pub request: Request,
    /// What answers are told apart by.
    pub by: By,
    /// Percentages by answer: `50` or `30..50`. An answer that is not named must not come, unless `others` is true.
    pub expect: BTreeMap<String, Range<Percent>>,
    /// Whether answers that are not named may come.
    #[serde(default)]
    pub others: bool,
    /// Percentage points beyond the expected ones from which a share is certainly wrong.
    #[serde(default = "ten")]
    pub margin: Percent,
    /// So many requests at a time.
    #[serde(default = "four")]
    pub at_a_time: usize,
    /// The test ends after so many requests, decided or not.
    #[serde(default = "three_thousand")]
    pub cap: u32,
}

/// See [`Check::Answers`].
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Answers {
    /// What is sent.
    pub request: Request,
    /// What answers are told apart by.
    pub by: By,
    /// So many different ones; `2..` at least two.
    pub distinct: Option<Range<Count>>,
    /// Each of these must come.
    #[serde(default)]
    pub include: Vec<String>,
    /// None of these may come.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// So many requests at a time. More than one makes them race.
    #[serde(default = "one_at_a_time")]
    pub at_a_time: usize,
    /// Requests to send. What must come ends the test as soon as it has come.
    #[serde(default = "sixty")]
    pub times: u32,
}

/// What answers are told apart by.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum By {
    /// The status.
    Status,
    /// The first match of a regular expression in the body: its first group, else all of it; `-` without a match.
    Body(Pattern),
    /// A header; `-` without it.
    Header(String),
    /// `slow` when the answer takes this long or longer, else `fast`.
    Time(Seconds),
}

/// See [`Check::Log`].
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// `deploy/NAME`, `pod/NAME` or a label: `app=reviews`. With several pods one of them must have the line.
    pub of: String,
    /// Its namespace.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// The container.
    #[serde(default = "proxy")]
    pub container: String,
    /// A regular expression for a line.
    pub line: Pattern,
    /// Sent first, so that there is something to be logged.
    pub after: Option<Request>,
    /// How many times `after` is sent.
    #[serde(default = "one")]
    pub times: u32,
    /// So many times at once.
    #[serde(default = "one_at_a_time")]
    pub at_a_time: usize,
}

/// See [`Check::Stat`].
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stat {
    /// The pods whose proxies are asked, as in `log`; values are added up.
    pub of: String,
    /// Their namespace.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// A regular expression for the counter's name in `/stats`; the values of all that match are added up.
    pub name: Pattern,
    /// What its value must be now.
    pub value: Option<Range<Count>>,
    /// What is sent meanwhile; with it, `rise` is looked at.
    pub during: Option<Request>,
    /// How many times `during` is sent.
    #[serde(default = "one")]
    pub times: u32,
    /// So many times at once.
    #[serde(default = "one_at_a_time")]
    pub at_a_time: usize,
    /// By how much it must rise: `1..`, `0`.
    pub rise: Option<Range<Count>>,
    /// It must rise by as many as answers came that have this status.
    pub rises_with_status: Option<u16>,
}

/// See [`Check::Resource`].
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Resource {
    /// `networking.istio.io/v1`.
    pub api_version: String,
    /// `VirtualService`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its namespace; `""` for objects without.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// It must not be there.
    #[serde(default)]
    pub absent: bool,
    /// Values by JSON pointer (`/spec/hosts/0`); `null`: the field must not be there; text that begins with `~` is a
    /// regular expression for the value.
    #[serde(default)]
    pub fields: BTreeMap<String, serde_json::Value>,
    /// Ranges of numbers by JSON pointer.
    #[serde(default)]
    pub ranges: BTreeMap<String, Range<Count>>,
}

/// See [`Check::Pods`].
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pods {
    /// A label selector: `app=reviews`.
    pub selector: String,
    /// Their namespace.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// How many there are, those that end not counted.
    pub count: Option<Range<Count>>,
    /// What `kubectl get pods` shows under READY for each: `2/2`.
    pub ready: Option<String>,
}

/// See [`Check::Certificate`].
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The pods whose proxies are asked, as in `log`; each must hold it.
    pub of: String,
    /// Their namespace.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// A regular expression for one of its names: `^spiffe://cluster.local/ns/default/`, or a host.
    pub name: Pattern,
    /// For how long it is still valid: `60s..86400s`.
    pub valid_for: Option<Range<Seconds>>,
    /// No proxy may hold it.
    #[serde(default)]
    pub absent: bool,
}

/// See [`Check::Trace`].
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// What is sent, through the ingress gateway or from a pod.
    pub request: Request,
    /// The pods whose proxies must have logged it under its id, in the order of the calls; as in `log`.
    pub through: Vec<String>,
    /// Those that must not have: they got another id, or were not called.
    #[serde(default)]
    pub not_through: Vec<String>,
}

/// A regular expression.
#[derive(Clone, Debug)]
pub struct Pattern(pub regex::Regex);

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        regex::Regex::new(&text).map(Self).map_err(|error| {
            // Its message has several lines with a marker; the last says what is wrong.
            let text = error.to_string();
            de::Error::custom(text.lines().last().unwrap_or_default().trim())
        })
    }
}

impl JsonSchema for Pattern {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Pattern".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "regex" })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

/// Per cent.
pub type Percent = f64;
/// A number of things.
pub type Count = u64;

fn default_namespace() -> String {
    "default".into()
}
fn proxy() -> String {
    "istio-proxy".into()
}
fn one() -> u32 {
    1
}
fn one_at_a_time() -> usize {
    1
}
fn four() -> usize {
    4
}
fn ten() -> Percent {
    10.0
}
fn sixty() -> u32 {
    60
}
fn three_thousand() -> u32 {
    3000
}

/// The JSON schema of a `check` block.
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(Vec<Check>);
    schema.insert("title".into(), "A check block of a lab".into());
    schema.to_value()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_schema_beside_the_book_is_this_one() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../book/check.schema.json");
        let ours = serde_json::to_string_pretty(&super::schema()).unwrap() + "\n";
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(file, &ours).unwrap();
        }
        let kept = std::fs::read_to_string(file).unwrap_or_default();
        assert!(
            kept == ours,
            "write it again with UPDATE=1 cargo test -p lab-runner schema"
        );
    }
}
