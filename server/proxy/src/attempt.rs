//! Sending one admitted request, once or, while RBAC caches catch up, several times.

use std::time::Duration;

use bytes::Bytes;
use cattle_api::Secret;
use http::header::{EXPECT, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper::ext::on_informational;
use hyper::upgrade::Upgraded;
use tokio::time::{Instant, sleep, sleep_until};

use crate::directory::{Diagnosis, ImpersonatorError, Refused};
use crate::error::ProxyError;
use crate::grace::{self, Verdict};
use crate::request_body::ClientBody;
use crate::service::{Admitted, Proxy};
use crate::timing::{Part, Timing};
use crate::upstream::{ANSWER_DEADLINE, Hop, RequestBody, Switch, Upstream, UpstreamBody, UpstreamError};

/// How long an answer may take to begin where a container or a proxied service decides; nobody can ask for more.
const LONG_ANSWER_DEADLINE: Duration = Duration::from_secs(600);
/// How much longer than the client asked for an answer may take: the API server's own refusal should come first.
const MARGIN: Duration = Duration::from_secs(30);

/// What an API server said.
pub(crate) enum Answered {
    /// It switched protocols.
    Switched(Response<()>, Upgraded),
    /// An ordinary answer, and what was already read of it.
    Ordinary(Response<UpstreamBody>, Option<Bytes>),
}

/// One request on its way.
pub(crate) struct Attempts<'a> {
    proxy: &'a Proxy,
    upstream: &'a Upstream,
    request: &'a Admitted,
    body: &'a ClientBody,
    timing: &'a Timing,
    give_up: Instant,
    pause: Duration,
    diagnosis: Option<Diagnosis>,
}

impl<'a> Attempts<'a> {
    pub(crate) fn new(
        proxy: &'a Proxy,
        upstream: &'a Upstream,
        request: &'a Admitted,
        body: &'a ClientBody,
        timing: &'a Timing,
    ) -> Self {
        let give_up = Instant::now() + grace::PATIENCE;
        Self { proxy, upstream, request, body, timing, give_up, pause: grace::FIRST_PAUSE, diagnosis: None }
    }

    /// Until there is an answer that is the user's.
    pub(crate) async fn run(mut self) -> Result<Answered, ProxyError> {
        loop {
            let mut response = match self.send().await? {
                Switch::Switched(head, io) => return Ok(Answered::Switched(head, io)),
                Switch::Refused(response) => response,
            };
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                let unasked = "switched protocols unasked";
                return Err(ProxyError::Answer(self.request.cluster.clone(), unasked));
            }
            let verdict = grace::judge(&mut response, self.request.user.name()).await;
            match verdict {
                Verdict::Users(read) => return Ok(Answered::Ordinary(response, read)),
                Verdict::MayNotImpersonate => self.wait_for_rights(response, Refused::Right).await?,
                Verdict::UnknownToken => self.wait_for_rights(response, Refused::Token).await?,
            }
        }
    }

    /// The impersonator itself was refused. Pauses if the request may be repeated.
    async fn wait_for_rights(&mut self, answer: Response<UpstreamBody>, refused: Refused) -> Result<(), ProxyError> {
        drop(answer);
        let (cluster, user) = (&self.request.cluster, &self.request.user);
        if self.diagnosis.is_none() && !self.proxy.impersonators.recently_written(cluster, user) {
            self.diagnosis = Some(self.proxy.impersonators.diagnose(cluster, user, refused).await);
        }
        let recent = self.proxy.impersonators.recently_written(cluster, user);
        let worth = recent || self.diagnosis == Some(Diagnosis::Rewritten);
        if !worth || !self.body.is_unread() || Instant::now() >= self.give_up {
            let missing = match self.diagnosis.take() {
                Some(Diagnosis::Missing(sentence)) => Some(sentence),
                Some(Diagnosis::Intact) => {
                    Some("all of its objects are there, and the API server refuses it all the same".to_owned())
                }
                Some(Diagnosis::Rewritten) | None => None,
            };
            return Err(ProxyError::ImpersonatorRefused(cluster.clone(), missing));
        }
        self.proxy.metrics.retry_impersonation();
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(grace::LONGEST_PAUSE);
        Ok(())
    }

    async fn send(&self) -> Result<Switch, ProxyError> {
        let cluster = &self.request.cluster;
        let token = self.timing.of(Part::Impersonator, self.token()).await?;
        let request = self.with_body(self.request.outgoing(&token)?);
        let sent = async {
            match self.request.upgrade {
                Some(_) => self.upstream.switch(request).await,
                None => self.upstream.send(request).await.map(Switch::Refused),
            }
        };
        let answered = tokio::select! {
            answered = self.timing.of(Part::Cluster, sent) => answered,
            () = self.too_late() => Err(UpstreamError::TimedOut(Hop::Answer)),
        };
        answered.map_err(|error| ProxyError::Upstream(cluster.clone(), error))
    }

    /// The impersonator's token. Where it has to be made first, a connection for the request is made meanwhile: a cluster that
    /// cannot be reached, or whose API server does not prove itself, is known at once and by its hop, while whoever writes
    /// impersonators would try in vain until the wait is over.
    async fn token(&self) -> Result<Secret, ProxyError> {
        let (cluster, user) = (&self.request.cluster, &self.request.user);
        let unreachable = |error| ProxyError::Upstream(cluster.clone(), error);
        let token = tokio::select! {
            biased;
            token = self.proxy.impersonators.token(cluster, user) => token,
            Err(error) = self.upstream.warm() => return Err(unreachable(error)),
        };
        if matches!(token, Err(ImpersonatorError::Away)) {
            self.upstream.warm().await.map_err(unreachable)?;
        }
        token.map_err(|error| ProxyError::Impersonator(cluster.clone(), error))
    }

    /// Holds the body back if the request may have to be repeated, or if the client itself waits to be asked for it.
    fn with_body(&self, head: Request<()>) -> Request<RequestBody> {
        let (cluster, user) = (&self.request.cluster, &self.request.user);
        let hold = self.request.expects_continue
            || self.diagnosis.is_some()
            || self.proxy.impersonators.recently_written(cluster, user);
        if self.body.is_empty() || !hold {
            return head.map(|()| self.body.attempt());
        }
        let (body, release) = self.body.held_attempt();
        let mut request = head.map(|()| body);
        request.headers_mut().insert(EXPECT, HeaderValue::from_static("100-continue"));
        on_informational(&mut request, move |informational| {
            if informational.status() == StatusCode::CONTINUE {
                release.go();
            }
        });
        request
    }

    /// Resolves when the answer should have begun, counted from the last part of the body that the client gave.
    async fn too_late(&self) {
        let patience = patience(self.request.long_running, self.request.target.query());
        let begun = Instant::now();
        loop {
            let deadline = self.body.last_progress().max(begun) + patience;
            if Instant::now() >= deadline {
                return;
            }
            sleep_until(deadline).await;
        }
    }
}

/// How long the head of an answer may take; why, is told where [`ANSWER_DEADLINE`] is.
fn patience(long_running: bool, query: Option<&str>) -> Duration {
    if long_running {
        return LONG_ANSWER_DEADLINE;
    }
    let pairs = query.into_iter().flat_map(|query| query.split('&')).filter_map(|pair| pair.split_once('='));
    let asked = pairs.filter_map(|(key, value)| match key {
        "timeout" => go_duration(value),
        "timeoutSeconds" => value.parse().ok().map(Duration::from_secs),
        _ => None,
    });
    asked
        .max()
        .map_or(ANSWER_DEADLINE, |asked| asked.saturating_add(MARGIN).clamp(ANSWER_DEADLINE, LONG_ANSWER_DEADLINE))
}

/// A duration as Go writes it, in whole units: `90s`, `5m0s`, `1h`. Nothing shorter than a second matters here.
fn go_duration(text: &str) -> Option<Duration> {
    let units = text.split_inclusive(|character: char| character.is_ascii_alphabetic());
    units
        .map(|part| {
            let (number, unit) = part.split_at_checked(part.len().checked_sub(1)?)?;
            let seconds = match unit {
                "h" => 3600,
                "m" => 60,
                "s" => 1,
                _ => return None,
            };
            Some(Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(seconds)?))
        })
        .try_fold(Duration::ZERO, |sum, part| sum.checked_add(part?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_longer_gets_longer() {
        for (query, seconds) in [
            ("", 90),
            ("limit=500", 90),
            ("timeout=32s", 90),
            ("timeout=90s", 120),
            ("limit=5&timeout=5m0s", 330),
            ("timeoutSeconds=300", 330),
            ("timeoutSeconds=100&timeout=2m", 150),
            ("timeout=1h", 600),
            ("timeout=999999999999999999h", 90),
            ("timeoutSeconds=18446744073709551615", 600),
            ("timeout=x", 90),
            ("timeout=", 90),
            ("timeout=5", 90),
            ("timeout=s", 90),
            ("timeout=%35m", 90),
            ("timeoutSeconds=-1", 90),
        ] {
            assert_eq!(patience(false, Some(query)).as_secs(), seconds, "{query}");
        }
        assert_eq!(patience(false, None), ANSWER_DEADLINE);
        assert_eq!(patience(true, Some("timeout=1s")), LONG_ANSWER_DEADLINE);
    }
}
