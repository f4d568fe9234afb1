//! Signatures of requests, version 4, as S3 checks them: of the method, the path, the query, the
//! signed headers and the body.

use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::http::request::Parts;
use sha2::{Digest as _, Sha256};

use super::{ACCESS_KEY, REGION, SECRET_KEY};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

fn hmac(key: &[u8], message: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    mac.update(message.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn header<'p>(parts: &'p Parts, name: &str) -> Result<&'p str, &'static str> {
    let value = parts.headers.get(name).ok_or("a signed header is missing")?;
    value.to_str().map_err(|_| "a signed header is no text")
}

/// Whether the request is signed by the account, and its body is the one that was signed.
pub(super) fn check(parts: &Parts, body: &[u8]) -> Result<(), &'static str> {
    let authorization = header(parts, "authorization").map_err(|_| "it is not signed")?;
    let fields = authorization.strip_prefix(ALGORITHM).ok_or("another algorithm")?;
    let field = |name: &str| {
        let fields = fields.split(',').map(str::trim);
        fields.filter_map(|field| field.strip_prefix(name)?.strip_prefix('=')).next()
    };
    let credential = field("Credential").ok_or("no credential")?;
    let signed = field("SignedHeaders").ok_or("no signed headers")?;
    let (account, scope) = credential.split_once('/').ok_or("no scope")?;
    let date = header(parts, "x-amz-date")?;
    let day = date.get(..8).ok_or("no date")?;
    if account != ACCESS_KEY || scope != format!("{day}/{REGION}/s3/aws4_request") {
        return Err("another account, region or service");
    }
    let digest = header(parts, "x-amz-content-sha256")?;
    if digest != hex::encode(Sha256::digest(body)) {
        return Err("the body is not the one that was signed");
    }
    if !["host", "x-amz-content-sha256", "x-amz-date"].iter().all(|it| signed.contains(it)) {
        return Err("a header that matters is not signed");
    }
    let canonical = canonical(parts, signed, digest)?;
    let hashed = hex::encode(Sha256::digest(canonical.as_bytes()));
    let mut key = format!("AWS4{SECRET_KEY}").into_bytes();
    for step in [day, REGION, "s3", "aws4_request"] {
        key = hmac(&key, step);
    }
    let expected = hmac(&key, &format!("{ALGORITHM}\n{date}\n{scope}\n{hashed}"));
    if field("Signature") == Some(&hex::encode(expected)) { Ok(()) } else { Err("wrong signature") }
}

fn canonical(parts: &Parts, signed: &str, digest: &str) -> Result<String, &'static str> {
    let mut query: Vec<&str> = parts.uri.query().unwrap_or_default().split('&').collect();
    query.sort_unstable();
    let mut headers = String::new();
    for name in signed.split(';') {
        headers.push_str(&format!("{name}:{}\n", header(parts, name)?.trim()));
    }
    let (method, path, query) = (&parts.method, parts.uri.path(), query.join("&"));
    Ok(format!("{method}\n{path}\n{query}\n{headers}\n{signed}\n{digest}"))
}
