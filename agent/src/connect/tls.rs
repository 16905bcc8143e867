//! The TLS stage: a verified connection, or a refusal that says what was wrong with the certificate.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use cattle_trust::Recorder;
use rustls::{AlertDescription, CertificateError, ClientConfig};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::connect::reach::Seconds;

/// Names of a certificate that are repeated in an error.
const SHOWN_NAMES: usize = 8;

/// TLS over `io` with the server `name`.
///
/// # Cancel safety
/// Not cancel safe: the connection is spent.
pub(crate) async fn handshake<S>(
    io: S,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    recorder: Option<&Recorder>,
    within: Duration,
) -> Result<TlsStream<S>, TlsError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let expected = name.to_str().into_owned();
    let result = timeout(within, TlsConnector::from(config).connect(name, io)).await;
    let presented = recorder.and_then(Recorder::take).and_then(|certificate| Presented::read(certificate.leaf()));
    let cause = match result {
        Ok(Ok(stream)) => return Ok(stream),
        Ok(Err(error)) => TlsCause::from_io(error),
        Err(_) => TlsCause::Timeout(within),
    };
    Err(TlsError { expected, presented, cause })
}

/// No verified TLS connection.
#[derive(Debug)]
pub struct TlsError {
    expected: String,
    presented: Option<Presented>,
    cause: TlsCause,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsCause {
    /// No trusted root signed the certificate.
    #[error("its certificate is signed by an unknown authority")]
    UnknownAuthority,
    /// The certificate's time is over.
    #[error("its certificate has expired")]
    Expired,
    /// The certificate's time has not come.
    #[error("its certificate is not valid yet")]
    NotYetValid,
    /// The certificate is for other names.
    #[error("its certificate is for another name")]
    NameMismatch,
    /// Anything else that is wrong with the certificate.
    #[error("its certificate is not acceptable")]
    Certificate(#[source] rustls::Error),
    /// The other end refused.
    #[error("it refused the handshake")]
    Alert(#[source] AlertText),
    /// The other end does not speak TLS.
    #[error("its answer is not TLS")]
    NotTls,
    /// The other end hung up.
    #[error("it closed the connection during the handshake")]
    Closed,
    /// The other end says nothing.
    #[error("no handshake within {}", Seconds(*.0))]
    Timeout(Duration),
    /// TLS failed otherwise.
    #[error("the handshake failed")]
    Other(#[source] rustls::Error),
    /// The connection failed.
    #[error("the connection failed during the handshake")]
    Io(#[source] io::Error),
}

/// A TLS alert.
#[derive(Debug, thiserror::Error)]
#[error("alert {0:?}")]
pub struct AlertText(AlertDescription);

impl TlsCause {
    fn from_io(error: io::Error) -> Self {
        let kind = error.kind();
        match error.into_inner().map(|inner| inner.downcast::<rustls::Error>()) {
            Some(Ok(error)) => Self::from_tls(*error),
            Some(Err(_)) | None if kind == io::ErrorKind::UnexpectedEof || kind == io::ErrorKind::ConnectionReset => {
                Self::Closed
            }
            Some(Err(inner)) => Self::Io(io::Error::new(kind, inner)),
            None => Self::Io(kind.into()),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "rustls' errors are open; the rest keeps its own text")]
    fn from_tls(error: rustls::Error) -> Self {
        use rustls::Error;
        match error {
            Error::InvalidCertificate(error) => match error {
                CertificateError::UnknownIssuer => Self::UnknownAuthority,
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    Self::NameMismatch
                }
                error => Self::Certificate(Error::InvalidCertificate(error)),
            },
            Error::AlertReceived(alert) => Self::Alert(AlertText(alert)),
            Error::InvalidMessage(_) => Self::NotTls,
            error => Self::Other(error),
        }
    }
}

impl TlsError {
    /// Why.
    pub fn cause(&self) -> &TlsCause {
        &self.cause
    }

    /// The error's name for metrics and scripts.
    pub fn code(&self) -> &'static str {
        match self.cause {
            TlsCause::UnknownAuthority => "tls_unknown_authority",
            TlsCause::Expired => "tls_expired",
            TlsCause::NotYetValid => "tls_not_yet_valid",
            TlsCause::NameMismatch => "tls_name_mismatch",
            TlsCause::Certificate(_) => "tls_bad_certificate",
            TlsCause::Alert(_) => "tls_alert",
            TlsCause::NotTls => "tls_not_tls",
            TlsCause::Closed => "tls_closed",
            TlsCause::Timeout(_) => "tls_timeout",
            TlsCause::Other(_) => "tls_other",
            TlsCause::Io(_) => "tls_failed",
        }
    }

    /// What an operator should do.
    pub fn next_step(&self) -> &'static str {
        match self.cause {
            TlsCause::UnknownAuthority => {
                "The server's CA was replaced, or a middlebox inspects TLS: apply a fresh import manifest (new \
                 CATTLE_CA_CHECKSUM), or exempt the server from inspection."
            }
            TlsCause::Expired => "Renew the server's certificate, and check the clock of the agent's node.",
            TlsCause::NotYetValid => "Check the clock of the agent's node: it seems to be slow.",
            TlsCause::NameMismatch => {
                "Use a name in CATTLE_SERVER that the server's certificate bears, or start the server with --url of \
                 this name."
            }
            TlsCause::Certificate(_) => "Replace the server's certificate with an acceptable one.",
            TlsCause::NotTls => "Something else answers on this port: check CATTLE_SERVER's port.",
            TlsCause::Alert(_) | TlsCause::Closed | TlsCause::Timeout(_) | TlsCause::Io(_) | TlsCause::Other(_) => {
                "A load balancer or firewall between interrupts TLS: check that it passes this name through."
            }
        }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no trusted TLS connection with {}", self.expected)?;
        match &self.presented {
            Some(presented) => write!(f, " ({presented})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for TlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// What a certificate says of itself. Nothing of it is trusted; it is for people.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Presented {
    subject: String,
    issuer: String,
    names: Vec<String>,
    not_before: String,
    not_after: String,
}

impl Presented {
    pub(crate) fn read(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let names = certificate.subject_alternative_name().ok().flatten();
        Some(Self {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            names: names
                .map(|names| names.value.general_names.iter().filter_map(shown).take(SHOWN_NAMES).collect())
                .unwrap_or_default(),
            not_before: certificate.validity().not_before.to_string(),
            not_after: certificate.validity().not_after.to_string(),
        })
    }
}

fn shown(name: &GeneralName<'_>) -> Option<String> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "only names and addresses are compared with a URL")]
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|bytes| std::net::Ipv4Addr::from(bytes).to_string()),
            16 => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| std::net::Ipv6Addr::from(bytes).to_string()),
            _ => None,
        },
        _ => None,
    }
}

impl fmt::Display for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, issuer, names, not_before, not_after } = self;
        write!(
            f,
            "certificate of {subject}, issued by {issuer}, for {}, valid {not_before} to {not_after}",
            names.join(", ")
        )
    }
}
