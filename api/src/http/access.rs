//! Who may ask over HTTP: anybody on this machine in `dev`, holders of a token otherwise.
//!
//! Without tokens a browser is the danger: a page of another site may send requests to loopback,
//! so Host must be a loopback name and Origin must be absent or our own. Tokens are kept as
//! digests and are never logged or repeated.

use std::{net::IpAddr, path::Path, sync::Arc};

use axum::http::{
    HeaderMap, HeaderName,
    header::{AUTHORIZATION, HOST, ORIGIN},
};
use domain::log::{Actor, ActorKind};

use super::tokens::{self, Tokens};

/// The actor's name where no token is asked for.
const LOOPBACK_NAME: &str = "local";

/// Who may ask.
#[derive(Debug, Clone)]
pub struct Access(Rule);

#[derive(Debug, Clone)]
enum Rule {
    Loopback,
    Tokens(Arc<Tokens>),
}

/// Somebody who may ask, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Who it is, for every command it gives.
    pub actor: Actor,
    /// Whether it may command.
    pub may_write: bool,
}

/// Why a request is not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The token is missing or not a known one.
    #[error("header Authorization must be `Bearer <token>` with a token of this control plane")]
    Unauthenticated,
    /// The request came by a name that is not this machine's own.
    #[error("header Host must be a loopback name, such as localhost or 127.0.0.1")]
    Host,
    /// The request came from a page of another site.
    #[error("header Origin must be absent, or the same as Host")]
    Origin,
    /// A header that decides is given twice, or is not text.
    #[error("header {0} must be given once, as text")]
    Malformed(HeaderName),
}

impl Denied {
    /// A stable name for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::Host | Self::Origin | Self::Malformed(_) => "FORBIDDEN",
        }
    }
}

impl Access {
    /// Everybody who reaches a loopback address, but no page of another site. For `dev` only.
    #[must_use]
    pub fn loopback() -> Self {
        Self(Rule::Loopback)
    }

    /// Only who holds one of a file's tokens; see [`tokens`] for the file.
    ///
    /// # Errors
    /// When the file cannot be read, is readable by others, or is malformed.
    pub fn with_tokens(path: &Path) -> Result<Self, tokens::Error> {
        Ok(Self(Rule::Tokens(Arc::new(Tokens::read(path)?))))
    }

    /// Judges a request by its headers; `via` names the edge in the actor. `None`: a token is
    /// asked for and none was given, which a WebSocket may still do in its first message.
    ///
    /// # Errors
    /// Why it is not answered.
    pub fn judge(&self, headers: &HeaderMap, via: &str) -> Result<Option<Caller>, Denied> {
        match &self.0 {
            Rule::Loopback => {
                check_loopback(headers)?;
                let name = LOOPBACK_NAME.into();
                let actor = Actor { kind: ActorKind::User, name, via: via.into() };
                Ok(Some(Caller { actor, may_write: true }))
            }
            Rule::Tokens(_) => match once(headers, &AUTHORIZATION)? {
                Some(value) => self.judge_bearer(value, via).map(Some),
                None => Ok(None),
            },
        }
    }

    /// Judges the value of an Authorization header, wherever it was given.
    ///
    /// # Errors
    /// [`Denied::Unauthenticated`] when it holds no known token.
    pub fn judge_bearer(&self, value: &str, via: &str) -> Result<Caller, Denied> {
        let Rule::Tokens(tokens) = &self.0 else { return Err(Denied::Unauthenticated) };
        let token = bearer(value).ok_or(Denied::Unauthenticated)?;
        let holder = tokens.find(token).ok_or(Denied::Unauthenticated)?;
        let name = holder.name.as_str().into();
        let actor = Actor { kind: ActorKind::User, name, via: via.into() };
        Ok(Caller { actor, may_write: holder.may_write })
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn check_loopback(headers: &HeaderMap) -> Result<(), Denied> {
    let host = once(headers, &HOST)?.ok_or(Denied::Host)?;
    if !is_loopback(host) {
        return Err(Denied::Host);
    }
    let Some(origin) = once(headers, &ORIGIN)? else { return Ok(()) };
    let is_same = ["http://", "https://"]
        .iter()
        .filter_map(|scheme| origin.strip_prefix(scheme))
        .any(|authority| authority.eq_ignore_ascii_case(host));
    if is_same { Ok(()) } else { Err(Denied::Origin) }
}

fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(address, _)| address),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn once<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Denied> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match (value.to_str(), values.next()) {
        (Ok(text), None) => Ok(Some(text)),
        (Ok(_) | Err(_), _) => Err(Denied::Malformed(name.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(headers: &[(&'static str, &str)]) -> Result<bool, Denied> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        Access::loopback().judge(&map, "graphql").map(|caller| caller.is_some())
    }

    #[test]
    fn other_sites_and_other_names_do_not_reach_a_loopback_server() {
        assert_eq!(judged(&[]), Err(Denied::Host));
        assert_eq!(judged(&[("host", "attacker.example:7400")]), Err(Denied::Host));
        assert_eq!(judged(&[("host", "localhost.attacker.example")]), Err(Denied::Host));
        assert_eq!(judged(&[("host", "127.0.0.1.attacker.example")]), Err(Denied::Host));
        assert_eq!(judged(&[("host", "10.0.0.1")]), Err(Denied::Host));
        let host = ("host", "localhost:7400");
        assert_eq!(judged(&[host, ("origin", "https://attacker.example")]), Err(Denied::Origin));
        assert_eq!(judged(&[host, ("origin", "http://localhost:9999")]), Err(Denied::Origin));
        assert_eq!(judged(&[host, ("origin", "null")]), Err(Denied::Origin));
        assert_eq!(judged(&[host, host]), Err(Denied::Malformed(HOST)));

        assert_eq!(judged(&[host]), Ok(true));
        assert_eq!(judged(&[host, ("origin", "http://localhost:7400")]), Ok(true));
        assert_eq!(judged(&[("host", "127.0.0.1:1")]), Ok(true));
        assert_eq!(judged(&[("host", "[::1]:7400")]), Ok(true));
    }
}
