//! A client's connection: one GraphQL request after another over HTTP/1.1, and nothing else.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use serde_json::Value;

/// An open connection.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    host: String,
}

impl Connection {
    /// Connects to an API, `http://host:port`, which may take so long for an answer.
    pub(crate) fn open(api: &str, answer_max: Duration) -> io::Result<Self> {
        let host = api.trim_start_matches("http://").to_owned();
        let stream = TcpStream::connect(&host)?;
        stream.set_read_timeout(Some(answer_max))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), host })
    }

    /// Sends a request and reads its answer. After a failure the connection is of no more use, and
    /// nobody knows what became of the request.
    pub(crate) fn ask(&mut self, body: &str) -> io::Result<Value> {
        let (host, length) = (&self.host, body.len());
        let request = format!(
            "POST /graphql HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let length = self.read_head()?;
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer)?;
        serde_json::from_slice(&answer).map_err(io::Error::other)
    }

    /// Reads the head of an answer, and how long its body is.
    fn read_head(&mut self) -> io::Result<usize> {
        let mut length = None;
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                return length.ok_or_else(|| io::Error::other("an answer of unknown length"));
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().ok();
            }
        }
    }
}
