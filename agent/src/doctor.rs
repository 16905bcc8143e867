//! The staged dial as a table, for whoever has to find out why an agent does not connect.

use std::fmt;

use cattle_runtime::ErrorChain as _;
use cattle_runtime::log::Escaped;
use serde::Serialize;

use crate::connect::{Dialer, Observer, Stage};
use crate::credential::CredentialKind;
use crate::identity::Identity;

/// What was examined, line by line.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    lines: Vec<Line>,
}

/// One examined thing.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// What was examined: a stage's name, or one of the caller's.
    pub stage: &'static str,
    /// How it came out.
    pub result: Outcome,
    /// What was found, or the error with its sources.
    pub detail: String,
    /// The error's code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_step: Option<&'static str>,
}

/// How an examination came out.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// All right.
    Ok,
    /// Something is wrong.
    Failed,
}

impl Line {
    /// Something that is all right.
    pub fn ok(stage: &'static str, detail: impl Into<String>) -> Self {
        Self { stage, result: Outcome::Ok, detail: detail.into(), code: None, next_step: None }
    }

    /// Something that is not.
    pub fn failed(stage: &'static str, detail: impl Into<String>, code: &'static str, next_step: &'static str) -> Self {
        Self { stage, result: Outcome::Failed, detail: detail.into(), code: Some(code), next_step: Some(next_step) }
    }
}

impl Report {
    /// Adds a line.
    pub fn push(&mut self, line: Line) {
        self.lines.push(line);
    }

    /// The lines so far.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Whether nothing is wrong.
    pub fn is_ok(&self) -> bool {
        self.lines.iter().all(|line| line.result == Outcome::Ok)
    }
}

impl Observer for Report {
    fn passed(&mut self, stage: Stage, detail: String) {
        self.push(Line::ok(stage.name(), detail));
    }
}

/// Dials once, as the agent does, and ends the session at once. Registers nothing: it shows the projected token only.
pub async fn examine(dialer: &Dialer, identity: &Identity, report: &mut Report) {
    // The session ends here, with its driver.
    let result = dialer.connect(identity, CredentialKind::ServiceAccount, report).await.map(drop);
    if let Err(error) = result {
        let detail = error.chain().to_string();
        report.push(Line::failed(error.stage().name(), detail, error.code(), error.next_step()));
    }
}

/// The table for people.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.lines.iter().map(|line| line.stage.len()).max().unwrap_or_default().max("STAGE".len());
        writeln!(f, "{:width$}  RESULT  DETAIL", "STAGE")?;
        for Line { stage, result, detail, code, next_step } in &self.lines {
            let result = match result {
                Outcome::Ok => "ok",
                Outcome::Failed => "FAILED",
            };
            // Details repeat what peers say.
            writeln!(f, "{stage:width$}  {result:6}  {}", Escaped(detail))?;
            for (name, text) in [("code", code), ("next step", next_step)] {
                if let Some(text) = text {
                    writeln!(f, "{:width$}          {name}: {text}", "")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_aligns_escapes_and_advises() {
        let mut report = Report::default();
        report.passed(Stage::Dns, "server cattle.example: 192.0.2.1:443".to_owned());
        report.push(Line::failed("authentication", "no session: \u{1b}[31mred", "TokenExpired", "Compare the clocks."));
        let expected = "\
STAGE           RESULT  DETAIL
dns             ok      server cattle.example: 192.0.2.1:443
authentication  FAILED  no session: \\u{1b}[31mred
                        code: TokenExpired
                        next step: Compare the clocks.
";
        assert_eq!(report.to_string(), expected);
        assert!(!report.is_ok());
    }

    #[test]
    fn json_has_one_object_for_each_line() {
        let mut report = Report::default();
        report.push(Line::failed("dns", "none", "dns_no_address", "Add one."));
        let expected = r#"{"lines":[{"stage":"dns","result":"failed","detail":"none","code":"dns_no_address","nextStep":"Add one."}]}"#;
        assert_eq!(serde_json::to_string(&report).unwrap(), expected);
    }
}
