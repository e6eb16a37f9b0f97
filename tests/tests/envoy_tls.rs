//! TLS between our proxy and others: a real Envoy as client and as server of mutual TLS, curl and
//! openssl at a gateway. Both sides run what one snapshot says.

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};
use axum::Router;
use dojo_tests::{
    dojo::{binary, eventually, free_port},
    envoy,
};
use http::HeaderMap;
use mesh_config::Snapshot;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, SanType,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const SERVER: &str = "spiffe://cluster.local/ns/default/sa/web";
const CLIENT: &str = "spiffe://cluster.local/ns/default/sa/caller";
const SOON: Duration = Duration::from_secs(30);

/// An authority and what it signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = DistinguishedName::new();
        let name = format!("authority {}", rand::random::<u32>());
        params
            .distinguished_name
            .push(DnType::OrganizationName, name);
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);
        Ok(Self { issuer, pem })
    }

    /// Certificate and key for one name.
    fn sign(&self, name: SanType) -> anyhow::Result<(String, String)> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![name];
        // Not the authority's: who has the name of their issuer is taken to have signed themselves.
        params.distinguished_name = DistinguishedName::new();
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok((certificate, key.serialize_pem()))
    }

    /// What a workload has: its own certificate and the mesh's root.
    fn secrets(&self, identity: &str) -> anyhow::Result<Value> {
        let (chain, key) = self.sign(SanType::URI(identity.try_into()?))?;
        Ok(json!({
            "default": { "name": "default", "certificateChain": chain, "privateKey": key },
            "ROOTCA": { "name": "ROOTCA", "trustedCa": self.pem },
        }))
    }
}

/// A proxy of either kind; dropped, it is gone.
struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Ours,
    Envoy,
}

struct Stage {
    folder: TempDir,
    envoy: PathBuf,
}

impl Stage {
    /// Starts a proxy with a configuration.
    fn start(&self, kind: Kind, name: &str, config: Value) -> anyhow::Result<Proxy> {
        let file = self.folder.path().join(format!("{name}.json"));
        let snapshot: Snapshot = serde_json::from_value(config)?;
        let mut command = match kind {
            Kind::Ours => {
                let mut command = Command::new(binary());
                command.args(["proxy", "sidecar", "--no-agent", "--admin-port", "0"]);
                command.arg("--config").arg(&file);
                std::fs::write(&file, serde_json::to_vec(&snapshot)?)?;
                command
            }
            Kind::Envoy => {
                let mut command = Command::new(&self.envoy);
                command.args(["--concurrency", "1", "--use-dynamic-base-id", "-l", "error"]);
                command.arg("-c").arg(&file);
                let bootstrap = mesh_config::envoy::bootstrap(&snapshot, "127.0.0.1:0".parse()?);
                std::fs::write(&file, serde_json::to_vec_pretty(&bootstrap)?)?;
                command
            }
        };
        let log = std::fs::File::create(self.folder.path().join(format!("{name}.log")))?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        command.env_remove("http_proxy");
        Ok(Proxy(command.spawn()?))
    }

    fn log(&self, name: &str) -> String {
        let path = self.folder.path().join(format!("{name}.log"));
        std::fs::read_to_string(path).unwrap_or_default()
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<String> {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path.display().to_string())
    }
}

fn stage() -> anyhow::Result<Option<Stage>> {
    let Some(envoy) = envoy::binary() else {
        return Ok(None);
    };
    let folder = tempfile::tempdir()?;
    Ok(Some(Stage { folder, envoy }))
}

/// An application that answers with what it is told of its client.
fn application() -> anyhow::Result<SocketAddr> {
    let app = Router::new().fallback(|headers: HeaderMap| async move {
        let told = headers.get("x-forwarded-client-cert");
        let told = told.and_then(|value| value.to_str().ok());
        told.unwrap_or("nobody").to_owned()
    });
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    // On a thread of its own: what the tests run meanwhile blocks.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            axum::serve(tokio::net::TcpListener::from_std(listener)?, app).await
        })
    });
    Ok(address)
}

fn free() -> SocketAddr {
    ([127, 0, 0, 1], free_port()).into()
}

/// A listener that forwards everything to one endpoint.
fn forwarding(
    direction: &str,
    at: SocketAddr,
    transport: Value,
    to: SocketAddr,
    tls: Value,
    secrets: Value,
) -> Value {
    let mut cluster = json!({
        "name": "to", "discovery": "eds", "lbPolicy": "roundRobin", "protocol": "http1", "connectTimeout": "10s",
    });
    if !tls.is_null() {
        cluster["tls"] = tls;
    }
    json!({
        "version": 1,
        "node": { "id": "sidecar~127.0.0.1~a.default~default.svc.cluster.local", "clusterId": "Kubernetes" },
        "listeners": { "only": {
            "name": "only", "address": at, "direction": direction, "accept": "direct",
            "filterChains": [{ "name": "only", "transport": transport, "filter": {
                "http": { "statPrefix": "only", "routeConfig": "table" } } }],
        } },
        "routes": { "table": { "name": "table", "virtualHosts": [{
            "name": "all", "domains": ["*"], "routes": [{
                "name": "default", "match": { "path": { "prefix": "/" } }, "decorator": "",
                "action": { "forward": { "clusters": [{ "name": "to", "weight": 1 }] } } }],
        }] } },
        "clusters": { "to": cluster },
        "endpoints": { "to": { "clusterName": "to", "endpoints": [{ "address": to, "workload": {} }] } },
        "secrets": secrets,
    })
}

fn server(at: SocketAddr, app: SocketAddr, secrets: Value) -> Value {
    let transport = json!({ "protocol": "tls", "tls": {
        "certificates": ["default"], "clientCertificate": "required",
        "validation": { "trust": "ROOTCA" }, "alpnProtocols": ["h2", "http/1.1"] } });
    forwarding("inbound", at, transport, app, Value::Null, secrets)
}

fn client(at: SocketAddr, to: SocketAddr, expected: &str, secrets: Value) -> Value {
    let tls = json!({ "certificate": "default", "sni": "outbound_.80_._.web.default.svc.cluster.local",
        "validation": { "trust": "ROOTCA", "subjectAltNames": [expected] },
        "alpnProtocols": ["istio-http/1.1", "istio", "http/1.1"] });
    forwarding("outbound", at, json!({}), to, tls, secrets)
}

async fn get(at: SocketAddr) -> anyhow::Result<(u16, String)> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let answer = client.get(format!("http://{at}/")).send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

#[tokio::test]
async fn a_real_envoy_and_our_proxy_prove_to_each_other_who_they_are() -> anyhow::Result<()> {
    let Some(stage) = stage()? else {
        return Ok(());
    };
    let (own, other) = (Authority::new()?, Authority::new()?);
    let app = application()?;
    for (from, to) in [(Kind::Envoy, Kind::Ours), (Kind::Ours, Kind::Envoy)] {
        let (at, way, wrong, stranger) = (free(), free(), free(), free());
        let _server = stage.start(to, "server", server(at, app, own.secrets(SERVER)?))?;
        let _client = stage.start(
            from,
            "client",
            client(way, at, SERVER, own.secrets(CLIENT)?),
        )?;
        // One that expects another server, and one that nobody knows.
        let picky = client(wrong, at, CLIENT, own.secrets(CLIENT)?);
        let _picky = stage.start(from, "picky", picky)?;
        let mut unknown = other.secrets(CLIENT)?;
        unknown["ROOTCA"] = own.secrets(CLIENT)?["ROOTCA"].take();
        let unknown = client(stranger, at, SERVER, unknown);
        let _stranger = stage.start(from, "stranger", unknown)?;
        let what = format!("{from:?} to {to:?}");
        let told = eventually(&what, SOON, || async {
            let (status, told) = get(way).await?;
            ensure!(
                status == 200,
                "{status} {told}\n{}{}",
                stage.log("client"),
                stage.log("server")
            );
            Ok(told)
        })
        .await?;
        // What Envoy tells the application is for its own configuration to say.
        let (by, uri) = (format!("By={SERVER};"), format!("URI={CLIENT}"));
        let proven = told.starts_with(&by) && told.ends_with(&uri);
        ensure!(proven || to == Kind::Envoy, "{what}: {told}");
        for refused in [wrong, stranger] {
            eventually(&what, SOON, || async {
                let (status, text) = get(refused).await?;
                ensure!(status == 503, "{status} {text}");
                Ok(())
            })
            .await?;
        }
        // In the clear there is nothing to be had.
        ensure!(get(at).await.is_err(), "{what}");
    }
    Ok(())
}

fn run(program: &str, args: &[&str]) -> anyhow::Result<Output> {
    let mut command = Command::new(program);
    command
        .args(args)
        .stdin(Stdio::null())
        .env_remove("http_proxy");
    command.output().with_context(|| program.to_owned())
}

fn read(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

#[tokio::test]
async fn curl_and_openssl_agree_with_a_gateway_that_wants_certificates() -> anyhow::Result<()> {
    let Some(stage) = stage()? else {
        return Ok(());
    };
    let (own, other) = (Authority::new()?, Authority::new()?);
    let (app, at) = (application()?, free());
    let name = || anyhow::Ok(SanType::DnsName("shop.example".try_into()?));
    let (chain, key) = own.sign(name()?)?;
    let secrets = json!({
        "kubernetes://shop": { "name": "kubernetes://shop", "certificateChain": chain, "privateKey": key },
        "kubernetes://shop-cacert": { "name": "kubernetes://shop-cacert", "trustedCa": own.pem },
    });
    let transport = json!({ "protocol": "tls", "tls": {
        "certificates": ["kubernetes://shop"], "clientCertificate": "required",
        "validation": { "trust": "kubernetes://shop-cacert" }, "alpnProtocols": ["h2", "http/1.1"] } });
    let mut config = forwarding("gateway", at, transport, app, Value::Null, secrets);
    config["listeners"]["only"]["filterChains"][0]["serverNames"] = json!(["shop.example"]);
    let _gateway = stage.start(Kind::Ours, "gateway", config)?;

    let root = stage.write("root.pem", &own.pem)?;
    let pair = |file: &str, authority: &Authority| -> anyhow::Result<[String; 2]> {
        let (chain, key) = authority.sign(name()?)?;
        Ok([
            stage.write(&format!("{file}.pem"), &chain)?,
            stage.write(&format!("{file}.key"), &key)?,
        ])
    };
    let ([cert, key], [bad_cert, bad_key]) = (pair("good", &own)?, pair("bad", &other)?);
    let resolve = format!("shop.example:{}:127.0.0.1", at.port());
    let url = format!("https://shop.example:{}/", at.port());
    let base = [
        "-sS",
        "--noproxy",
        "*",
        "--max-time",
        "10",
        "--cacert",
        &root,
        "--resolve",
        &resolve,
        &url,
    ];
    let curl = |more: &[&str]| run("curl", &[&base[..], more].concat());
    let good = ["--cert", &cert, "--key", &key];
    eventually("curl with a certificate", SOON, || async {
        for version in ["--http1.1", "--http2"] {
            let answer = curl(&[&good[..], &[version]].concat())?;
            ensure!(
                answer.status.success(),
                "{}\n{}",
                read(&answer),
                stage.log("gateway")
            );
            ensure!(
                read(&answer).contains("DNS=shop.example"),
                "{}",
                read(&answer)
            );
        }
        Ok(())
    })
    .await?;
    // Without a certificate, with one of another authority, with what is out of date.
    for refused in [
        &[][..],
        &["--cert", &bad_cert, "--key", &bad_key],
        &[
            &good[..],
            &["--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0"],
        ]
        .concat(),
    ] {
        let answer = curl(refused)?;
        let code = answer.status.code();
        // In TLS 1.3 the client has finished, and may be sending, when the server refuses: curl then
        // sees the alert (35, 56) or only that its sending failed (55).
        ensure!(
            matches!(code, Some(35 | 55 | 56)),
            "{refused:?}: {code:?} {}",
            read(&answer)
        );
    }

    let connect = at.to_string();
    let openssl = |more: &[&str]| {
        let base = [
            "s_client",
            "-connect",
            &connect,
            "-servername",
            "shop.example",
            "-CAfile",
            &root,
        ];
        run(
            "openssl",
            &[
                &base[..],
                &[
                    "-verify_hostname",
                    "shop.example",
                    "-cert",
                    &cert,
                    "-key",
                    &key,
                ],
                more,
            ]
            .concat(),
        )
    };
    for (version, name) in [("-tls1_3", "TLSv1.3"), ("-tls1_2", "TLSv1.2")] {
        let seen = read(&openssl(&[version, "-alpn", "h2"])?);
        ensure!(
            seen.contains("Verify return code: 0 (ok)")
                && seen.contains(name)
                && seen.contains("ALPN protocol: h2"),
            "{seen}"
        );
    }
    Ok(())
}

/// Half-handshakes and garbage, many at once: those who know how to speak are served meanwhile.
#[tokio::test]
async fn half_handshakes_hold_nobody_up() -> anyhow::Result<()> {
    let Some(stage) = stage()? else {
        return Ok(());
    };
    let own = Authority::new()?;
    let (app, at, way) = (application()?, free(), free());
    let _server = stage.start(Kind::Ours, "server", server(at, app, own.secrets(SERVER)?))?;
    let _client = stage.start(
        Kind::Ours,
        "client",
        client(way, at, SERVER, own.secrets(CLIENT)?),
    )?;
    eventually("the pair", SOON, || async {
        ensure!(get(way).await?.0 == 200);
        Ok(())
    })
    .await?;
    let mut held = Vec::new();
    for number in 0..500 {
        let mut stream = tokio::net::TcpStream::connect(at).await?;
        // A greeting that goes no further, or bytes that are none.
        let bytes: &[u8] = if number % 2 == 0 {
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
        } else {
            b"\x16\x03\x01\x00\x05\xff\xff\xff\xff\xff"
        };
        tokio::io::AsyncWriteExt::write_all(&mut stream, bytes).await?;
        held.push(stream);
    }
    let fresh = free();
    let again = client(fresh, at, SERVER, own.secrets(CLIENT)?);
    let _again = stage.start(Kind::Ours, "again", again)?;
    eventually("a new handshake", SOON, || async {
        let (status, told) = get(fresh).await?;
        ensure!(status == 200, "{status} {told}\n{}", stage.log("again"));
        Ok(())
    })
    .await
}
