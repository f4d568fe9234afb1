//! Where a control plane may be: over TLS anywhere, without it on this machine only.

use super::Error;

/// Refuses an address over which the cell's token and secrets would travel in clear.
pub(super) fn check(url: &str) -> Result<(), Error> {
    let is_http = ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme));
    if !is_http {
        let reason = format!("{url:?} begins with neither http:// nor https://");
        return Err(Error::Settings { reason });
    }
    if url.starts_with("http://") && !is_loopback(url) {
        let reason = format!(
            "{url:?} is not encrypted and not on this machine: \
             the cell's token and secrets would travel in clear; use https://"
        );
        return Err(Error::Settings { reason });
    }
    Ok(())
}

/// Whether an address leads to this very machine, and so over no wire.
fn is_loopback(url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(url) else { return false };
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_none_is_refused() {
        assert!(check("localhost:7400").is_err());
    }

    #[test]
    fn secrets_do_not_travel_in_clear_to_another_machine() {
        let is_taken = |url: &str| match check(url) {
            Ok(()) => true,
            Err(Error::Settings { reason }) => {
                assert!(reason.contains("in clear"), "{reason}");
                false
            }
            Err(error) => panic!("{error}"),
        };

        for url in [
            "http://10.0.0.1:7400",
            "http://control",
            "http://127.0.0.1@evil/",
            "http://127.0.0.1.evil:1",
            "http://localhost.evil",
            "http://[2001:db8::1]:7400",
        ] {
            assert!(!is_taken(url), "{url}");
        }
        for url in [
            "http://127.0.0.1:7400",
            "http://127.8.9.1/",
            "http://localhost:7400",
            "http://[::1]:7400",
        ] {
            assert!(is_taken(url), "{url}");
        }
    }
}
