//! Sending one admitted request, once or, while RBAC caches catch up, several times.

use std::time::Duration;

use bytes::Bytes;
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
use crate::upstream::{ANSWER_DEADLINE, Hop, RequestBody, Switch, Upstream, UpstreamBody, UpstreamError};

/// How long an answer may take to begin where a container or a proxied service decides.
const LONG_ANSWER_DEADLINE: Duration = Duration::from_secs(600);

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
    give_up: Instant,
    pause: Duration,
    diagnosis: Option<Diagnosis>,
}

impl<'a> Attempts<'a> {
    pub(crate) fn new(proxy: &'a Proxy, upstream: &'a Upstream, request: &'a Admitted, body: &'a ClientBody) -> Self {
        let give_up = Instant::now() + grace::PATIENCE;
        Self { proxy, upstream, request, body, give_up, pause: grace::FIRST_PAUSE, diagnosis: None }
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
        let token = match self.proxy.impersonators.token(cluster, &self.request.user).await {
            Ok(token) => token,
            Err(error) => return Err(ProxyError::Impersonator(cluster.clone(), self.explained(error).await)),
        };
        let request = self.with_body(self.request.outgoing(&token)?);
        let sent = async {
            match self.request.upgrade {
                Some(_) => self.upstream.switch(request).await,
                None => self.upstream.send(request).await.map(Switch::Refused),
            }
        };
        let answered = tokio::select! {
            answered = sent => answered,
            () = self.too_late() => Err(UpstreamError::TimedOut(Hop::Answer)),
        };
        answered.map_err(|error| ProxyError::Upstream(cluster.clone(), error))
    }

    /// Whoever writes impersonators may not know why or since when a cluster is away; the dialer does.
    async fn explained(&self, error: ImpersonatorError) -> ImpersonatorError {
        let ImpersonatorError::Unreachable(_) = error else { return error };
        self.upstream.why_unreachable().await.map_or(error, ImpersonatorError::Unreachable)
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
        let patience = if self.request.long_running { LONG_ANSWER_DEADLINE } else { ANSWER_DEADLINE };
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
