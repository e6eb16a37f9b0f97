//! A case as it stands in `cases/*.yaml`.
//!
//! Each case has a Service of its own, named like the case, with pods v1, v2 and v3 and a
//! DestinationRule with those subsets; in its rules the host `web` stands for that Service. So
//! cases share proxies and nothing else.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;
use serde_json::Value;

/// Through which proxy the requests of a case go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Through {
    /// A client's sidecar: the rules are bound to the mesh.
    #[default]
    Sidecar,
    /// An ingress gateway: the rules are bound to it, for the host `NAME.test`.
    Gateway,
    /// The sidecar of the workload that serves: no rules.
    Inbound,
}

/// One case.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Case {
    /// Name of the case and of its Service: lower-case words joined by dashes.
    #[serde(rename = "case")]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) through: Through,
    /// Pods behind the Service: v1, v2, v3, `refusing` (nothing listens), `silent` (a connection
    /// is never accepted), `not-ready`. Absent: v1 to v3 when the rules name subsets, else v1.
    pods: Option<Vec<String>>,
    /// Ports of the Service besides 80: http2 (81), grpc (82), tcp (83), auto (84).
    #[serde(default)]
    pub(crate) ports: Vec<String>,
    /// `spec.http` of a VirtualService; absent: none (sidecar), everything to the Service (gateway).
    pub(crate) http: Option<Value>,
    /// `spec.trafficPolicy` of the DestinationRule.
    pub(crate) policy: Option<Value>,
    /// Further objects.
    #[serde(default)]
    pub(crate) with: Vec<Value>,
    /// What is asked, in turn.
    pub(crate) send: Vec<Send>,
}

impl Case {
    /// Names of the pods behind the Service.
    pub(crate) fn pods(&self) -> Vec<&str> {
        let subsets = self
            .http
            .as_ref()
            .is_some_and(|http| http.to_string().contains("subset"));
        match &self.pods {
            Some(pods) => pods.iter().map(String::as_str).collect(),
            None if subsets => vec!["v1", "v2", "v3"],
            None => vec!["v1"],
        }
    }

    /// The host that its requests ask for.
    pub(crate) fn host(&self) -> String {
        match self.through {
            Through::Sidecar => self.name.clone(),
            Through::Gateway => format!("{}.test", self.name),
            Through::Inbound => "client".into(),
        }
    }
}

/// One request, or the same several times.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", from = "Form")]
pub(crate) struct Send {
    /// `GET /path`, then what both must answer: `-> 200 v1` (status, start of the body).
    pub(crate) ask: String,
    pub(crate) expect: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) host: Option<String>,
    pub(crate) body: Option<String>,
    pub(crate) raw: Vec<String>,
    pub(crate) upstream: Script,
    pub(crate) times: usize,
    pub(crate) at_once: usize,
    pub(crate) took: Option<f64>,
    pub(crate) leave_after: Option<f64>,
    pub(crate) pause: f64,
    pub(crate) http2: bool,
    pub(crate) port: u16,
    pub(crate) spread: Option<f64>,
    pub(crate) unnamed: bool,
    pub(crate) admin: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Form {
    Short(String),
    Long(Box<Long>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Long {
    #[serde(default)]
    ask: String,
    /// Values may be lists: the header is repeated.
    #[serde(default)]
    headers: BTreeMap<String, Value>,
    /// Instead of the case's own host.
    host: Option<String>,
    /// A body with its length; `chunked:` before it sends it so.
    body: Option<String>,
    /// Bytes in place of a request; of several, each is sent when the answer to the one before
    /// has come.
    #[serde(default)]
    raw: Vec<String>,
    /// What the application does.
    #[serde(default)]
    upstream: Script,
    #[serde(default = "once")]
    times: usize,
    /// How many of them at the same time.
    #[serde(default = "once")]
    at_once: usize,
    /// Seconds until the answer, at least; at most one and a half more.
    took: Option<f64>,
    /// The client hangs up after this many seconds.
    leave_after: Option<f64>,
    /// Seconds to wait before.
    #[serde(default)]
    pause: f64,
    #[serde(default)]
    http2: bool,
    #[serde(default = "eighty")]
    port: u16,
    /// Answers are compared by how often each occurred: by how much (share of `times`) the two may
    /// differ; absent: by what chance allows.
    spread: Option<f64>,
    /// Only how many requests went to the same pod counts, not which it is.
    #[serde(default)]
    unnamed: bool,
    /// Asks the admin interface.
    #[serde(default)]
    admin: bool,
}

fn once() -> usize {
    1
}

fn eighty() -> u16 {
    80
}

impl From<Form> for Send {
    fn from(form: Form) -> Self {
        let long = match form {
            Form::Long(long) => *long,
            Form::Short(ask) => Long {
                ask,
                headers: BTreeMap::new(),
                host: None,
                body: None,
                raw: Vec::new(),
                upstream: Script::default(),
                times: 1,
                at_once: 1,
                took: None,
                leave_after: None,
                pause: 0.0,
                http2: false,
                port: 80,
                spread: None,
                unnamed: false,
                admin: false,
            },
        };
        let (ask, expect) = match long.ask.split_once(" -> ") {
            Some((ask, expect)) => (ask.to_owned(), Some(expect.to_owned())),
            None => (long.ask, None),
        };
        let lines = |(name, value): (String, Value)| match value {
            Value::Array(values) => values
                .into_iter()
                .map(|v| (name.clone(), text(&v)))
                .collect(),
            value => vec![(name, text(&value))],
        };
        Self {
            ask,
            expect,
            headers: long.headers.into_iter().flat_map(lines).collect(),
            host: long.host,
            body: long.body.map(|body| text(&body.into())),
            raw: long.raw,
            upstream: long.upstream,
            times: long.times,
            at_once: long.at_once,
            took: long.took,
            leave_after: long.leave_after,
            pause: long.pause,
            http2: long.http2,
            port: long.port,
            spread: long.spread,
            unnamed: long.unnamed,
            admin: long.admin,
        }
    }
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// What the application does: a list by attempt (the last repeats) or a map by pod.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Script {
    /// The n-th attempt.
    ByAttempt(Vec<Action>),
    /// By name of the pod; others answer 200.
    ByPod(BTreeMap<String, Action>),
}

impl Default for Script {
    fn default() -> Self {
        Self::ByAttempt(Vec::new())
    }
}

/// What the application does with a request: a status, or more of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "ActionForm")]
pub(crate) struct Action {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Option<String>,
    pub(crate) trailers: Vec<(String, String)>,
    pub(crate) after: f64,
    pub(crate) raw: Option<String>,
    pub(crate) end: End,
}

/// What becomes of the connection after the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum End {
    /// It is kept for the next request.
    #[default]
    Keep,
    /// It is closed; without a `raw` answer nothing is answered.
    Close,
    /// It is reset, nothing is answered.
    Reset,
    /// Nothing is answered, ever.
    Hang,
    /// Bytes are sent back from then on.
    Echo,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ActionForm {
    Status(u16),
    End(End),
    Full(Box<ActionFields>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ActionFields {
    status: Option<u16>,
    #[serde(default)]
    headers: BTreeMap<String, Value>,
    /// Absent: the name of the pod.
    body: Option<String>,
    /// The answer is chunked and ends with these.
    #[serde(default)]
    trailers: BTreeMap<String, Value>,
    /// Seconds until the answer.
    #[serde(default)]
    after: f64,
    /// Bytes in place of an answer.
    raw: Option<String>,
    #[serde(default)]
    end: End,
}

impl Default for Action {
    fn default() -> Self {
        ActionForm::Status(200).into()
    }
}

impl From<ActionForm> for Action {
    fn from(form: ActionForm) -> Self {
        let mut action = Self {
            status: 200,
            headers: Vec::new(),
            body: None,
            trailers: Vec::new(),
            after: 0.0,
            raw: None,
            end: End::Keep,
        };
        let pairs = |map: BTreeMap<String, Value>| {
            map.into_iter()
                .map(|(name, value)| (name, text(&value)))
                .collect()
        };
        match form {
            ActionForm::Status(status) => action.status = status,
            ActionForm::End(end) => action.end = end,
            ActionForm::Full(fields) => {
                action.status = fields.status.unwrap_or(200);
                action.headers = pairs(fields.headers);
                action.body = fields.body.map(|body| text(&body.into()));
                action.trailers = pairs(fields.trailers);
                action.after = fields.after;
                action.raw = fields.raw;
                action.end = fields.end;
            }
        }
        action
    }
}

/// All cases of a folder, in the order of the files.
///
/// # Panics
/// When a file does not fit, or two cases have one name.
pub(crate) fn read(folder: &Path) -> Vec<Case> {
    let entries = std::fs::read_dir(folder).expect("the folder of cases");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    let mut all: Vec<Case> = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("readable");
        let cases: Vec<Case> = serde_norway::from_str(&text)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for case in cases {
            assert!(
                all.iter().all(|other| other.name != case.name),
                "two cases are called {}",
                case.name
            );
            all.push(case);
        }
    }
    all
}
