//! Which calls are let in: those with a token of the right scope.

use std::net::IpAddr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use chrono::Utc;

use super::Server;
use super::problem::Problem;
use crate::access::{Holder, Scope};

/// From where a call comes.
#[derive(Clone, Copy, Debug)]
pub enum Peer {
    /// From this address.
    Address(IpAddr),
    /// By the Unix socket.
    Socket,
}

impl Peer {
    /// Whether it is a process of this machine.
    pub fn is_local(self) -> bool {
        match self {
            Peer::Address(address) => address.to_canonical().is_loopback(),
            Peer::Socket => true,
        }
    }
}

/// A caller that may post.
pub struct MayPost(pub Holder);
/// A caller that may read.
pub struct MayRead;
/// A caller that may operate; its orders are written down.
pub struct MayOperate(pub Holder);
/// A caller of this machine, or one that may read.
pub struct MayLook;

impl FromRequestParts<Server> for MayPost {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, server: &Server) -> Result<MayPost, Problem> {
        holder(parts, server, Scope::Post).await.map(MayPost)
    }
}

impl FromRequestParts<Server> for MayRead {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, server: &Server) -> Result<MayRead, Problem> {
        holder(parts, server, Scope::Read).await.map(|_| MayRead)
    }
}

impl FromRequestParts<Server> for MayOperate {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, server: &Server) -> Result<MayOperate, Problem> {
        holder(parts, server, Scope::Operate).await.map(MayOperate)
    }
}

impl FromRequestParts<Server> for MayLook {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, server: &Server) -> Result<MayLook, Problem> {
        match parts.extensions.get::<Peer>() {
            Some(peer) if is_of_this_machine(*peer, &parts.headers) => Ok(MayLook),
            _ => holder(parts, server, Scope::Read).await.map(|_| MayLook),
        }
    }
}

/// Whether a process of this machine calls for itself.
fn is_of_this_machine(peer: Peer, headers: &HeaderMap) -> bool {
    match peer {
        Peer::Socket => true,
        // A proxy on this machine calls for others, and says so.
        Peer::Address(_) => {
            peer.is_local()
                && !["forwarded", "x-forwarded-for"].iter().any(|name| headers.contains_key(*name))
                && headers.get(header::HOST).is_none_or(names_this_machine)
        }
    }
}

/// Whether a `Host` is an IP address or `localhost`. A hostile page can make a browser here call the daemon by a name of its own,
/// which its name server points at this machine.
fn names_this_machine(host: &HeaderValue) -> bool {
    let authority = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
    authority.is_some_and(|authority| {
        let name = authority.host();
        name.eq_ignore_ascii_case("localhost") || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
    })
}

/// The holder of the call's token, if it has the scope.
async fn holder(parts: &Parts, server: &Server, scope: Scope) -> Result<Holder, Problem> {
    let text = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some(text) = text.and_then(bearer) else {
        let detail =
            "the call has no token: send the header `Authorization: Bearer TOKEN`; `pointsd token create` makes one";
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "no_token", detail));
    };
    let holder = server.holder_of(text).await?;
    if holder.scopes.contains(&scope) {
        return Ok(holder);
    }
    let detail = format!("the token {} has not the scope {scope}", holder.name);
    Err(Problem::new(StatusCode::FORBIDDEN, "scope", detail))
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

impl Server {
    /// The holder of a token. A valid one is always let in; of the others only so many a second are told that they are wrong, so
    /// that guessing is slow and fills no log.
    pub(super) async fn holder_of(&self, token: &str) -> Result<Holder, Problem> {
        if let Some(holder) = self.ledger()?.tokens.check(token, Utc::now()).await? {
            return Ok(holder);
        }
        if self.guesses().check().is_err() {
            let detail = "too many calls came with a wrong token; wait before the next one";
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_attempts", detail).after(1));
        }
        let detail =
            "the token is not valid: it is misspelt, has ended or was revoked; `pointsd token list` shows which are";
        Err(Problem::new(StatusCode::UNAUTHORIZED, "wrong_token", detail))
    }
}
