//! The HTML of productpage.
//!
//! Pure functions from what was learnt to text. The headings, error texts, class names and the
//! one-line title are what labs look for; change none of them for looks.

use std::fmt::Write as _;

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::Config;
use super::calls::Part;

/// The style sheet of all pages.
pub(super) const STYLE: &str = include_str!("bookinfo.css");
/// The icon of all pages.
pub(super) const ICON: &str = include_str!("bookinfo.svg");
/// The drawing on the book.
pub(super) const COVER: &str = include_str!("cover.svg");

const TITLE: &str = "The Comedy of Errors";
const DESCRIPTION: &str = "<a href=\"https://en.wikipedia.org/wiki/The_Comedy_of_Errors\">Wikipedia Summary</a>: \
Two pairs of twins, parted by a shipwreck as infants, turn up in the same town on the same day. \
Whoever greets one meets the other, and blows, bills and kisses all go astray. \
Of <b>William Shakespeare's</b> comedies none is shorter, and few are sillier.";
/// The most stars that a reviewer can give.
const MOST_STARS: u64 = 5;

/// What the product page is drawn from.
pub(super) struct View<'a> {
    pub(super) user: Option<&'a str>,
    pub(super) pod: Option<&'a str>,
    pub(super) version: &'a str,
    pub(super) details: &'a Part,
    pub(super) reviews: &'a Part,
}

/// The products of the shop, as `/api/v1/products` lists them.
pub(super) fn products() -> Value {
    json!([{"id": 0, "title": TITLE, "descriptionHtml": DESCRIPTION}])
}

/// The page of the one book.
pub(super) fn productpage(view: &View<'_>) -> String {
    let details = if view.details.status == StatusCode::OK {
        details(&view.details.body)
    } else {
        failure("Error fetching product details!", view.details)
    };
    let reviews = if view.reviews.status == StatusCode::OK {
        reviews(&view.reviews.body)
    } else {
        failure("Error fetching product reviews!", view.reviews)
    };
    let trail = trail(view);
    let content = format!(
        r#"<section class="book">
<img class="cover" src="/static/cover.svg" width="240" height="340" alt="Book cover: two laughing masks, mirror images of each other">
<div>
<p class="kicker">Play in five acts</p>
<h1>{TITLE}</h1>
<p class="summary">Summary: {DESCRIPTION}</p>
</div>
</section>
<div class="columns">
{details}
{reviews}
</div>
{trail}"#
    );
    document(&account(view.user), &content)
}

/// The page at `/`.
pub(super) fn landing(config: &Config) -> String {
    let row = |name: &str, role: &str, children: &str| {
        format!(
            "<table><tr><th>name</th><th>endpoint</th><th>children</th></tr>\n\
             <tr><td>{}</td><td>{role}</td><td>{children}</td></tr></table>",
            escape(name)
        )
    };
    let ratings = row(config.ratings.base(), "ratings", "");
    let reviews = row(config.reviews.base(), "reviews", &ratings);
    let details = row(config.details.base(), "details", "");
    // The root row bears the address of details, by a mistake that the sample is known for.
    let services = row(
        config.details.base(),
        "details",
        &format!("{details}\n{reviews}"),
    );
    let content = format!(
        r#"<section class="card landing">
<h1>A bookstore of small services</h1>
<p>Hello! This is a simple bookstore application consisting of three services as shown below</p>
<div class="services">{services}</div>
<p>Click on one of the links below to see the book as a normal or as a test user.</p>
<p class="choices"><a class="button" href="/productpage?u=normal">Normal user</a>
<a class="button quiet" href="/productpage?u=test">Test user</a></p>
</section>"#
    );
    document("", &content)
}

/// The page of an unknown address.
pub(super) fn not_found() -> String {
    document(
        "",
        r#"<section class="card landing"><h1>Not Found</h1>
<p>There is no such page in this shop. <a href="/productpage">To the book</a></p></section>"#,
    )
}

fn document(account: &str, content: &str) -> String {
    format!(
        r##"<!DOCTYPE html>
<html lang="en">
<head>
<title>Simple Bookstore App</title>
<meta charset="utf-8">
<meta http-equiv="X-UA-Compatible" content="IE=edge">
<meta name="viewport" content="width=device-width, initial-scale=1.0">
<meta name="color-scheme" content="light dark">
<link rel="icon" type="image/svg+xml" href="/static/bookinfo.svg">
<link rel="stylesheet" href="/static/bookinfo.css">
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<header class="bar">
<a class="brand" href="/productpage">BookInfo Sample</a>
{account}
</header>
<main id="content">
{content}
</main>
</body>
</html>
"##
    )
}

fn account(user: Option<&str>) -> String {
    match user {
        Some(user) => {
            let user = escape(user);
            let initial: String = user.chars().take(1).collect();
            format!(
                r#"<p class="account"><span class="avatar" aria-hidden="true">{initial}</span>
<span>{user} ( <a href="logout">sign out</a> )</span></p>"#
            )
        }
        None => r#"<button class="button" type="button" popovertarget="sign-in">Sign in</button>
<div id="sign-in" class="dialog" popover role="dialog" aria-labelledby="sign-in-title">
<h2 id="sign-in-title">Please sign in</h2>
<p>Any name will do, with any password.</p>
<form method="post" action="login">
<label>User Name <input type="text" name="username" placeholder="User Name" autocomplete="username" autofocus></label>
<label>Password <input type="password" name="passwd" placeholder="Password" autocomplete="current-password"></label>
<p class="choices"><button class="button" type="submit">Sign in</button>
<button class="button quiet" type="button" popovertarget="sign-in" popovertargetaction="hide">Cancel</button></p>
</form>
</div>"#
            .to_owned(),
    }
}

fn details(details: &Value) -> String {
    let mut text = String::from("<section class=\"card details\">\n<h2>Book Details</h2>\n<dl>\n");
    for (term, field) in [
        ("Type:", "type"),
        ("Pages:", "pages"),
        ("Publisher:", "publisher"),
        ("Language:", "language"),
        ("ISBN-10:", "ISBN-10"),
        ("ISBN-13:", "ISBN-13"),
    ] {
        let value = plain(&details[field]);
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(text, "<div><dt>{term}</dt><dd>{value}</dd></div>");
    }
    text.push_str("</dl>\n</section>");
    text
}

fn reviews(document: &Value) -> String {
    let mut text = String::from("<section class=\"card reviews\">\n<h2>Book Reviews</h2>\n");
    for review in document["reviews"].as_array().into_iter().flatten() {
        let _ = writeln!(
            text,
            "<blockquote>\n<p>{}</p>\n<small>{}</small>",
            plain(&review["text"]),
            plain(&review["reviewer"]),
        );
        text.push_str(&rating(&review["rating"]));
        text.push_str("</blockquote>\n");
    }
    let _ = write!(
        text,
        "<p class=\"served\">Reviews served by:\n<u>{}</u>",
        plain(&document["podname"])
    );
    let cluster = plain(&document["clustername"]);
    if !cluster.is_empty() && cluster != "null" {
        let _ = write!(text, "\non cluster\n<u>{cluster}</u>");
    }
    text.push_str("</p>\n</section>");
    text
}

/// Stars, or the error in their place, or nothing.
fn rating(rating: &Value) -> String {
    if let Some(error) = rating["error"].as_str() {
        return format!("<p class=\"no-rating\"><i>{}</i></p>\n", escape(error));
    }
    let stars = match rating["stars"].as_u64() {
        None | Some(0) => return String::new(),
        Some(stars) => stars.min(MOST_STARS),
    };
    let mut text = format!(
        "<span class=\"stars\" role=\"img\" aria-label=\"{stars} of {MOST_STARS} stars\"><font color=\"{}\">\n",
        plain(&rating["color"])
    );
    for n in 0..MOST_STARS {
        let class = if n < stars {
            "glyphicon-star"
        } else {
            "glyphicon-star-empty"
        };
        let _ = writeln!(text, "<span class=\"glyphicon {class}\"></span>");
    }
    text.push_str("</font></span>\n");
    text
}

fn failure(heading: &str, part: &Part) -> String {
    format!(
        "<section class=\"card failure\" role=\"alert\">\n<h2>{heading}</h2>\n<p>{}</p>\n</section>",
        plain(&part.body["error"])
    )
}

/// Who took part in this page: each call with its pod, its status and its time.
fn trail(view: &View<'_>) -> String {
    let mut text = String::from(
        "<section class=\"trail\" aria-labelledby=\"trail-title\">\n\
         <h2 id=\"trail-title\">How this page was made</h2>\n<ol>\n",
    );
    let version = escape(view.version);
    text.push_str(&stop(
        "productpage",
        view.pod,
        &format!("version {version}"),
        "",
    ));
    for part in [view.details, view.reviews] {
        let mut note = format!("{} in {} ms", part.status.as_u16(), part.took.as_millis());
        if part.attempts > 1 {
            let _ = write!(note, ", {} attempts", part.attempts);
        }
        let class = if part.status == StatusCode::OK {
            "good"
        } else {
            "bad"
        };
        let pod = part
            .served_by
            .as_deref()
            .or_else(|| part.body["podname"].as_str().filter(|pod| *pod != "null"));
        text.push_str(&stop(part.app.name(), pod, &note, class));
    }
    if let Some(pod) = &view.reviews.ratings_served_by {
        text.push_str(&stop("ratings", Some(pod), "asked by reviews", ""));
    }
    text.push_str("</ol>\n</section>");
    text
}

fn stop(name: &str, pod: Option<&str>, note: &str, class: &str) -> String {
    let pod = match pod {
        Some(pod) => format!("<code>{}</code>", escape(pod)),
        None => "<span class=\"unknown\">pod not known</span>".to_owned(),
    };
    format!("<li class=\"{class}\"><b>{name}</b>{pod}<span class=\"note\">{note}</span></li>\n")
}

/// A JSON value as text of the page: a string without its quotes, nothing for null.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => escape(text),
        other => escape(&other.to_string()),
    }
}

/// Text that is safe between tags and in quoted attributes.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}
