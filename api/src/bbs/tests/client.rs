//! A client of Diego's kind, on the same messages: over mutual TLS, without any of the edge's code.

use std::{net::SocketAddr, path::Path, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{HeaderMap, Method, Request, StatusCode, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use prost::Message;
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A client with its certificate.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) address: SocketAddr,
    config: Option<Arc<ClientConfig>>,
}

/// What came back.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

pub(super) fn pem(path: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(path).unwrap().collect::<Result<_, _>>().unwrap()
}

impl Client {
    /// One that shows the client's certificate of one folder, and trusts the authority of another.
    pub(super) fn new(address: SocketAddr, own: &Path, trusted: &Path) -> Self {
        let certificate = Some((pem(&own.join("client.crt")), own.join("client.key")));
        Self::with(address, certificate, trusted, rustls::ALL_VERSIONS)
    }

    pub(super) fn with(
        address: SocketAddr,
        certificate: Option<(Vec<CertificateDer<'static>>, std::path::PathBuf)>,
        trusted: &Path,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        pem(&trusted.join("ca.crt")).into_iter().for_each(|root| roots.add(root).unwrap());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let config = match certificate {
            Some((chain, key)) => {
                let key = PrivateKeyDer::from_pem_file(key).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        Self { address, config: Some(Arc::new(config)) }
    }

    /// One that speaks in the clear.
    pub(super) fn plain(address: SocketAddr) -> Self {
        Self { address, config: None }
    }

    async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<hyper::Response<Incoming>, Box<dyn std::error::Error + Send + Sync>> {
        let stream = TcpStream::connect(self.address).await?;
        let Some(config) = &self.config else {
            return exchange(TokioIo::new(stream), request).await;
        };
        let name = ServerName::try_from("localhost")?;
        let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await?;
        exchange(TokioIo::new(stream), request).await
    }

    /// One exchange, whatever it is.
    pub(super) async fn raw(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        let response = self.send(request(method, path, headers, body.into())).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.into_body().collect().await?.to_bytes();
        Ok(Answer { status, headers, body })
    }

    /// A call, as Diego's clients make it.
    pub(super) async fn call<A: Message + Default>(&self, path: &str, message: &impl Message) -> A {
        let answer = self.raw(Method::POST, path, &[], message.encode_to_vec()).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert_eq!(answer.headers["content-type"], "application/x-protobuf", "{path}");
        A::decode(answer.body).unwrap()
    }

    /// Follows a stream.
    pub(super) async fn follow(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        cell_id: &str,
    ) -> Stream {
        let asked = crate::bbs::proto::EventsByCellId { cell_id: cell_id.to_owned() };
        let request = request(Method::GET, path, headers, asked.encode_to_vec().into());
        let response = self.send(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        Stream {
            headers: response.headers().clone(),
            body: response.into_body(),
            read: String::new(),
        }
    }
}

fn request(
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(body)).unwrap()
}

async fn exchange<S>(
    stream: S,
    request: Request<Full<Bytes>>,
) -> Result<hyper::Response<Incoming>, Box<dyn std::error::Error + Send + Sync>>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(stream).await?;
    drop(projections::worker::spawn("test client", async move {
        drop(connection.await);
    }));
    Ok(sender.send_request(request).await?)
}

/// A stream that is read.
pub(super) struct Stream {
    pub(super) headers: HeaderMap,
    body: Incoming,
    read: String,
}

/// One event of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) data: Vec<u8>,
}

impl Told {
    pub(super) fn message<M: Message + Default>(&self) -> M {
        M::decode(self.data.as_slice()).unwrap()
    }
}

impl Stream {
    /// The next event; none when the stream has ended.
    pub(super) async fn next(&mut self) -> Option<Told> {
        loop {
            if let Some((event, rest)) = self.read.split_once("\n\n") {
                let told = read_event(event);
                self.read = rest.to_owned();
                return Some(told);
            }
            let frame = self.body.frame().await?.ok()?;
            let bytes = frame.into_data().unwrap();
            self.read.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }

    /// So many events, by their names.
    pub(super) async fn names(&mut self, count: usize) -> Vec<String> {
        let mut names = Vec::new();
        while names.len() < count {
            names.push(self.next().await.expect("the stream goes on").name);
        }
        names
    }
}

fn read_event(text: &str) -> Told {
    let lines: Vec<&str> = text.split('\n').collect();
    let [id, event, data] = lines.as_slice() else { panic!("{text:?}") };
    Told {
        id: id.strip_prefix("id: ").unwrap().parse().unwrap(),
        name: event.strip_prefix("event: ").unwrap().to_owned(),
        data: STANDARD.decode(data.strip_prefix("data: ").unwrap()).unwrap(),
    }
}
