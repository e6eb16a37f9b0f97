//! The student's terminal, held in another mode for a while and always put back.

use std::io::{self, IsTerminal};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// What the terminal does with keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every key goes through as it is, Ctrl-C too.
    Raw,
    /// Keys come one by one and are not shown; Ctrl-C still interrupts.
    Keys,
}

/// Keeps the terminal of stdin in a mode until it is dropped, or the program panics.
pub struct Terminal {
    before: Termios,
}

impl Terminal {
    /// Takes it; `None` when stdin is no terminal.
    ///
    /// # Errors
    /// When the terminal refuses.
    pub fn take(mode: Mode) -> io::Result<Option<Self>> {
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(io::stdin())?;
        let mut held = before.clone();
        match mode {
            Mode::Raw => held.make_raw(),
            Mode::Keys => held
                .local_modes
                .remove(LocalModes::ICANON | LocalModes::ECHO),
        }
        // A program that aborts at a panic drops nothing.
        let at_panic = before.clone();
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            put_back(&at_panic);
            hook(info);
        }));
        tcsetattr(io::stdin(), OptionalActions::Now, &held)?;
        Ok(Some(Self { before }))
    }

    /// Columns and rows.
    pub fn size(&self) -> Option<(u16, u16)> {
        let size = tcgetwinsize(io::stdin()).ok()?;
        Some((size.ws_col, size.ws_row))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        put_back(&self.before);
    }
}

fn put_back(before: &Termios) {
    // The terminal may have gone: then there is nothing to be put back.
    let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
}
