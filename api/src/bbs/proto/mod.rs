//! The messages of Diego's BBS as Rust has them, made from the `.proto` files beside this one.
//!
//! Never changed by hand. What is unknown in a message is left out, lists of numbers are taken packed
//! and unpacked; what a message may cost is bounded by `super::wire` before it comes here.
#![expect(missing_docs, reason = "the names are Diego's, and the files beside this one say more")]
#![expect(
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "what is made by a program says so in its own way"
)]

include!(concat!(env!("OUT_DIR"), "/models.rs"));
