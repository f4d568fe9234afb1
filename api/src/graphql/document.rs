//! What a query document may cost, judged before anything walks through it, and a code for every
//! error that has none yet.
//!
//! Fragments that spread each other can blow a small document up without bound, and deep nesting
//! can exhaust the parser's stack: both are refused here. A syntax error is told without the
//! source line, which may hold a secret.

use std::{collections::HashMap, sync::Arc};

use async_graphql::{
    ErrorExtensionValues, Name, Pos, Request, Response, ServerError, ServerResult,
    ValidationResult,
    extensions::{
        Extension, ExtensionContext, ExtensionFactory, NextPrepareRequest, NextRequest,
        NextSubscribe, NextValidation,
    },
    parser::{
        self,
        types::{ExecutableDocument, Selection, SelectionSet},
    },
};
use async_trait::async_trait;
use futures_util::{StreamExt as _, stream::BoxStream};

/// How deep brackets may be nested in a document's text.
const NESTING_MAX: u32 = 64;
/// How many fields a document may select, with every fragment written out.
const SELECTIONS_MAX: u64 = 2_000;

/// The code of a document that is not GraphQL.
pub(super) const PARSE_FAILED: &str = "GRAPHQL_PARSE_FAILED";
/// The code of a document that does not fit the schema.
pub(super) const VALIDATION_FAILED: &str = "GRAPHQL_VALIDATION_FAILED";
/// The code of a document that is nested too deep or selects too much.
pub(super) const TOO_COMPLEX: &str = "TOO_COMPLEX";

/// The extension that judges documents.
#[derive(Debug, Clone, Copy)]
pub(super) struct DocumentCheck;

impl ExtensionFactory for DocumentCheck {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(Self)
    }
}

#[async_trait]
impl Extension for DocumentCheck {
    async fn request(&self, ctx: &ExtensionContext<'_>, next: NextRequest<'_>) -> Response {
        with_codes(next.run(ctx).await)
    }

    fn subscribe<'s>(
        &self,
        ctx: &ExtensionContext<'_>,
        stream: BoxStream<'s, Response>,
        next: NextSubscribe<'_>,
    ) -> BoxStream<'s, Response> {
        next.run(ctx, stream).map(with_codes).boxed()
    }

    async fn prepare_request(
        &self,
        ctx: &ExtensionContext<'_>,
        mut request: Request,
        next: NextPrepareRequest<'_>,
    ) -> ServerResult<Request> {
        check_nesting(&request.query)?;
        let document = parser::parse_query(&request.query).map_err(|failure| syntax(&failure))?;
        check_size(&document)?;
        request.set_parsed_query(document);
        next.run(ctx, request).await
    }

    async fn validation(
        &self,
        ctx: &ExtensionContext<'_>,
        next: NextValidation<'_>,
    ) -> Result<ValidationResult, Vec<ServerError>> {
        next.run(ctx).await.map_err(|errors| {
            errors.into_iter().map(|error| with_code(error, validation_code)).collect()
        })
    }
}

/// async-graphql tells its own limits only in words.
fn validation_code(error: &ServerError) -> &'static str {
    match error.message.as_str() {
        "Query is nested too deep." | "Query is too complex." => TOO_COMPLEX,
        _ => VALIDATION_FAILED,
    }
}

fn with_codes(mut response: Response) -> Response {
    let errors = std::mem::take(&mut response.errors);
    response.errors =
        errors.into_iter().map(|error| with_code(error, |_| super::error::INVALID)).collect();
    response
}

fn with_code(
    mut error: ServerError,
    code_of: impl Fn(&ServerError) -> &'static str,
) -> ServerError {
    let code = code_of(&error);
    error.message = without_value(error.message);
    let extensions = error.extensions.get_or_insert_with(ErrorExtensionValues::default);
    if extensions.get("code").is_none() {
        extensions.set("code", code);
    }
    error
}

/// async-graphql's words for a value of another type, without the value: it may be a secret in a
/// wrong place.
fn without_value(message: String) -> String {
    let parts =
        message.strip_prefix("Expected input type ").and_then(|it| it.split_once(", found "));
    let Some((expected, found)) = parts else { return message };
    // What it was a part of follows behind the value: types, which the client knows.
    let mut within = Vec::new();
    let mut rest = found;
    while let Some((before, name)) = rest
        .strip_suffix("\")")
        .and_then(|it| it.rsplit_once(" (occurred while parsing \""))
        .filter(|(_, name)| {
            name.chars().all(|it| it.is_ascii_alphanumeric() || "_[]!".contains(it))
        })
    {
        within.push(format!(" (occurred while parsing \"{name}\")"));
        rest = before;
    }
    within.reverse();
    format!("Expected input type {expected}, found another.{}", within.concat())
}

fn refused(code: &'static str, message: impl Into<String>) -> ServerError {
    with_code(ServerError::new(message, None), |_| code)
}

/// The parser's words quote the source line; only what was expected is told.
fn syntax(failure: &parser::Error) -> ServerError {
    let words = failure.to_string();
    let expected = words.lines().find_map(|line| line.trim().strip_prefix("= "));
    let message = match expected {
        Some(expected) => format!("the document is not GraphQL: {expected}"),
        None => "the document is not GraphQL".to_owned(),
    };
    let mut error = refused(PARSE_FAILED, message);
    let positions: Vec<Pos> = failure.positions().collect();
    error.locations = positions;
    error
}

/// Counts brackets outside of strings and comments. It may count too many in a malformed
/// document, never too few.
fn check_nesting(text: &str) -> ServerResult<()> {
    let mut depth = 0_u32;
    let mut rest = text.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        rest = match byte {
            b'"' => behind_string(rest),
            b'#' => behind_line(behind),
            b'{' | b'[' | b'(' => {
                depth += 1;
                if depth > NESTING_MAX {
                    let message =
                        format!("the document must not nest deeper than {NESTING_MAX} brackets");
                    return Err(refused(TOO_COMPLEX, message));
                }
                behind
            }
            b'}' | b']' | b')' => {
                depth = depth.saturating_sub(1);
                behind
            }
            _ => behind,
        };
    }
    Ok(())
}

fn behind_line(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(text.len());
    text.get(end..).unwrap_or_default()
}

fn behind_string(text: &[u8]) -> &[u8] {
    if text.starts_with(BLOCK_QUOTES) { behind_block_string(text) } else { behind_quote(text) }
}

const BLOCK_QUOTES: &[u8] = b"\"\"\"";
const ESCAPED_BLOCK_QUOTES: &[u8] = b"\\\"\"\"";

fn behind_block_string(text: &[u8]) -> &[u8] {
    let mut rest = text.strip_prefix(BLOCK_QUOTES).unwrap_or(text);
    while !rest.is_empty() {
        if let Some(behind) = rest.strip_prefix(BLOCK_QUOTES) {
            return behind;
        }
        let is_escape = rest.starts_with(ESCAPED_BLOCK_QUOTES);
        rest =
            rest.get(if is_escape { ESCAPED_BLOCK_QUOTES.len() } else { 1 }..).unwrap_or_default();
    }
    rest
}

/// A string ends with its line, closed or not.
fn behind_quote(text: &[u8]) -> &[u8] {
    let mut rest = text.get(1..).unwrap_or_default();
    loop {
        rest = match rest {
            [] => return rest,
            [b'"' | b'\n' | b'\r', behind @ ..] => return behind,
            [b'\\', _, behind @ ..] | [_, behind @ ..] => behind,
        };
    }
}

/// Counts the fields that a document selects, each fragment as often as it is spread.
fn check_size(document: &ExecutableDocument) -> ServerResult<()> {
    let mut known = HashMap::new();
    let mut total = 0_u64;
    for (_, operation) in document.operations.iter() {
        total =
            total.saturating_add(size(document, &operation.node.selection_set.node, &mut known)?);
    }
    // A fragment that is not spread is walked through once all the same.
    for name in document.fragments.keys() {
        total = total.saturating_add(fragment_size(document, name, &mut known)?);
    }
    if total > SELECTIONS_MAX {
        let message = format!("the document must not select more than {SELECTIONS_MAX} fields");
        return Err(refused(TOO_COMPLEX, message));
    }
    Ok(())
}

type Sizes = HashMap<Name, Option<u64>>;

fn size(
    document: &ExecutableDocument,
    selections: &SelectionSet,
    known: &mut Sizes,
) -> ServerResult<u64> {
    let mut total = 0_u64;
    for selection in &selections.items {
        let one = match &selection.node {
            Selection::Field(field) => 1 + size(document, &field.node.selection_set.node, known)?,
            Selection::InlineFragment(fragment) => {
                1 + size(document, &fragment.node.selection_set.node, known)?
            }
            Selection::FragmentSpread(spread) => {
                1 + fragment_size(document, &spread.node.fragment_name.node, known)?
            }
        };
        total = total.saturating_add(one).min(u64::from(u32::MAX));
    }
    Ok(total)
}

fn fragment_size(
    document: &ExecutableDocument,
    name: &Name,
    known: &mut Sizes,
) -> ServerResult<u64> {
    match known.get(name) {
        Some(Some(size)) => return Ok(*size),
        Some(None) => {
            return Err(refused(VALIDATION_FAILED, "a fragment must not spread itself"));
        }
        None => {}
    }
    // An unknown fragment is for the validation to tell.
    let Some(fragment) = document.fragments.get(name) else { return Ok(0) };
    known.insert(name.clone(), None);
    let size = size(document, &fragment.node.selection_set.node, known)?;
    known.insert(name.clone(), Some(size));
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(document: &str) -> Result<(), ServerError> {
        check_nesting(document)?;
        check_size(&parser::parse_query(document).map_err(|failure| syntax(&failure))?)
    }

    #[test]
    fn documents_that_cost_too_much_are_refused_before_they_are_walked_through() {
        assert!(
            judged(&format!("{{ a(x: {}1{}) }}", "[".repeat(9_999), "]".repeat(9_999))).is_err()
        );
        assert!(judged(&"{ a ".repeat(100_000)).is_err());
        assert!(judged(&format!("{{ {} }}", "a ".repeat(2_001))).is_err());
        assert!(judged("{ ...a } fragment a on Q { ...b } fragment b on Q { ...a }").is_err());
        let doubling: String = (0..40)
            .map(|n| format!("fragment f{n} on Q {{ ...f{m} ...f{m} }} ", m = n + 1))
            .collect();
        assert!(judged(&format!("{{ ...f0 }} {doubling} fragment f40 on Q {{ a }}")).is_err());

        assert_eq!(judged("{ a } # [[["), Ok(()));
        assert_eq!(judged(r#"{ a(x: "[[[\"{{{") b(x: """ [ " [ """) }"#), Ok(()));
        assert_eq!(judged("{ ...a ...a } fragment a on Q { b }"), Ok(()));
    }

    #[test]
    fn a_value_of_another_type_is_not_quoted() {
        let told = |value: &str| {
            let within = "(occurred while parsing \"[A!]\") (occurred while parsing \"B\")";
            without_value(format!("Expected input type \"A\", found {value}. {within}"))
        };

        let expected = "Expected input type \"A\", found another. \
            (occurred while parsing \"[A!]\") (occurred while parsing \"B\")";
        assert_eq!(told("\"canary\""), expected);
        assert_eq!(
            told("[\"canary\", found canary (occurred while parsing \"a canary\")]"),
            expected
        );
        assert_eq!(without_value("of ours, found 3".to_owned()), "of ours, found 3");
    }

    #[test]
    fn a_syntax_error_does_not_quote_the_source() {
        let error = judged("mutation { a(value: \"canary\") } }").unwrap_err();

        assert!(!error.message.contains("canary"), "{}", error.message);
        assert_eq!(error.locations.len(), 1);
    }
}
