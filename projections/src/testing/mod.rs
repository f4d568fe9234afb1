//! Help for tests of this crate and of those above it. Never part of the product.

pub mod postgres;
pub mod proxy;
