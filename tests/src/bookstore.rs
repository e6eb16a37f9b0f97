//! The bookstore's page as a reader sees it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

/// What a look at the page showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stars {
    /// Reviews without ratings: v1.
    None,
    /// v2.
    Black,
    /// v3.
    Red,
    /// Reviews, but "Ratings service is currently unavailable".
    RatingsUnavailable,
    /// "Error fetching product reviews!"
    NoReviews,
}

/// A reader with a browser of their own.
pub struct Reader {
    http: reqwest::Client,
    base: String,
    cookie: Option<String>,
}

impl Reader {
    /// Somebody who is not logged in.
    pub fn new(port: u16) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(30))
            .build()?;
        Ok(Self {
            http,
            base: format!("http://127.0.0.1:{port}"),
            cookie: None,
        })
    }

    /// Somebody who logs in with the form of the page.
    ///
    /// # Errors
    /// When the page gives no session.
    pub async fn logged_in(port: u16, user: &str) -> anyhow::Result<Self> {
        let mut reader = Self::new(port)?;
        let form = [("username", user), ("passwd", "any")];
        let answer = reader
            .http
            .post(format!("{}/login", reader.base))
            .form(&form)
            .send()
            .await?;
        let cookie = answer
            .headers()
            .get("set-cookie")
            .context("a session cookie")?
            .to_str()?;
        reader.cookie = Some(cookie.split(';').next().unwrap_or_default().to_owned());
        Ok(reader)
    }

    /// The page's text and how long it took.
    ///
    /// # Errors
    /// When it is not answered with 200.
    pub async fn page(&self) -> anyhow::Result<(String, Duration)> {
        let mut request = self.http.get(format!("{}/productpage", self.base));
        if let Some(cookie) = &self.cookie {
            request = request.header("cookie", cookie);
        }
        let begun = Instant::now();
        let text = request.send().await?.error_for_status()?.text().await?;
        Ok((text, begun.elapsed()))
    }

    /// What the page shows in place of stars.
    ///
    /// # Errors
    /// When it is not answered with 200.
    pub async fn stars(&self) -> anyhow::Result<Stars> {
        Ok(seen(&self.page().await?.0))
    }
}

/// What a page shows.
pub fn seen(page: &str) -> Stars {
    if page.contains("Error fetching product reviews!") {
        Stars::NoReviews
    } else if page.contains("Ratings service is currently unavailable") {
        Stars::RatingsUnavailable
    } else if page.contains("reviews-v3") {
        Stars::Red
    } else if page.contains("reviews-v2") {
        Stars::Black
    } else {
        Stars::None
    }
}

/// Somebody who reads one page after the other while something else happens.
pub struct Reading {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<usize>>,
}

impl Reading {
    /// Begins to read. On a thread of its own, because what the test does meanwhile blocks.
    #[must_use]
    pub fn start(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let reading = async move {
            let reader = Reader::new(port)?;
            let mut pages = 0;
            while !told.load(Relaxed) {
                let page = reader.stars().await;
                let stars = page.with_context(|| format!("after {pages} pages"))?;
                let right = matches!(stars, Stars::None | Stars::Black | Stars::Red);
                ensure!(right, "{stars:?} after {pages} pages");
                pages += 1;
            }
            Ok(pages)
        };
        let thread = std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().build()?.block_on(reading)
        });
        Self { stop, thread }
    }

    /// Ends it; every page must have been right.
    ///
    /// # Errors
    /// What was wrong with the first that was not, or that there was no page.
    pub fn no_page_was_wrong(self) -> anyhow::Result<usize> {
        self.stop.store(true, Relaxed);
        let ended = self.thread.join();
        let pages = ended.map_err(|_| anyhow::anyhow!("the reader panicked"))??;
        ensure!(pages > 0, "not one page");
        Ok(pages)
    }
}
