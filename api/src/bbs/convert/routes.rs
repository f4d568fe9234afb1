//! Routes: Diego's are any JSON under a router's name. Those of the two routers that we are, are read;
//! all are kept as they came, sealed, for some hold keys.

use std::collections::BTreeMap;

use domain::{
    routes::{Hostname, HttpRoute},
    sealed::PlainText,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::bbs::{invalid::Faults, proto};

const HTTP: &str = "cf-router";
const INTERNAL: &str = "internal-router";
/// Diego's limit of all of them.
const BYTES_MAX: usize = 128 * 1024;

/// Routes as a client wrote them.
#[derive(Debug, Default)]
pub(in crate::bbs) struct Read {
    /// For our HTTP router.
    pub(in crate::bbs) http: Vec<HttpRoute>,
    /// Names inside of the platform's network.
    pub(in crate::bbs) internal: Vec<Hostname>,
    /// All, as they came.
    pub(in crate::bbs) written: Option<PlainText>,
}

#[derive(Serialize, Deserialize)]
struct Http {
    hostnames: Vec<String>,
    port: u16,
}

#[derive(Serialize, Deserialize)]
struct Internal {
    hostname: String,
}

/// Reads routes; what is none of JSON, or too long, is a fault.
pub(in crate::bbs) fn read(routes: &proto::ProtoRoutes, faults: &mut Faults) -> Read {
    let bytes: usize = routes.routes.values().map(Vec::len).sum();
    let parsed = if bytes <= BYTES_MAX { parse(routes) } else { None };
    parsed.unwrap_or_else(|| {
        faults.field("routes");
        Read::default()
    })
}

fn parse(routes: &proto::ProtoRoutes) -> Option<Read> {
    let mut written = BTreeMap::new();
    for (name, json) in &routes.routes {
        let raw: &RawValue = serde_json::from_slice(json).ok()?;
        written.insert(name.as_str(), raw);
    }
    let http = match written.get(HTTP) {
        Some(raw) => read_http(raw)?,
        None => Vec::new(),
    };
    let internal = match written.get(INTERNAL) {
        Some(raw) => serde_json::from_str::<Option<Vec<Internal>>>(raw.get()).ok()?,
        None => None,
    };
    let internal = internal.into_iter().flatten().map(|it| Hostname::new(&it.hostname).ok());
    let internal = internal.collect::<Option<_>>()?;
    // Bytes in, the same bytes out: JSON may be written in many ways.
    let written = if written.is_empty() {
        None
    } else {
        Some(PlainText(serde_json::to_string(&written).ok()?))
    };
    Some(Read { http, internal, written })
}

/// A route whose host name has a path leads nowhere here yet; it is kept as it came.
fn read_http(raw: &RawValue) -> Option<Vec<HttpRoute>> {
    let routes: Option<Vec<Http>> = serde_json::from_str(raw.get()).ok()?;
    let route = |route: Http| {
        let names = route.hostnames.iter().filter_map(|name| Hostname::new(name).ok());
        let hostnames: Vec<Hostname> = names.collect();
        (!hostnames.is_empty()).then_some(HttpRoute { hostnames, port: route.port })
    };
    Some(routes.into_iter().flatten().filter_map(route).collect())
}

/// Routes as they came, where they still say what is in force; what our own edge has changed since is
/// written anew.
pub(in crate::bbs) fn write(
    written: Option<&PlainText>,
    http: &[HttpRoute],
    internal: &[Hostname],
) -> proto::ProtoRoutes {
    let mut routes: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let parsed: Option<BTreeMap<String, &RawValue>> =
        written.and_then(|PlainText(text)| serde_json::from_str(text).ok());
    for (name, raw) in parsed.unwrap_or_default() {
        routes.insert(name, raw.get().as_bytes().to_vec());
    }
    let said = parse(&proto::ProtoRoutes { routes: routes.clone() }).unwrap_or_default();
    if said.http != http {
        let name = |name: &Hostname| name.to_string();
        let http = http.iter().map(|route| Http {
            hostnames: route.hostnames.iter().map(name).collect(),
            port: route.port,
        });
        put(&mut routes, HTTP, &http.collect::<Vec<_>>());
    }
    if said.internal != internal {
        let internal = internal.iter().map(|name| Internal { hostname: name.to_string() });
        put(&mut routes, INTERNAL, &internal.collect::<Vec<_>>());
    }
    proto::ProtoRoutes { routes }
}

/// What is kept of a client that took all its routes back.
pub(in crate::bbs) fn nothing_written() -> PlainText {
    PlainText("{}".to_owned())
}

fn put<T: Serialize>(routes: &mut BTreeMap<String, Vec<u8>>, name: &str, list: &[T]) {
    if list.is_empty() {
        routes.remove(name);
    } else {
        // Texts and numbers are always written.
        routes.insert(name.to_owned(), serde_json::to_vec(list).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(entries: &[(&str, &str)]) -> proto::ProtoRoutes {
        let entry = |(name, json): &(&str, &str)| ((*name).to_owned(), json.as_bytes().to_vec());
        proto::ProtoRoutes { routes: entries.iter().map(entry).collect() }
    }

    #[test]
    fn routes_come_back_as_they_came_whatever_they_are() {
        let given = routes(&[
            (HTTP, r#"[ {"port":8080, "hostnames":["a.test","a.test/v1"],"options":{"x":1}} ]"#),
            (INTERNAL, r#"[{"hostname":"a.internal"}]"#),
            ("diego-ssh", r#"{"container_port":2222,"private_key":"k"}"#),
            ("tcp-router", "null"),
        ]);
        let mut faults = Faults::default();

        let read = read(&given, &mut faults);

        assert!(faults.is_empty());
        assert_eq!(read.http.len(), 1);
        assert_eq!(read.http[0].hostnames, [Hostname::new("a.test").unwrap()]);
        assert_eq!(read.internal, [Hostname::new("a.internal").unwrap()]);
        assert_eq!(write(read.written.as_ref(), &read.http, &read.internal), given);
    }

    #[test]
    fn what_our_own_edge_changed_is_written_anew_and_the_rest_stays() {
        let given =
            routes(&[(HTTP, r#"[{"hostnames":["a.test"],"port":1}]"#), ("diego-ssh", "{}")]);
        let read = read(&given, &mut Faults::default());
        let changed = [HttpRoute { hostnames: vec![Hostname::new("b.test").unwrap()], port: 2 }];

        let written = write(read.written.as_ref(), &changed, &[]);
        let expected =
            routes(&[(HTTP, r#"[{"hostnames":["b.test"],"port":2}]"#), ("diego-ssh", "{}")]);
        assert_eq!(written, expected);
        assert_eq!(write(read.written.as_ref(), &[], &[]), routes(&[("diego-ssh", "{}")]));
    }

    #[test]
    fn what_is_no_json_or_too_long_is_refused() {
        let long = format!("\"{}\"", "a".repeat(BYTES_MAX));
        for entry in [("x", "{"), (HTTP, "7"), (INTERNAL, "[{}]"), ("x", &long)] {
            let mut faults = Faults::default();
            let _read = read(&routes(&[entry]), &mut faults);
            let told = proto::Error::from(faults.check().unwrap_err()).message;
            assert_eq!(told, "Invalid field: routes");
        }
    }
}
