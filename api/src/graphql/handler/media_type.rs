//! The media types of requests and answers: what a client accepts, and what it sent.

use axum::http::{HeaderMap, header::ACCEPT};

/// In which form an answer is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MediaType {
    /// `application/graphql-response+json`: its status tells whether the request was executed.
    GraphqlResponse,
    /// `application/json`: for clients from before the specification.
    Json,
}

impl MediaType {
    /// Both, for people.
    pub(super) const ALL: &str = "application/graphql-response+json or application/json";

    /// The one that a client likes best; of equals the first it names. `None`: neither.
    pub(super) fn negotiate(headers: &HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(ACCEPT).iter().peekable();
        if lines.peek().is_none() {
            return Some(Self::Json);
        }
        let mut best: Option<(u16, Self)> = None;
        for entry in lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(',')) {
            let (name, parameters) = entry.split_once(';').unwrap_or((entry, ""));
            let liking = liking(parameters);
            let named = match name.trim().to_ascii_lowercase().as_str() {
                "application/graphql-response+json" => Self::GraphqlResponse,
                "application/json" | "application/*" | "*/*" => Self::Json,
                _ => continue,
            };
            if liking > best.map_or(0, |(best, _)| best) {
                best = Some((liking, named));
            }
        }
        best.map(|(_, named)| named)
    }

    /// The answer's Content-Type.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::GraphqlResponse => "application/graphql-response+json; charset=utf-8",
            Self::Json => "application/json; charset=utf-8",
        }
    }
}

/// The `q` of an entry, in thousandths; 1000 when it has none.
fn liking(parameters: &str) -> u16 {
    let given = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then_some(value.trim())
    });
    let Some(given) = given else { return 1000 };
    let (whole, fraction) = given.split_once('.').unwrap_or((given, ""));
    let thousandths = format!("{fraction:0<3}");
    match (whole, thousandths.get(..3).and_then(|digits| digits.parse().ok())) {
        ("0" | "", Some(thousandths)) => thousandths,
        _ => 1000,
    }
}

/// Whether a Content-Type is JSON in UTF-8.
pub(super) fn is_json(content_type: &str) -> bool {
    let (name, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    let charset = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
    });
    name.trim().eq_ignore_ascii_case("application/json")
        && charset.is_none_or(|charset| charset.eq_ignore_ascii_case("utf-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn negotiated(accept: &str) -> Option<MediaType> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        MediaType::negotiate(&headers)
    }

    #[test]
    fn the_client_gets_what_it_likes_best() {
        use MediaType::{GraphqlResponse, Json};

        assert_eq!(negotiated("text/html"), None);
        assert_eq!(negotiated("application/json;q=0"), None);
        assert_eq!(MediaType::negotiate(&HeaderMap::new()), Some(Json));
        assert_eq!(negotiated("*/*"), Some(Json));
        assert_eq!(negotiated("application/graphql-response+json"), Some(GraphqlResponse));
        let both = "application/json;q=0.9, application/graphql-response+json; charset=utf-8";
        assert_eq!(negotiated(both), Some(GraphqlResponse));
        assert_eq!(negotiated("application/json, application/graphql-response+json"), Some(Json));
    }

    #[test]
    fn only_json_in_utf_8_is_taken() {
        for refused in ["text/plain", "application/json; charset=latin1", "", "application/jsonx"] {
            assert!(!is_json(refused), "{refused}");
        }
        for taken in ["application/json", "Application/JSON; charset=\"UTF-8\""] {
            assert!(is_json(taken), "{taken}");
        }
    }
}
