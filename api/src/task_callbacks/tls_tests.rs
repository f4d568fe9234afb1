//! What is told of calls that fail: of which kind, and never where they went.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    thread,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustls::{
    ServerConfig, ServerConnection, Stream,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use super::*;

/// A test authority, a certificate of it for `another.example`, and the key of that one.
const ANOTHER_NAME: &[u8] = include_bytes!("another_name.pem");
const HOST: &str = "hidden.example";

/// Takes one connection, as a server whose certificate is for another name.
fn serve_once() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let certificates = CertificateDer::pem_slice_iter(ANOTHER_NAME).collect::<Result<Vec<_>, _>>();
    let leaf = certificates.unwrap().pop().unwrap();
    let key = PrivateKeyDer::from_pem_slice(ANOTHER_NAME).unwrap();
    let builder = ServerConfig::builder().with_no_client_auth();
    let config = Arc::new(builder.with_single_cert(vec![leaf], key).unwrap());
    thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut connection = ServerConnection::new(config).unwrap();
        let mut stream = Stream::new(&mut connection, &mut socket);
        // The client goes as soon as it has seen the certificate.
        let _gone = stream.read(&mut [0; 1024]);
        let _gone = stream.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
    address
}

async fn told(builder: reqwest::ClientBuilder, url: &str) -> String {
    let client = builder.no_proxy().build().unwrap();
    let failure = client.get(url).send().await.unwrap_err();
    assert!(format!("{failure:?}").contains(HOST), "the error itself names it: {failure:?}");
    cause(&failure, "cannot connect")
}

#[tokio::test]
async fn a_certificate_for_another_name_is_told_without_the_name_that_was_called() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let address = serve_once();
    let authority = reqwest::Certificate::from_pem(ANOTHER_NAME).unwrap();
    let url = format!("https://{HOST}:{}/done?token=hunter2", address.port());

    let builder = reqwest::Client::builder().tls_certs_only([authority]).resolve(HOST, address);
    let other_name = told(builder, &url).await;
    let address = serve_once();
    let url = format!("https://{HOST}:{}/done?token=hunter2", address.port());
    let builder = reqwest::Client::builder().tls_certs_only([]).resolve(HOST, address);
    let unknown = told(builder, &url).await;

    assert_eq!(other_name, "cannot connect: its certificate is for another name");
    assert_eq!(unknown, "cannot connect: its certificate is of an unknown issuer");
}

/// Knows no name, and repeats the one that it is asked for.
struct Nobody;

impl Resolve for Nobody {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let unknown = format!("who is {}?", name.as_str());
            Err::<Addrs, _>(Box::from(unknown))
        })
    }
}

#[tokio::test]
async fn a_name_without_an_address_and_a_closed_port_are_told_by_kind() {
    let builder = reqwest::Client::builder().tls_certs_only([]).dns_resolver(Arc::new(Nobody));
    let no_name = told(builder, &format!("http://{HOST}/done")).await;
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let builder = reqwest::Client::builder().tls_certs_only([]).resolve(HOST, closed);
    let refused = told(builder, &format!("http://{HOST}:{}/done", closed.port())).await;

    assert_eq!(no_name, "cannot connect: its name has no address");
    assert_eq!(refused, "cannot connect: connection refused");
}
