//! What one request may cost: bytes, time, depth. Every edge for users keeps to these.

use std::time::Duration;

/// The largest body of a request, and the largest message on a WebSocket, in bytes.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// How long a request may take, from its headers to its answer.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a WebSocket may be open without its `connection_init`.
pub const INIT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long one message may wait for its reader before the socket is closed.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the reason of a close may then wait for the same reader.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a WebSocket is pinged; one that was silent twice is closed.
pub const PING_INTERVAL: Duration = Duration::from_secs(20);

/// How many operations one WebSocket may have open.
pub const OPERATIONS_PER_SOCKET_MAX: usize = 16;

/// The limits of one WebSocket.
#[derive(Debug, Clone, Copy)]
pub struct SocketLimits {
    /// See [`INIT_TIMEOUT`].
    pub init_timeout: Duration,
    /// See [`SEND_TIMEOUT`].
    pub send_timeout: Duration,
    /// See [`CLOSE_TIMEOUT`].
    pub close_timeout: Duration,
    /// See [`PING_INTERVAL`].
    pub ping_interval: Duration,
}

impl Default for SocketLimits {
    fn default() -> Self {
        Self {
            init_timeout: INIT_TIMEOUT,
            send_timeout: SEND_TIMEOUT,
            close_timeout: CLOSE_TIMEOUT,
            ping_interval: PING_INTERVAL,
        }
    }
}
