//! A TCP proxy that loses what a test tells it to lose: the request, its answer, or only time.
//!
//! For tests only.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Notify,
    task::JoinHandle,
};

/// What becomes of the request that holds the mark. Its connection is cut in every case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It never arrives.
    RequestLost,
    /// It arrives and is answered, but the answer never comes back.
    AnswerLost,
    /// It arrives only when [`Proxy::release`] is called, long after the sender has given up.
    RequestDelayed,
}

/// A proxy before one server on a loopback port. It ends with the runtime.
#[derive(Debug, Clone)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    marked: Mutex<Option<(Vec<u8>, Fate)>>,
    /// A request met its fate.
    met: Notify,
    release: Notify,
    released: Notify,
}

impl Proxy {
    /// Starts a proxy before a loopback port.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let shared = Arc::new(Shared::default());
        let accepting = shared.clone();
        drop(crate::worker::spawn("proxy", async move {
            while let Ok((client, _)) = listener.accept().await {
                drop(crate::worker::spawn("proxied", carry(client, server, accepting.clone())));
            }
        }));
        Self { port, shared }
    }

    /// The port to connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The next request that holds these bytes meets this fate.
    pub fn mark(&self, bytes: &[u8], fate: Fate) {
        *self.marked() = Some((bytes.to_vec(), fate));
    }

    /// Waits until a marked request has met its fate.
    pub async fn met(&self) {
        self.shared.met.notified().await;
    }

    /// Delivers a delayed request and waits until the server has answered it.
    pub async fn release(&self) {
        self.shared.release.notify_one();
        self.shared.released.notified().await;
    }

    fn marked(&self) -> std::sync::MutexGuard<'_, Option<(Vec<u8>, Fate)>> {
        self.shared.marked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn fate(&self, request: &[u8]) -> Option<Fate> {
        let mut marked = self.marked.lock().unwrap_or_else(PoisonError::into_inner);
        let is_marked = |(mark, _): &(Vec<u8>, Fate)| {
            request.windows(mark.len().max(1)).any(|window| window == mark.as_slice())
        };
        marked.take_if(|marked| is_marked(marked)).map(|(_, fate)| fate)
    }
}

async fn carry(client: TcpStream, server: u16, shared: Arc<Shared>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut answers = crate::worker::spawn("proxied answers", copy(from_server, to_client));
    requests(from_client, to_server, &shared, &mut answers).await;
    answers.abort();
}

/// No answer goes back from now on.
async fn lose(answers: &mut JoinHandle<()>) {
    answers.abort();
    // It may be at work: an answer that comes before it ends would go back.
    answers.await.ok();
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    // An end on either side is the end of the connection.
    tokio::io::copy(&mut from, &mut to).await.ok();
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Shared,
    answers: &mut JoinHandle<()>,
) {
    let mut buffer = vec![0; 1 << 20];
    loop {
        let Ok(bytes @ 1..) = from.read(&mut buffer).await else { return };
        let request = buffer.get(..bytes).unwrap_or_default();
        let fate = shared.fate(request);
        match fate {
            None => {}
            Some(Fate::RequestLost) => {
                shared.met.notify_one();
                return;
            }
            Some(Fate::AnswerLost) => lose(answers).await,
            Some(Fate::RequestDelayed) => {
                lose(answers).await;
                drop(from);
                shared.met.notify_one();
                shared.release.notified().await;
                to.write_all(request).await.ok();
                answered(&to).await;
                shared.released.notify_one();
                return;
            }
        }
        if to.write_all(request).await.is_err() {
            return;
        }
        if fate.is_some() {
            answered(&to).await;
            shared.met.notify_one();
            return;
        }
    }
}

/// Waits until the server has sent something that nobody reads any more.
async fn answered(to: &OwnedWriteHalf) {
    let stream: &TcpStream = to.as_ref();
    // An error is an end, which is an answer too.
    stream.readable().await.ok();
}
