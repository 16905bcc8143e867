//! How old the server's certificates are, and what an operator is told of it.

use std::{borrow::Cow, fmt, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
    registry::Unit,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::{ServingCertificate, validity};

/// A leaf is worth a word from so long before its end, or from the last third of its life if that is shorter: by then it should
/// have been renewed.
const LEAF_NOTICE: SignedDuration = SignedDuration::from_hours(30 * 24);
/// To replace an authority, every cluster and every user has to be touched.
const AUTHORITY_NOTICE: SignedDuration = SignedDuration::from_hours(365 * 24);

/// How a certificate stands at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Good,
    /// It should have been renewed.
    Ageing {
        until: Timestamp,
    },
    /// Nobody accepts it any more.
    Expired {
        since: Timestamp,
    },
    Unreadable,
}

/// The certificates that others see: the presented leaf, and the authority that they were told to trust.
#[derive(Clone, Debug)]
pub struct Certificates {
    serving: Arc<ServingCertificate>,
    authority: Option<CertificateDer<'static>>,
}

impl Certificates {
    /// What `serving` presents, under the first of `ca_certs` (PEM; empty for public roots).
    #[must_use]
    pub fn new(serving: Arc<ServingCertificate>, ca_certs: &str) -> Self {
        Self { serving, authority: CertificateDer::from_pem_slice(ca_certs.as_bytes()).ok() }
    }

    /// Whether clients can still connect.
    ///
    /// # Errors
    /// What has ended, in a sentence.
    pub fn usable(&self, now: Timestamp) -> Result<(), Cow<'static, str>> {
        let ended = self.standings(now).any(|(_, standing)| matches!(standing, Standing::Expired { .. }));
        if ended { Err(self.warning(now).unwrap_or_default()) } else { Ok(()) }
    }

    /// What should be looked at, in a sentence.
    #[must_use]
    pub fn warning(&self, now: Timestamp) -> Option<Cow<'static, str>> {
        let sentences: Vec<String> =
            self.standings(now).filter_map(|(name, standing)| standing.sentence(name)).collect();
        (!sentences.is_empty()).then(|| sentences.join("; ").into())
    }

    fn standings(&self, now: Timestamp) -> impl Iterator<Item = (&'static str, Standing)> {
        let notices = [("serving", LEAF_NOTICE), ("ca", AUTHORITY_NOTICE)];
        self.all().into_iter().zip(notices).filter_map(move |(certificate, (name, notice))| {
            Some((name, Standing::of(validity(&certificate?), notice, now)))
        })
    }

    fn all(&self) -> [Option<CertificateDer<'static>>; 2] {
        [self.serving.chain().into_iter().next(), self.authority.clone()]
    }
}

impl Standing {
    fn of(validity: Option<(Timestamp, Timestamp)>, notice: SignedDuration, now: Timestamp) -> Self {
        let Some((start, end)) = validity else { return Self::Unreadable };
        let left = end.duration_since(now);
        match left {
            left if left <= SignedDuration::ZERO => Self::Expired { since: end },
            left if left < notice.min(end.duration_since(start) / 3) => Self::Ageing { until: end },
            _ => Self::Good,
        }
    }

    fn sentence(self, name: &str) -> Option<String> {
        match self {
            Self::Good => None,
            Self::Ageing { until } => Some(format!("the {name} certificate ends at {until:.0} and was not renewed")),
            Self::Expired { since } => Some(format!("the {name} certificate ended at {since:.0}; clients refuse it")),
            Self::Unreadable => Some(format!("the {name} certificate cannot be read")),
        }
    }
}

impl Collector for Certificates {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut metric = encoder.encode_descriptor(
            "cattle_server_certificate_expiry_timestamp",
            "When the certificate ends, Unix time",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        for (certificate, name) in self.all().into_iter().zip(["serving", "ca"]) {
            if let Some((_, end)) = certificate.and_then(|certificate| validity(&certificate)) {
                let labels = [("certificate", name)];
                ConstGauge::new(end.as_second()).encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::certificates::{Authority, LeafKey};

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_last_third_of_a_short_life_and_the_last_month_of_a_long_one_are_worth_a_word() {
        let (start, month) = (at("2026-01-01T00:00:00Z"), SignedDuration::from_hours(30 * 24));
        let days = |days: i64| start + SignedDuration::from_hours(days * 24);
        let standing = |life: i64, now: i64| Standing::of(Some((start, days(life))), month, days(now));
        for (life, now, expected) in [
            (9, 5, Standing::Good),
            (9, 7, Standing::Ageing { until: days(9) }),
            (9, 9, Standing::Expired { since: days(9) }),
            (365, 300, Standing::Good),
            (365, 340, Standing::Ageing { until: days(365) }),
            (90, 59, Standing::Good),
            (90, 61, Standing::Ageing { until: days(90) }),
        ] {
            assert_eq!(standing(life, now), expected, "day {now} of {life}");
        }
        assert_eq!(Standing::of(None, month, start), Standing::Unreadable);
    }

    #[test]
    fn an_operator_sees_it_in_words_and_as_a_number() {
        let now = at("2026-01-01T00:00:00Z");
        let authority = Authority::generate(now).unwrap();
        let key = LeafKey::generate().unwrap();
        let leaf = authority.issue("cattle.example.org", &key, now).unwrap();
        let serving = ServingCertificate::new(authority.certified(&leaf, &key).unwrap());
        let certificates = Certificates::new(serving, authority.certificate_pem());
        assert_eq!(certificates.warning(now), None);
        assert!(certificates.usable(now).is_ok());

        let late = at("2026-03-15T00:00:00Z");
        let warning = certificates.warning(late).unwrap();
        assert_eq!(warning, "the serving certificate ends at 2026-04-01T00:00:00Z and was not renewed");
        assert!(certificates.usable(late).is_ok(), "it still serves");
        let error = certificates.usable(at("2026-04-02T00:00:00Z")).unwrap_err();
        assert!(error.contains("ended at 2026-04-01T00:00:00Z"), "{error}");
        assert!(certificates.warning(at("2035-06-01T00:00:00Z")).unwrap().contains("the ca certificate ends at"));

        let mut registry = Registry::default();
        registry.register_collector(Box::new(certificates));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let end = at("2026-04-01T00:00:00Z").as_second();
        let line = format!("cattle_server_certificate_expiry_timestamp_seconds{{certificate=\"serving\"}} {end}\n");
        assert!(text.contains(&line) && text.contains("{certificate=\"ca\"} "), "{text}");
    }
}
