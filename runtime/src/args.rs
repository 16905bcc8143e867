//! Arguments that every binary flattens into its own.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

/// What is logged and how; for `#[command(flatten)]`. What nobody says is [`LogFilter::default`] and [`LogFormat::default`].
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Logging")]
pub struct LogArgs {
    /// Level, or a list of directives such as `info,cattle_tunnel=debug`. Default: info
    #[arg(long, env = "CATTLE_LOG_LEVEL", value_name = "FILTER", global = true)]
    pub log_level: Option<LogFilter>,

    /// Form of a line: `text` for people, `json` for collectors. Default: text
    #[arg(long, env = "CATTLE_LOG_FORMAT", value_name = "FORMAT", global = true)]
    pub log_format: Option<LogFormat>,
}

impl LogArgs {
    /// These, and what they leave open from `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self { log_level: self.log_level.or(other.log_level), log_format: self.log_format.or(other.log_format) }
    }
}

/// Where the admin listener listens; for `#[command(flatten)]`.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Admin listener")]
pub struct AdminArgs {
    /// Address of /healthz, /readyz and /metrics; port 0 takes a free one, which is logged
    #[arg(long, env = "CATTLE_ADMIN_LISTEN", value_name = "IP:PORT", default_value = "127.0.0.1:0")]
    pub admin_listen: SocketAddr,
}

/// Form of the log lines.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum LogFormat {
    /// One line of text for each event, with colours on a terminal.
    #[default]
    Text,
    /// One JSON object for each event.
    Json,
}

/// Directives of `tracing_subscriber::EnvFilter`, known to parse.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogFilter(String);

impl LogFilter {
    pub(crate) fn to_env_filter(&self) -> EnvFilter {
        EnvFilter::new(&self.0)
    }
}

impl Default for LogFilter {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl FromStr for LogFilter {
    type Err = LogFilterError;

    fn from_str(directives: &str) -> Result<Self, Self::Err> {
        EnvFilter::try_new(directives).map_err(LogFilterError)?;
        Ok(Self(directives.to_owned()))
    }
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        <Self as ValueEnum>::from_str(name, false)
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A log filter that cannot be parsed.
#[derive(Debug, thiserror::Error)]
#[error("not a log level (error, warn, info, debug, trace) nor a list of target=level directives")]
pub struct LogFilterError(#[source] tracing_subscriber::filter::ParseError);

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        log: LogArgs,
        #[command(flatten)]
        admin: AdminArgs,
    }

    #[test]
    fn defaults_are_quiet_and_local() {
        let command = Command::try_parse_from(["test"]).unwrap();
        assert_eq!(command.log.log_level.unwrap_or_default().to_string(), "info");
        assert_eq!(command.log.log_format.unwrap_or_default(), LogFormat::Text);
        assert!(command.admin.admin_listen.ip().is_loopback());
    }

    #[test]
    fn a_wrong_level_or_address_is_refused_while_parsing() {
        assert!(Command::try_parse_from(["test", "--log-level", "a=b=c"]).is_err());
        assert!(Command::try_parse_from(["test", "--log-format", "xml"]).is_err());
        assert!(Command::try_parse_from(["test", "--admin-listen", "localhost"]).is_err());
        assert!(Command::try_parse_from(["test", "--log-level", "info,cattle_tunnel=debug"]).is_ok());
    }
}
