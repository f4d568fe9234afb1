//! What a body may cost before anything is made of it, and how answers are written.
//!
//! A few bytes of protobuf may ask for a message of hundreds, and nest as deep as they like: both are
//! counted on the bytes as they came, without knowing what they mean.

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE},
};
use bytes::{Buf as _, Bytes};
use prost::{Message, encoding::WireType};

/// The largest body of a request in bytes. What Diego allows of a wish fits in twice: its routes,
/// annotation and mounted files take 1.2 MiB at most.
pub(super) const BODY_BYTES_MAX: usize = 3 << 20;
/// How many fields a body may hold, those of messages in messages counted.
const FIELDS_MAX: usize = BODY_BYTES_MAX / 8;
/// How deep messages may lie in messages. An action takes two levels.
const DEPTH_MAX: u32 = 100;

/// How protobuf is called in HTTP, as Diego spells it.
pub(super) const PROTOBUF: &str = "application/x-protobuf";

/// A body is no such message, or would cost too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// It is not what the path takes.
    #[error("the body is not the message that this path takes")]
    Malformed,
    /// It holds too many fields.
    #[error("the body holds more than {FIELDS_MAX} fields: send fewer")]
    TooManyFields,
}

/// Reads a message.
pub(super) fn decode<M: Message + Default>(body: &Bytes) -> Result<M, Error> {
    let mut budget = FIELDS_MAX;
    // What it says of the bytes' form does not matter: they may be a text that only looks like fields.
    count(body, &mut budget, DEPTH_MAX);
    if budget == 0 {
        return Err(Error::TooManyFields);
    }
    // The decoder itself stops at the same depth.
    M::decode(body.clone()).map_err(|_| Error::Malformed)
}

/// Takes the fields off the budget, also of all that may be a message, as long as it looks like one.
fn count(mut bytes: &[u8], budget: &mut usize, depth: u32) {
    while bytes.has_remaining() && *budget > 0 {
        let Some(key) = varint(&mut bytes) else { return };
        let wire_type = u32::try_from(key & 7).unwrap_or(u32::MAX);
        let Ok(wire_type) = WireType::try_from(u64::from(wire_type)) else { return };
        *budget -= 1;
        let skipped = match wire_type {
            WireType::Varint => varint(&mut bytes).map(|_| 0),
            WireType::SixtyFourBit => Some(8),
            WireType::ThirtyTwoBit => Some(4),
            WireType::LengthDelimited => {
                let length = varint(&mut bytes).and_then(|length| usize::try_from(length).ok());
                let inner = length.and_then(|length| bytes.get(..length));
                if let Some(inner) = inner
                    && let Some(depth) = depth.checked_sub(1)
                {
                    count(inner, budget, depth);
                }
                length
            }
            WireType::StartGroup | WireType::EndGroup => Some(0),
        };
        let Some(rest) = skipped.and_then(|skipped| bytes.get(skipped..)) else { return };
        bytes = rest;
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    prost::encoding::decode_varint(bytes).ok()
}

/// An answer: always 200 with a message, also when that says that the request was refused.
pub(super) fn answer(message: &impl Message) -> Response<Body> {
    let mut response = Response::new(Body::from(message.encode_to_vec()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROTOBUF));
    response
}

/// An answer without a message.
pub(super) fn plain(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use prost::encoding::encode_varint;

    use super::*;
    use crate::bbs::proto;

    /// A length-delimited field around some bytes.
    fn wrap(tag: u8, inner: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag << 3 | 2];
        encode_varint(inner.len().try_into().unwrap(), &mut bytes);
        bytes.extend_from_slice(inner);
        bytes
    }

    /// A parallel action in a parallel action, so many times.
    fn nested(levels: usize) -> Bytes {
        let mut bytes = Vec::new();
        for _ in 0..levels {
            bytes = wrap(7, &wrap(1, &bytes));
        }
        bytes.into()
    }

    #[test]
    fn a_message_a_thousand_deep_is_refused_and_a_deep_one_is_read() {
        assert!(decode::<proto::Action>(&nested(40)).is_ok());
        assert_eq!(decode::<proto::Action>(&nested(500)), Err(Error::Malformed));
        assert_eq!(decode::<proto::Action>(&nested(1000)), Err(Error::Malformed));
    }

    #[test]
    fn a_body_of_nothing_but_small_messages_is_refused_before_they_are_made() {
        let many = wrap(7, &wrap(1, &[]).repeat(BODY_BYTES_MAX / 2 - 4));

        assert_eq!(decode::<proto::Action>(&many.into()), Err(Error::TooManyFields));
    }

    #[test]
    fn a_long_text_that_looks_like_fields_is_read() {
        for text in ["a", "j", "the quick brown fox ", "\u{1}", "{\"a\": [1, 2]}\n"] {
            let content = text.repeat((1 << 20) / text.len());
            let file = proto::File { path: "f".to_owned(), content };
            let bytes = file.encode_to_vec().into();
            assert_eq!(decode(&bytes), Ok(file));
        }
    }

    #[test]
    fn a_body_cut_short_anywhere_is_refused_or_read_and_never_more() {
        let request = proto::ClaimActualLrpRequest {
            process_guid: "web".to_owned(),
            index: 3,
            actual_lrp_instance_key: Some(proto::ActualLrpInstanceKey {
                instance_guid: "i-1".to_owned(),
                cell_id: "cell-1".to_owned(),
            }),
        };
        let bytes = Bytes::from(request.encode_to_vec());

        let read = (0..bytes.len())
            .filter(|&end| decode::<proto::ClaimActualLrpRequest>(&bytes.slice(..end)).is_ok());

        // Only between two of its fields.
        assert_eq!(read.collect::<Vec<_>>(), [0, 5, 7]);
    }
}
