//! Logs: one subscriber for the process, error chains on one line, nothing that can forge a line.
//!
//! Everything a peer sends may end up in a field (a status line, an error text), so the text form escapes control
//! characters in every value: no peer can write a second line, move the cursor or colour a terminal. The JSON form
//! escapes by its nature.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal};

use tracing::Subscriber;
use tracing::field::Field;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{self, Writer};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::args::{LogArgs, LogFormat};

/// Installs the process-wide subscriber, writing to standard error, and logs panics through it. Call it once, first thing in
/// `main`.
pub fn init(args: &LogArgs) -> Result<(), LogError> {
    subscriber(args, io::stderr, io::stderr().is_terminal()).try_init().map_err(LogError)?;
    // A panic is an error like others: one line, in the form that collectors read.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a task panicked: {}", panic.payload_as_str().unwrap_or("no message"));
    }));
    Ok(())
}

/// The subscriber of [`init`] over a writer of the caller's choice, for tests that read what was logged.
pub fn subscriber<W>(args: &LogArgs, writer: W, ansi: bool) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_env_filter(args.log_level.clone().unwrap_or_default().to_env_filter())
        .with_writer(writer);
    match args.log_format.unwrap_or_default() {
        LogFormat::Text => {
            Box::new(builder.with_ansi(ansi).fmt_fields(format::debug_fn(write_field).delimited(" ")).finish())
        }
        LogFormat::Json => Box::new(builder.json().flatten_event(true).with_span_list(false).finish()),
    }
}

/// A subscriber is already installed.
#[derive(Debug, thiserror::Error)]
#[error("the process already has a log subscriber")]
pub struct LogError(#[source] TryInitError);

/// Shows an error with all its sources on one line: `outer: middle: inner`.
///
/// The `Display` of our errors never repeats its source, so this is the way to log one:
/// `tracing::warn!(error = %error.chain(), "…")`.
pub trait ErrorChain {
    /// The error and its sources.
    fn chain(&self) -> Chain<'_>;
}

impl<E: Error + 'static> ErrorChain for E {
    fn chain(&self) -> Chain<'_> {
        Chain(self)
    }
}

impl ErrorChain for dyn Error + Send + Sync {
    fn chain(&self) -> Chain<'_> {
        Chain(self)
    }
}

/// See [`ErrorChain::chain`].
#[derive(Clone, Copy, Debug)]
pub struct Chain<'e>(&'e (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

/// Shows a value with its control characters escaped (`\n`, `\u{1b}`), so that it stays on its line.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<T>(pub T);

impl<T: fmt::Display> fmt::Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    match field.name() {
        "message" => write!(Escaping(writer), "{value:?}"),
        name => {
            write!(writer, "{}=", name.strip_prefix("r#").unwrap_or(name))?;
            write!(Escaping(writer), "{value:?}")
        }
    }
}

struct Escaping<'w, W>(&'w mut W);

impl<W: fmt::Write> fmt::Write for Escaping<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut plain = 0;
        for (at, character) in text.char_indices().filter(|(_, character)| is_unsafe(*character)) {
            self.0.write_str(&text[plain..at])?;
            write!(self.0, "{}", character.escape_default())?;
            plain = at + character.len_utf8();
        }
        self.0.write_str(&text[plain..])
    }
}

/// Control characters, and the marks that reorder or break lines where a viewer honours them.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, PoisonError};

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("inner\nforged line \u{1b}[31m")]
    struct Inner;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(log_format: LogFormat) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let args = LogArgs { log_format: Some(log_format), ..LogArgs::default() };
        let subscriber = subscriber(&args, move || writer.clone(), false);
        tracing::subscriber::with_default(subscriber, || {
            let _span = tracing::info_span!("session", peer = "a\nb").entered();
            tracing::info!(error = %Outer(Inner).chain(), "two\r\nlines");
            tracing::debug!("not at this level");
        });
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_chain_names_every_source_once() {
        assert_eq!(Outer(Inner).chain().to_string(), "outer: inner\nforged line \u{1b}[31m");
    }

    #[test]
    fn text_keeps_hostile_values_on_one_line() {
        let text = logged(LogFormat::Text);
        assert_eq!(text.matches('\n').count(), 1, "{text:?}");
        assert!(!text.contains('\u{1b}') && !text.contains('\r'), "{text:?}");
        assert!(text.contains(r"two\r\nlines error=outer: inner\nforged line \u{1b}[31m"), "{text:?}");
    }

    #[test]
    fn json_is_one_object_with_the_fields_at_the_top() {
        let text = logged(LogFormat::Json);
        assert_eq!(text.matches('\n').count(), 1, "{text:?}");
        assert!(text.contains(r#""error":"outer: inner\nforged line"#), "{text:?}");
    }

    #[test]
    fn escaping_leaves_ordinary_text_alone() {
        assert_eq!(Escaped("größe=1 → „ok“").to_string(), "größe=1 → „ok“");
        assert_eq!(Escaped("a\tb\u{202e}c").to_string(), r"a\tb\u{202e}c");
    }
}
