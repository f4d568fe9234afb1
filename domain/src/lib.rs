//! The rules of Diario: what may happen, and what follows.
//!
//! No IO, no clock, no randomness, no async: time is an argument, new ids are fields of commands.
//! - [`mod@decide`] judges a [`command`]; [`aggregates`] folds the [`event`]s that answer it
//! - [`bbs`] desired LRP, actual LRP, task, cell, freshness domain
//! - [`auction`] which cell takes what waits; [`convergence`] what makes actual equal desired
//! - [`rep`] the assignment a cell follows, the reports it makes, and its pure plan
//! - [`secrets`] which of an owner's data keys were forgotten
//! - [`log`], [`id`], [`units`], [`sealed`], [`hash_index`] the words that all of them share
//! - [`action`], [`check`], [`routes`] what runs, how its health is seen, how it is reached
//! - [`workload`] a long history from a seed, for benches

pub mod action;
#[macro_use]
mod as_text;

pub mod aggregates;
#[cfg(test)]
mod aggregates_tests;
pub mod auction;
pub mod bbs;
pub mod check;
pub mod command;
pub mod convergence;
pub mod decide;
pub mod diego_error;
pub mod event;
pub mod exit;
pub mod hash_index;
pub mod id;
pub mod invalid;
pub mod labels;
pub mod log;
pub mod observation;
pub mod rejection;
pub mod rep;
pub mod routes;
pub mod sealed;
pub mod secrets;
mod shared_text;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod units;
pub mod workload;
