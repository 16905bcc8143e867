//! Results as tables, JSON, YAML and names.

use comfy_table::{Cell, Table};
use jiff::Timestamp;
use serde_json::Value;

use crate::args::Format;
use crate::console::{Console, clean, is_harmful};
use crate::error::CliError;

/// A column: its title, and what it shows of an object.
pub type Column<'a> = (&'a str, &'a (dyn Fn(&Value) -> String + Sync));

/// Shows a list of objects.
///
/// # Errors
/// The stream's.
pub fn list(console: &mut Console, format: Format, objects: &[Value], columns: &[Column<'_>]) -> Result<(), CliError> {
    match format {
        Format::Table => {
            let rows = objects.iter().map(|object| columns.iter().map(|(_, show)| show(object)).collect()).collect();
            let titles: Vec<&str> = columns.iter().map(|(title, _)| *title).collect();
            table(console, &titles, rows)
        }
        Format::Json => {
            let list = serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": objects });
            console.raw(&json(&list)).map_err(CliError::from)
        }
        Format::Yaml => {
            let list = serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": objects });
            console.raw(&yaml(&list)?).map_err(CliError::from)
        }
        Format::Name => names(console, objects),
    }
}

/// Shows one object: as data in the form that was asked for, or through `table`.
///
/// # Errors
/// The stream's.
pub fn one(
    console: &mut Console,
    format: Format,
    object: &Value,
    table: impl FnOnce(&mut Console) -> Result<(), CliError>,
) -> Result<(), CliError> {
    match format {
        Format::Table => table(console),
        Format::Json => console.raw(&json(object)).map_err(CliError::from),
        Format::Yaml => console.raw(&yaml(object)?).map_err(CliError::from),
        Format::Name => names(console, std::slice::from_ref(object)),
    }
}

/// A table in kubectl's manner: titles in capitals, columns apart by spaces, nothing else.
///
/// # Errors
/// The stream's.
pub fn table(console: &mut Console, titles: &[&str], rows: Vec<Vec<String>>) -> Result<(), CliError> {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(titles.iter().map(Cell::new));
    for row in rows {
        table.add_row(row.iter().map(|cell| if cell.is_empty() { "-".to_owned() } else { clean(cell) }));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    for line in table.lines() {
        console.line(line.trim_end())?;
    }
    Ok(())
}

/// Text at a JSON pointer, cleaned; empty when there is none.
#[must_use]
pub fn text(object: &Value, pointer: &str) -> String {
    match object.pointer(pointer) {
        Some(Value::String(text)) => clean(text),
        Some(Value::Bool(value)) => value.to_string(),
        Some(Value::Number(value)) => value.to_string(),
        Some(Value::Null | Value::Array(_) | Value::Object(_)) | None => String::new(),
    }
}

/// How long ago something was, as kubectl writes it: `42s`, `17m`, `5h`, `12d`.
#[must_use]
pub fn age(object: &Value, now: Timestamp) -> String {
    since(&text(object, "/metadata/creationTimestamp"), now)
}

/// The same of a time in RFC 3339; empty when it is none.
#[must_use]
pub fn since(time: &str, now: Timestamp) -> String {
    let Ok(time) = time.parse::<Timestamp>() else { return String::new() };
    let seconds = now.duration_since(time).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn names(console: &mut Console, objects: &[Value]) -> Result<(), CliError> {
    for object in objects {
        console.line(&text(object, "/metadata/name"))?;
    }
    Ok(())
}

/// JSON in which nothing moves a terminal's cursor: what JSON lets stand, this escapes. It means the same.
fn json(value: &Value) -> String {
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        // Outside of strings JSON has no such character but the line feeds of this very layout.
        if character != '\n' && is_harmful(character) {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            escaped.push(character);
        }
    }
    escaped
}

fn yaml(value: &Value) -> Result<String, CliError> {
    serde_saphyr::to_string(value).map_err(|error| CliError::Render(Box::new(error)))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use parking_lot::Mutex;
    use serde_json::json;

    use super::*;
    use crate::golden::golden;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn shown(format: Format, objects: &[Value]) -> String {
        let sink = Sink::default();
        let mut console = Console::new(Box::new(io::empty()), Box::new(sink.clone()), Box::new(io::sink()));
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let name = |object: &Value| text(object, "/spec/displayName");
        let id = |object: &Value| text(object, "/metadata/name");
        let old = move |object: &Value| age(object, now);
        let columns: [Column<'_>; 3] = [("NAME", &name), ("ID", &id), ("AGE", &old)];
        list(&mut console, format, objects, &columns).unwrap();
        let bytes = sink.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn clusters() -> Vec<Value> {
        vec![
            json!({ "metadata": { "name": "c-abcde", "creationTimestamp": "2026-01-01T23:59:18Z" },
                    "spec": { "displayName": "prod" } }),
            json!({ "metadata": { "name": "c-vwxyz", "creationTimestamp": "2025-12-01T00:00:00Z" },
                    "spec": { "displayName": "日本 \u{1b}[31mred\u{9b}" } }),
            json!({ "metadata": { "name": "c-empty" }, "spec": {} }),
        ]
    }

    #[test]
    fn lists_look_as_they_should() {
        golden("list.txt", &shown(Format::Table, &clusters()));
        golden("list.json", &shown(Format::Json, &clusters()));
        golden("list.names", &shown(Format::Name, &clusters()));
        assert_eq!(shown(Format::Table, &[]), "NAME   ID   AGE\n");
    }

    #[test]
    fn json_and_yaml_say_what_the_server_said() {
        let parsed: Value = serde_json::from_str(&shown(Format::Json, &clusters())).unwrap();
        assert_eq!(parsed["items"], json!(clusters()));
        let parsed: Value = serde_saphyr::from_str(&shown(Format::Yaml, &clusters())).unwrap();
        assert_eq!(parsed["items"], json!(clusters()));
    }

    #[test]
    fn no_form_but_exact_yaml_in_a_pipe_lets_a_control_character_through() {
        for format in [Format::Table, Format::Json, Format::Name] {
            let text = shown(format, &clusters());
            assert!(!text.chars().any(|character| character != '\n' && is_harmful(character)), "{format:?}");
        }
    }

    #[test]
    fn ages_are_kubectls() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let of = |made: &str| age(&json!({ "metadata": { "creationTimestamp": made } }), now);
        assert_eq!(of("2026-01-01T23:59:00Z"), "60s");
        assert_eq!(of("2026-01-01T23:50:00Z"), "10m");
        assert_eq!(of("2026-01-01T19:00:00Z"), "5h");
        assert_eq!(of("2025-12-21T00:00:00Z"), "12d");
        assert_eq!(of("2026-01-02T00:00:09Z"), "0s", "a clock that is ahead");
        assert_eq!(of("yesterday"), "");
    }
}
