//! The two languages in which the runner speaks.

use clap::ValueEnum;

/// A language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// English
    En,
    /// 한국어
    Ko,
}

impl Language {
    /// The language of the environment: Korean when `LC_ALL`, `LC_MESSAGES` or `LANG` says so, in this order.
    pub fn of_environment() -> Self {
        let variables = ["LC_ALL", "LC_MESSAGES", "LANG"];
        let set = variables
            .iter()
            .filter_map(|name| std::env::var(name).ok())
            .find(|value| !value.is_empty());
        match set {
            Some(locale) if locale.starts_with("ko") => Self::Ko,
            _ => Self::En,
        }
    }

    /// One of two texts.
    pub fn pick<T>(self, english: T, korean: T) -> T {
        match self {
            Self::En => english,
            Self::Ko => korean,
        }
    }

    /// The file of a lab in this language.
    pub fn readme(self) -> &'static str {
        self.pick("README.md", "README.ko.md")
    }
}
