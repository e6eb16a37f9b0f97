//! A real browser, headless, told what to do over its DevTools protocol.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context, bail, ensure};
use base64::Engine as _;
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
    time::{Instant, timeout},
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

/// How long the browser may take for one step.
const STEP: Duration = Duration::from_secs(30);

/// One page of a browser, which ends with it.
pub struct Browser {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    last: u64,
    _process: Child,
    _profile: TempDir,
}

impl Browser {
    /// Starts Chromium. `None` where the machine has none, which fails in CI and is said elsewhere.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start() -> anyhow::Result<Option<Self>> {
        let profile = tempfile::tempdir()?;
        for program in ["chromium", "chromium-browser", "google-chrome"] {
            let mut command = Command::new(program);
            command
                .args(
                    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run"
                        .split(' '),
                )
                .args("--disable-background-networking --disable-component-update".split(' '))
                .args("--disable-sync --no-proxy-server --hide-scrollbars".split(' '))
                .args(["--remote-debugging-port=0", "--window-size=1280,900"])
                .arg(format!("--user-data-dir={}", profile.path().display()))
                .arg("about:blank")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .kill_on_drop(true);
            match command.spawn() {
                Ok(process) => return Self::attach(process, profile).await.map(Some),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).context(program),
            }
        }
        ensure!(
            std::env::var_os("CI").is_none(),
            "CI needs a browser: install Debian's package chromium"
        );
        eprintln!("SKIPPED: no Chromium on this machine (Debian: apt-get install chromium)");
        Ok(None)
    }

    async fn attach(mut process: Child, profile: TempDir) -> anyhow::Result<Self> {
        let stderr = process.stderr.take().context("a pipe")?;
        let mut lines = BufReader::new(stderr).lines();
        let port = loop {
            let line = timeout(STEP, lines.next_line()).await??;
            let line = line.context("the browser ended")?;
            if let Some((_, rest)) = line.split_once("DevTools listening on ws://127.0.0.1:") {
                break rest.split('/').next().context("a port")?.to_owned();
            }
        };
        // It must go on being read, or the browser blocks.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let client = reqwest::Client::builder().no_proxy().build()?;
        let pages = client.get(format!("http://127.0.0.1:{port}/json/list"));
        let pages: Value = pages.send().await?.json().await?;
        let page = pages.as_array().into_iter().flatten();
        let page = page
            .filter(|page| page["type"] == "page")
            .find_map(|page| page["webSocketDebuggerUrl"].as_str());
        let (socket, _) = connect_async(page.context("a page")?).await?;
        Ok(Self {
            socket,
            last: 0,
            _process: process,
            _profile: profile,
        })
    }

    async fn command(&mut self, method: &str, parameters: Value) -> anyhow::Result<Value> {
        self.last += 1;
        let id = self.last;
        let text = json!({"id": id, "method": method, "params": parameters}).to_string();
        self.socket.send(Message::text(text)).await?;
        let answered = async {
            while let Some(message) = self.socket.next().await {
                let Message::Text(text) = message? else {
                    continue;
                };
                let mut answer: Value = serde_json::from_str(&text)?;
                if answer["id"] == id {
                    ensure!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                    return Ok(answer["result"].take());
                }
            }
            bail!("the browser hung up")
        };
        timeout(STEP, answered).await.context(method.to_owned())?
    }

    /// Opens an address.
    ///
    /// # Errors
    /// When the browser cannot.
    pub async fn open(&mut self, url: &str) -> anyhow::Result<()> {
        let answer = self.command("Page.navigate", json!({"url": url})).await?;
        ensure!(
            answer["errorText"].is_null(),
            "{url}: {}",
            answer["errorText"]
        );
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")
            .await
    }

    /// The value of a JavaScript expression in the page.
    ///
    /// # Errors
    /// When it throws.
    pub async fn eval(&mut self, script: &str) -> anyhow::Result<Value> {
        let parameters = json!({"expression": script, "returnByValue": true, "awaitPromise": true, "userGesture": true});
        let mut answer = self.command("Runtime.evaluate", parameters).await?;
        let thrown = &answer["exceptionDetails"];
        ensure!(thrown.is_null(), "{script}: {thrown}");
        Ok(answer["result"]["value"].take())
    }

    /// Waits until an expression is true.
    ///
    /// # Errors
    /// When it is not in time, with the text of the page.
    pub async fn until(&mut self, script: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + STEP;
        // While one page gives way to the next there is nothing to ask.
        while !self.eval(script).await.is_ok_and(|value| value == true) {
            if Instant::now() > deadline {
                let text = self.eval("document.body.innerText").await?;
                bail!("never true: {script}; the page says {text}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Writes what the page looks like to `NAME.png` in the folder that the variable
    /// `SCREENSHOTS` names, for people to look at; does nothing where it names none.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn screenshot(&mut self, name: &str) -> anyhow::Result<()> {
        let Some(folder) = std::env::var_os("SCREENSHOTS") else {
            return Ok(());
        };
        let parameters = json!({"format": "png", "captureBeyondViewport": true});
        let answer = self.command("Page.captureScreenshot", parameters).await?;
        let data = answer["data"].as_str().context("a picture")?;
        let picture = base64::engine::general_purpose::STANDARD.decode(data)?;
        std::fs::write(Path::new(&folder).join(format!("{name}.png")), picture)?;
        Ok(())
    }

    /// Lets the page believe that it is on a screen of this size, or that the user wants it dark.
    ///
    /// # Errors
    /// When the browser cannot.
    pub async fn emulate(&mut self, width: u32, height: u32, dark: bool) -> anyhow::Result<()> {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.command("Emulation.setDeviceMetricsOverride", size)
            .await?;
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.command("Emulation.setEmulatedMedia", media).await?;
        Ok(())
    }
}
