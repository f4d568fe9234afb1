//! What goes wrong with a request on its way to an instance, in the words of `X-Diario-Error`.
//!
//! The texts go to whoever sent the request: they say what to do, and never name a machine.

use hyper::StatusCode;

/// Why a request was not answered by an instance, or not wholly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The request names no host, several, or something that is no host name.
    #[error("The request names no valid host. Send one Host header that holds a host name.")]
    BadHost,
    /// No desired LRP asks for the host.
    #[error("No app has this route. Check the host name, or add the route to the app.")]
    UnknownRoute,
    /// The route is asked for, but nothing runs behind it now.
    #[error("The app behind this route has no running instance now. Try again in a moment.")]
    NoEndpoints,
    /// No instance that was tried could be reached, or the one that was broke off.
    #[error("The app could not be reached or broke off. Try again, and look at the app's logs.")]
    EndpointFailure,
    /// The instance was silent for too long.
    #[error("The app did not answer in time. Look at the app's logs.")]
    EndpointTimeout,
    /// A websocket, another protocol or a tunnel was asked for.
    #[error("This router does not pass upgrades (websocket) or CONNECT. Send plain HTTP requests.")]
    UpgradeNotSupported,
    /// The router has as many connections as it may have.
    #[error("The router has too many connections open. Try again in a moment.")]
    TooManyConnections,
    /// The client went away before it had the whole response. In access records only.
    #[error("The client went away before it had the whole response.")]
    ClientGone,
    /// The instance ended the connection in the middle of a response. In access records only.
    #[error("The app broke off in the middle of its response.")]
    ResponseCut,
}

impl Error {
    /// The word in `X-Diario-Error` and in access records.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::BadHost => "bad_host",
            Self::UnknownRoute => "unknown_route",
            Self::NoEndpoints => "no_endpoints",
            Self::EndpointFailure => "endpoint_failure",
            Self::EndpointTimeout => "endpoint_timeout",
            Self::UpgradeNotSupported => "upgrade_not_supported",
            Self::TooManyConnections => "too_many_connections",
            Self::ClientGone => "client_gone",
            Self::ResponseCut => "response_cut",
        }
    }

    /// The status it is answered with.
    #[must_use]
    pub(super) fn status(self) -> StatusCode {
        match self {
            // Nobody sees the last one's: the client is gone.
            Self::BadHost | Self::ClientGone => StatusCode::BAD_REQUEST,
            Self::UnknownRoute => StatusCode::NOT_FOUND,
            Self::NoEndpoints | Self::TooManyConnections => StatusCode::SERVICE_UNAVAILABLE,
            Self::EndpointFailure | Self::ResponseCut => StatusCode::BAD_GATEWAY,
            Self::EndpointTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::UpgradeNotSupported => StatusCode::NOT_IMPLEMENTED,
        }
    }
}
