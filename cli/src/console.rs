//! The terminal, or what stands in its place.
//!
//! Everything that a server says goes through [`clean`] before it reaches a terminal: a cluster's name must not be able to
//! recolour, rewrite or retitle somebody's screen.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use zeroize::Zeroizing;

use crate::error::CliError;

/// The longest password or token that is read from standard input, in bytes.
const MAX_SECRET: u64 = 4096;

/// Where a command reads and writes.
pub struct Console {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    input: Box<dyn BufRead + Send>,
    /// A person sits at both ends: questions can be asked.
    interactive: bool,
    colours: bool,
    out_is_terminal: bool,
}

/// A colour of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Good.
    Green,
    /// Not good.
    Red,
    /// Not known.
    Yellow,
}

impl Console {
    /// The process's own streams. Colours only on a terminal, and not when `NO_COLOR` is set (no-color.org).
    #[must_use]
    pub fn real(no_color: bool) -> Self {
        let (out, err) = (io::stdout(), io::stderr());
        let out_is_terminal = out.is_terminal();
        Self {
            interactive: io::stdin().is_terminal() && err.is_terminal(),
            colours: out_is_terminal && !no_color,
            out_is_terminal,
            out: Box::new(out),
            err: Box::new(err),
            input: Box::new(io::BufReader::new(io::stdin())),
        }
    }

    /// Streams of a test, or of another program. Nobody can be asked anything.
    #[must_use]
    pub fn new(input: Box<dyn BufRead + Send>, out: Box<dyn Write + Send>, err: Box<dyn Write + Send>) -> Self {
        Self { out, err, input, interactive: false, colours: false, out_is_terminal: false }
    }

    /// Whether a question can be asked.
    #[must_use]
    pub fn is_interactive(&self) -> bool {
        self.interactive
    }

    /// A line of the command's result.
    ///
    /// # Errors
    /// The stream's.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }

    /// A result as it is: a manifest, a kubeconfig, a token. On a terminal it is cleaned, in a pipe it is exact.
    ///
    /// # Errors
    /// The stream's.
    pub fn raw(&mut self, text: &str) -> io::Result<()> {
        let cleaned;
        let text = if self.out_is_terminal {
            cleaned = clean_lines(text);
            &cleaned
        } else {
            text
        };
        self.out.write_all(text.as_bytes())?;
        if !text.ends_with('\n') {
            self.out.write_all(b"\n")?;
        }
        self.out.flush()
    }

    /// A remark for a person: progress, warnings. It goes to standard error, so that results can be piped.
    pub fn say(&mut self, text: &str) {
        // A closed standard error is no reason to fail.
        let _ = writeln!(self.err, "{text}");
    }

    /// The word in a colour, where there are colours.
    #[must_use]
    pub fn paint(&self, colour: Colour, word: &str) -> String {
        let code = match colour {
            Colour::Green => 32,
            Colour::Red => 31,
            Colour::Yellow => 33,
        };
        if self.colours { format!("\u{1b}[{code}m{word}\u{1b}[0m") } else { word.to_owned() }
    }

    /// Asks for one line.
    ///
    /// # Errors
    /// [`CliError::NoTerminal`] with `otherwise` when nobody is there.
    pub fn ask(&mut self, question: &str, otherwise: &'static str) -> Result<String, CliError> {
        if !self.interactive {
            return Err(CliError::NoTerminal(otherwise));
        }
        write!(self.err, "{question}")?;
        self.err.flush()?;
        let mut answer = String::new();
        self.input.by_ref().take(MAX_SECRET).read_line(&mut answer)?;
        Ok(answer.trim().to_owned())
    }

    /// Asks for a secret, which is not shown while it is typed.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn ask_secret(&mut self, question: &str, otherwise: &'static str) -> Result<Zeroizing<String>, CliError> {
        if !self.interactive {
            return Err(CliError::NoTerminal(otherwise));
        }
        Ok(Zeroizing::new(rpassword::prompt_password(question)?))
    }

    /// A line of standard input, for the `--…-stdin` flags; `None` at the end.
    ///
    /// # Errors
    /// The stream's.
    pub fn read_secret(&mut self) -> Result<Option<Zeroizing<String>>, CliError> {
        let mut line = Zeroizing::new(String::new());
        let read = self.input.by_ref().take(MAX_SECRET).read_line(&mut line)?;
        let text = line.trim_end_matches(['\n', '\r']);
        Ok((read > 0 && !text.is_empty()).then(|| Zeroizing::new(text.to_owned())))
    }

    /// A file's worth of standard input is not wanted here; what is left of results is written out.
    ///
    /// # Errors
    /// The stream's.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()?;
        self.err.flush()
    }
}

/// Text of a server, safe to show on one line: every control character, also the eight-bit ones and those that reorder
/// text, becomes a replacement character.
#[must_use]
pub fn clean(text: &str) -> String {
    text.chars().map(|character| if is_harmful(character) { '\u{fffd}' } else { character }).collect()
}

/// As [`clean`], and lines stay lines.
#[must_use]
pub fn clean_lines(text: &str) -> String {
    let keep = |character: char| character == '\n' || character == '\t' || !is_harmful(character);
    text.chars().map(|character| if keep(character) { character } else { '\u{fffd}' }).collect()
}

/// Controls (C0, DEL, C1), bidirectional overrides and isolates, and line and paragraph separators.
pub(crate) fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{061c}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_server_moves_the_cursor() {
        assert_eq!(clean("prod\u{1b}[2J\u{9b}31m\r\n\u{7}x"), "prod\u{fffd}[2J\u{fffd}31m\u{fffd}\u{fffd}\u{fffd}x");
        assert_eq!(clean("a\u{202e}b\u{2066}c\u{2028}d"), "a\u{fffd}b\u{fffd}c\u{fffd}d");
        assert_eq!(clean("übung 日本 🐄"), "übung 日本 🐄");
        assert_eq!(clean_lines("a\n\tb\u{1b}c\r"), "a\n\tb\u{fffd}c\u{fffd}");
    }

    #[test]
    fn secrets_are_read_line_by_line() {
        let input: Box<dyn BufRead + Send> = Box::new(io::Cursor::new(b"first\r\nsecond\n\nfourth".to_vec()));
        let mut console = Console::new(input, Box::new(io::sink()), Box::new(io::sink()));
        let mut next = || console.read_secret().unwrap().map(|line| line.to_string());
        assert_eq!(next().as_deref(), Some("first"));
        assert_eq!(next().as_deref(), Some("second"));
        assert_eq!(next(), None, "an empty line is no secret");
        assert_eq!(next().as_deref(), Some("fourth"));
        assert_eq!(next(), None);
    }

    #[test]
    fn nobody_is_asked_in_a_pipe() {
        let mut console = Console::new(Box::new(io::empty()), Box::new(io::sink()), Box::new(io::sink()));
        assert!(matches!(console.ask("?", "use a flag"), Err(CliError::NoTerminal("use a flag"))));
        assert_eq!(console.paint(Colour::Red, "x"), "x");
    }
}
