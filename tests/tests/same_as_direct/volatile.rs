//! What may differ between two runs of one change: the closed list.
//!
//! A field is masked where it stands first on a line, as in YAML, in indented JSON and in what helm prints. Everything that
//! is not listed here must be equal.

use base64::Engine as _;
use serde_json::Value;

/// Fields that the API server or helm makes up anew for each object.
const FIELDS: [&str; 7] =
    ["uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "time", "updated", "LAST DEPLOYED"];

/// What generated names begin with; five characters follow.
const GENERATED: [&str; 2] = ["gen-", "kube-api-access-"];

/// Claims of a service account's token that are new in each; UIDs inside are [`FIELDS`].
const CLAIMS: [&str; 4] = ["exp", "iat", "nbf", "jti"];

/// Beginnings of the lines in which `diff` names the files that kubectl made for it.
const FILES: [&str; 3] = ["diff -u -N ", "--- /", "+++ /"];

/// The text with everything on the list replaced.
pub(crate) fn masked(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", line_masked(line))).collect()
}

fn line_masked(line: &str) -> String {
    if let Some(claims) = claims(line) {
        return claims;
    }
    if let Some(file) = FILES.iter().find(|file| line.starts_with(*file)) {
        return format!("{file}<file>");
    }
    let start = line.len() - line.trim_start_matches([' ', '-', '+', '"']).len();
    let (indent, rest) = line.split_at(start);
    for field in FIELDS {
        let value = rest.strip_prefix(field).map(|value| value.trim_start_matches('"'));
        if value.is_some_and(|value| value.starts_with(':')) {
            return format!("{indent}{field}: <{field}>");
        }
    }
    let named = GENERATED.iter().fold(line.to_owned(), |line, prefix| names_masked(&line, prefix));
    age_masked(&times_masked(&named))
}

/// The claims of a token, if the line is one.
fn claims(line: &str) -> Option<String> {
    let payload = line.strip_prefix("eyJ").and_then(|rest| rest.split('.').nth(1))?;
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).ok()?;
    let mut claims: Value = serde_json::from_slice(&payload).ok()?;
    let object = claims.as_object_mut()?;
    for claim in CLAIMS {
        object.remove(claim)?;
    }
    Some(masked(&serde_json::to_string_pretty(&claims).ok()?))
}

fn names_masked(line: &str, prefix: &str) -> String {
    let mut parts = line.split(prefix);
    let mut masked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let is_name =
            part.len() >= 5 && part.bytes().take(5).all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        masked.push_str(prefix);
        masked.push_str(if is_name { "<name>" } else { "" });
        masked.push_str(if is_name { &part[5..] } else { part });
    }
    masked
}

/// Timestamps of RFC 3339, wherever they stand.
fn times_masked(line: &str) -> String {
    const SHAPE: &[u8] = b"0000-00-00T00:00:00Z";
    let is_time = |bytes: &[u8]| {
        bytes.len() == SHAPE.len()
            && bytes
                .iter()
                .zip(SHAPE)
                .all(|(byte, shape)| if *shape == b'0' { byte.is_ascii_digit() } else { byte == shape })
    };
    let mut masked = line.to_owned();
    while let Some(at) = masked.as_bytes().windows(SHAPE.len()).position(is_time) {
        masked.replace_range(at..at + SHAPE.len(), "<time>");
    }
    masked
}

/// An age at the end of a table's row.
fn age_masked(line: &str) -> String {
    let is_age = |word: &str| {
        let number = word.strip_suffix('s');
        number.is_some_and(|number| {
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'm')
        })
    };
    match line.rsplit_once("  ") {
        Some((row, age)) if is_age(age.trim()) => format!("{}  <age>", row.trim_end()),
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::masked;

    #[test]
    fn only_what_is_listed_is_masked() {
        let table = [
            ("  uid: 1234", "  uid: <uid>\n"),
            ("    \"resourceVersion\": \"7\",", "    \"resourceVersion: <resourceVersion>\n"),
            ("- time: x", "- time: <time>\n"),
            ("  timeout: 7", "  timeout: 7\n"),
            ("configmap/gen-ab12z created", "configmap/gen-<name> created\n"),
            ("gen-A", "gen-A\n"),
            ("using v1 at 2026-11-23T04:05:06Z: .data", "using v1 at <time>: .data\n"),
            ("--- /tmp/LIVE-1/x\t2026", "--- /<file>\n"),
            ("data: uid", "data: uid\n"),
            ("tiny-first   1      2s", "tiny-first   1  <age>\n"),
            ("tiny   2m11s", "tiny  <age>\n"),
            ("waited 2s", "waited 2s\n"),
            ("pods   items", "pods   items\n"),
        ];
        for (text, expected) in table {
            assert_eq!(masked(text), expected);
        }
    }
}
