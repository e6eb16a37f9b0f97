//! Progress on stderr: one line per step, ticked off with its time. On a terminal the line that is
//! worked on is rewritten in place and says what is waited for; piped, only finished steps are
//! printed. `NO_COLOR` is honoured.

use std::{
    cell::RefCell,
    io::{IsTerminal, Write, stderr},
    time::{Duration, Instant},
};

/// The steps of one command.
pub struct Progress {
    live: bool,
    colour: bool,
    begun: Instant,
    shown: RefCell<String>,
}

impl Progress {
    /// Steps on stderr.
    pub fn new() -> Self {
        let live = stderr().is_terminal();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            live,
            colour: live && !plain,
            begun: Instant::now(),
            shown: RefCell::default(),
        }
    }

    /// Time since the first step began.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Begins a step.
    pub fn step<'a>(&'a self, what: &'a str) -> Step<'a> {
        let step = Step {
            progress: self,
            what,
            begun: Instant::now(),
        };
        step.waiting_for("");
        step
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.into()
        }
    }

    fn rewrite(&self, line: String, finished: bool) {
        // A progress line that cannot be written is no reason to stop the work.
        let mut out = stderr().lock();
        if self.live {
            if finished {
                let _ = writeln!(out, "\r\x1b[2K{line}");
            } else if *self.shown.borrow() != line {
                let _ = write!(out, "\r\x1b[2K{line}");
                let _ = out.flush();
            }
            self.shown.replace(line);
        } else if finished {
            let _ = writeln!(out, "{line}");
        }
    }
}

/// A step that is worked on. Dropped without [`Step::done`], it is shown as failed.
pub struct Step<'a> {
    progress: &'a Progress,
    what: &'a str,
    begun: Instant,
}

impl Step<'_> {
    /// Shows what the step waits for.
    pub fn waiting_for(&self, what: &str) {
        let comma = if what.is_empty() { "" } else { ": " };
        let seconds = self.begun.elapsed().as_secs();
        let time = if seconds == 0 {
            String::new()
        } else {
            format!(" ({seconds} s)")
        };
        let mark = self.progress.paint("36", "·");
        self.progress
            .rewrite(format!("{mark} {}{comma}{what}{time}", self.what), false);
    }

    /// Ticks the step off.
    pub fn done(self) {
        let mark = self.progress.paint("32", "✓");
        let time = self
            .progress
            .paint("2", &format!("{:.1} s", self.begun.elapsed().as_secs_f64()));
        self.progress
            .rewrite(format!("{mark} {:<44} {time}", self.what), true);
        std::mem::forget(self);
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        let mark = self.progress.paint("31", "✗");
        self.progress.rewrite(format!("{mark} {}", self.what), true);
    }
}
