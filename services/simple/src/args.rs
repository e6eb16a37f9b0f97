//! The variables of the fake service, each also a flag.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::http::StatusCode;
use dojo_kit::chaos::settings::{Pattern, Settings};
use dojo_kit::duration::parse as duration;
use dojo_kit::listen::{self, ListenAddress};
use dojo_kit::{Identity, Kit, ServeArgs};
use serde_json::Value;

use crate::cors::Cors;
use crate::load::Load;
use crate::service::{self, Config, Ready};
use crate::upstream::{Form, Upstreams};
use crate::variables;

/// The port unless told otherwise.
const PORT: u16 = 9090;
/// The most memory that a request may be made to cost, in bytes.
const MAX_MEMORY: u64 = 64 * 1024 * 1024;
/// The largest body of a call to an upstream, in bytes.
const MAX_BODY: u64 = 1024 * 1024;

/// The flags of simple.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The version, shown in metrics.
    #[arg(long, env = "SERVICE_VERSION", default_value = "v1")]
    pub version: String,
    /// The name in the answer.
    #[arg(long, env = "NAME", default_value = "Service")]
    pub name: String,
    /// The body of the answer: text, or JSON when it begins with `{`.
    #[arg(long, env = "MESSAGE", default_value = "Hello World")]
    pub message: String,
    /// Where to listen (the fake service's name for --listen).
    #[arg(long, env = "LISTEN_ADDR", value_name = "[IP:]PORT")]
    pub listen_addr: Option<ListenAddress>,
    /// Both are served on one port in any case; the variable is of old versions.
    #[arg(long, env = "SERVER_TYPE", value_name = "http|grpc", default_value = "http",
          value_parser = ["http", "grpc"])]
    pub server_type: String,
    /// Whose form of answers: 0.14 has shorter error texts, 0.18 writes upstream calls as an object
    /// by address.
    #[arg(long, env = "FAKE_SERVICE_FORM", value_enum, default_value = "0.17")]
    pub form: Form,

    /// The services to call, separated by commas: http://HOST[:PORT][/PATH] or grpc://HOST:PORT
    #[arg(
        long,
        env = "UPSTREAM_URIS",
        value_name = "URL,...",
        default_value = ""
    )]
    pub upstream_uris: String,
    /// How many are called at a time.
    #[arg(long, env = "UPSTREAM_WORKERS", value_name = "NUMBER", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=64))]
    pub upstream_workers: u16,
    /// The body of calls, which makes them POST.
    #[arg(
        long,
        env = "UPSTREAM_REQUEST_BODY",
        value_name = "TEXT",
        default_value = ""
    )]
    pub upstream_request_body: String,
    /// Or a body of so many bytes.
    #[arg(long, env = "UPSTREAM_REQUEST_SIZE", value_name = "BYTES", default_value_t = 0,
          value_parser = clap::value_parser!(u64).range(..=MAX_BODY))]
    pub upstream_request_size: u64,
    /// By how many per cent that size varies.
    #[arg(long, env = "UPSTREAM_REQUEST_VARIANCE", value_name = "PERCENT", default_value_t = 0,
          value_parser = clap::value_parser!(u8).range(..=100))]
    pub upstream_request_variance: u8,
    /// How long a call may take.
    #[arg(long, env = "HTTP_CLIENT_REQUEST_TIMEOUT", value_name = "DURATION", default_value = "30s",
          value_parser = duration)]
    pub http_client_request_timeout: Duration,
    /// Whether connections to upstreams are used again, and those of clients kept.
    #[arg(long, env = "HTTP_CLIENT_KEEP_ALIVES", value_name = "true|false", default_value = "false",
          action = clap::ArgAction::Set)]
    pub http_client_keep_alives: bool,
    /// Whether connections of clients are kept. Default: as above.
    #[arg(long, env = "HTTP_SERVER_KEEP_ALIVES", value_name = "true|false", action = clap::ArgAction::Set)]
    pub http_server_keep_alives: Option<bool>,
    /// Whether the path and the headers of the request go into the calls.
    #[arg(long, env = "HTTP_CLIENT_APPEND_REQUEST", value_name = "true|false", default_value = "true",
          action = clap::ArgAction::Set)]
    pub http_client_append_request: bool,

    /// Requests per second, above which they are refused; 0: no limit.
    #[arg(long, env = "RATE_LIMIT", value_name = "NUMBER", default_value_t = 0.0)]
    pub rate_limit: f64,
    /// The status of a refusal.
    #[arg(long, env = "RATE_LIMIT_CODE", value_name = "STATUS", default_value = "503",
          value_parser = status)]
    pub rate_limit_code: StatusCode,
    /// The status of `/health`.
    #[arg(long, env = "HEALTH_CHECK_RESPONSE_CODE", value_name = "STATUS", default_value = "200",
          value_parser = status)]
    pub health_check_response_code: StatusCode,
    /// The status of `/ready` when ready.
    #[arg(long, env = "READY_CHECK_RESPONSE_SUCCESS_CODE", value_name = "STATUS", default_value = "200",
          value_parser = status)]
    pub ready_success_code: StatusCode,
    /// The status of `/ready` before.
    #[arg(long, env = "READY_CHECK_RESPONSE_FAILURE_CODE", value_name = "STATUS", default_value = "503",
          value_parser = status)]
    pub ready_failure_code: StatusCode,
    /// How long after the start the service is ready.
    #[arg(long, env = "READY_CHECK_RESPONSE_DELAY", value_name = "DURATION", default_value = "0s",
          value_parser = duration)]
    pub ready_delay: Duration,
    /// Whether other paths answer as `/ready` does until ready.
    #[arg(long, env = "READY_CHECK_ROOT_PATH_WAIT_TILL_READY", value_name = "true|false",
          default_value = "false", action = clap::ArgAction::Set)]
    pub wait_till_ready: bool,

    /// The MHz that the service is granted; 0: all of a core.
    #[arg(
        long,
        env = "LOAD_CPU_ALLOCATED",
        value_name = "MHZ",
        default_value_t = 0
    )]
    pub load_cpu_allocated: u32,
    /// The MHz of a core.
    #[arg(long, env = "LOAD_CPU_CLOCK_SPEED", value_name = "MHZ", default_value_t = 1000,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub load_cpu_clock_speed: u32,
    /// How much of that is burnt while a request is handled.
    #[arg(long, env = "LOAD_CPU_PERCENTAGE", value_name = "PERCENT", default_value_t = 0,
          value_parser = clap::value_parser!(u8).range(..=100))]
    pub load_cpu_percentage: u8,
    /// The memory that a request costs while it is handled.
    #[arg(long, env = "LOAD_MEMORY_PER_REQUEST", value_name = "BYTES", default_value_t = 0,
          value_parser = clap::value_parser!(u64).range(..=MAX_MEMORY))]
    pub load_memory_per_request: u64,
    /// By how many per cent that varies.
    #[arg(long, env = "LOAD_MEMORY_VARIANCE", value_name = "PERCENT", default_value_t = 0,
          value_parser = clap::value_parser!(u8).range(..=100))]
    pub load_memory_variance: u8,

    /// The origins whose pages may read answers, separated by commas; `*` for all.
    #[arg(
        long,
        env = "ALLOWED_ORIGINS",
        value_name = "ORIGIN,...",
        default_value = "*"
    )]
    pub allowed_origins: String,
    /// The headers that requests of those pages may have.
    #[arg(
        long,
        env = "ALLOWED_HEADERS",
        value_name = "NAME,...",
        default_value = "Accept,Accept-Language,Content-Language,Origin,Content-Type"
    )]
    pub allowed_headers: String,
    /// Whether those pages may send cookies.
    #[arg(long, env = "ALLOW_CREDENTIALS", value_name = "true|false", default_value = "false",
          action = clap::ArgAction::Set)]
    pub allow_credentials: bool,

    /// The path of the web page.
    #[arg(long, env = "UI_PATH", value_name = "PATH", default_value = "/ui/")]
    pub ui_path: String,
    /// The pod's address, shown in answers. Default: those of the network interfaces.
    #[arg(long, env = "DOJO_POD_IP", value_name = "IP")]
    pub pod_ip: Option<Ipv4Addr>,
    /// Serving TLS is not supported: a mesh does that.
    #[arg(long, env = "TLS_CERT_LOCATION", hide = true, default_value = "")]
    pub tls_cert_location: String,
    /// What every service takes.
    #[command(flatten)]
    pub serve: ServeArgs,
}

fn status(text: &str) -> Result<StatusCode, String> {
    text.parse::<u16>()
        .ok()
        .filter(|code| (200..=599).contains(code))
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or_else(|| format!("`{text}` is not a status from 200 to 599"))
}

impl Args {
    /// Serves until the process is told to stop.
    ///
    /// # Errors
    /// When the service cannot start.
    pub async fn run(self) -> anyhow::Result<()> {
        let config = self.config()?;
        let pooled = if self.http_client_keep_alives {
            let source = listen::container_address()?;
            Some(pooled(source).context("cannot set up the HTTP client")?)
        } else {
            None
        };
        let identity = Identity::new("simple", &self.version);
        let address = self.listen_address();
        let service = |kit: &Kit| {
            tracing::info!(
                "Starting service: name={} upstreamURIs={} upstreamWorkers={}",
                self.name,
                self.upstream_uris,
                self.upstream_workers
            );
            for note in variables::notes(|name| std::env::var(name).ok()) {
                tracing::warn!("{note}");
            }
            let mut kit = kit.clone();
            kit.client = pooled.unwrap_or(kit.client);
            service::service(&kit, config)
        };
        dojo_kit::run_assembled(identity, &self.serve, address, own_chaos(), service).await?;
        Ok(())
    }

    fn listen_address(&self) -> ListenAddress {
        match (self.listen_addr, self.serve.listen, self.serve.port) {
            (Some(address), None, None) => address,
            _ => self.serve.listen_address(PORT),
        }
    }

    /// What the service needs to know.
    ///
    /// # Errors
    /// When something that was asked for makes no sense, or is not supported.
    pub fn config(&self) -> anyhow::Result<Config> {
        if !self.tls_cert_location.is_empty() {
            bail!("TLS_CERT_LOCATION is not supported: leave TLS to the mesh, and unset it");
        }
        if !(self.rate_limit >= 0.0 && self.rate_limit <= 1e6) {
            bail!(
                "RATE_LIMIT: {} is not a rate; write requests per second",
                self.rate_limit
            );
        }
        if !self.ui_path.starts_with('/')
            || self.ui_path == "/"
            || self.ui_path.contains(['{', '}', '*'])
        {
            bail!("UI_PATH: `{}` is not a path like /ui/", self.ui_path);
        }
        let message = match serde_json::from_str(&self.message) {
            Ok(object @ Value::Object(_)) => object,
            _ => Value::String(self.message.clone()),
        };
        let close_connections = match self.form {
            Form::V014 => false,
            _ => !self
                .http_server_keep_alives
                .unwrap_or(self.http_client_keep_alives),
        };
        Ok(Config {
            name: self.name.clone(),
            message,
            ip_addresses: self.ip_addresses(),
            form: self.form,
            upstreams: Upstreams {
                uris: Upstreams::parse(&self.upstream_uris)?,
                workers: usize::from(self.upstream_workers),
                timeout: self.http_client_request_timeout,
                append_request: self.http_client_append_request,
                body: self.upstream_request_body.clone(),
                size: self.upstream_request_size,
                size_variance: self.upstream_request_variance,
                form: self.form,
                source: listen::container_address()?,
            },
            rate_limit: self.rate_limit,
            rate_limit_code: self.rate_limit_code,
            health_code: self.health_check_response_code,
            ready: Ready {
                success: self.ready_success_code,
                failure: self.ready_failure_code,
                delay: self.ready_delay,
                everywhere: self.wait_till_ready,
            },
            load: Load::new(
                self.load_cpu_percentage,
                self.load_cpu_allocated,
                self.load_cpu_clock_speed,
                self.load_memory_per_request,
                self.load_memory_variance,
            ),
            cors: Cors {
                origins: self
                    .allowed_origins
                    .split(',')
                    .map(|origin| origin.trim().to_owned())
                    .collect(),
                headers: self.allowed_headers.clone(),
                credentials: self.allow_credentials,
            },
            ui_path: format!("/{}/", self.ui_path.trim_matches('/')),
            close_connections,
        })
    }

    /// The addresses of the pod: IPv4, and not of loopback unless the pod is known to be there.
    fn ip_addresses(&self) -> Vec<String> {
        if let Some(ip) = self.pod_ip {
            return vec![ip.to_string()];
        }
        let Ok(interfaces) = nix::ifaddrs::getifaddrs() else {
            return Vec::new();
        };
        interfaces
            .filter_map(|interface| {
                interface
                    .address?
                    .as_sockaddr_in()
                    .map(|address| address.ip())
            })
            .filter(|address| !address.is_loopback())
            .map(|address| address.to_string())
            .collect()
    }
}

/// The fake service counts requests rather than throwing a die.
pub(crate) fn own_chaos() -> Settings {
    Settings {
        error_pattern: Pattern::Counter,
        ..Settings::default()
    }
}

fn pooled(source: Option<std::net::IpAddr>) -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .pool_max_idle_per_host(4)
        .connect_timeout(Duration::from_secs(10))
        .redirect(reqwest::redirect::Policy::none())
        .local_address(source)
        .build()
}
