//! Help for tests of this crate and of those above it. Never part of the product.

pub mod columns;
pub mod postgres;
pub mod proxy;
pub mod s3;
