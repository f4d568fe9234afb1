//! What a view is: an index over the live aggregates, kept stream by stream.
//!
//! A view holds no fact of its own. It may be dropped and filled again from the aggregates, and
//! must then be the same to the byte; the tests compare it so.

use domain::{aggregates::Aggregates, log::StreamId};

/// An index over the live aggregates.
pub trait View: Default {
    /// Its name, for the lag metric and for comparisons.
    const NAME: &'static str;

    /// Filled from nothing: what touching every stream would come to, by one look at each.
    fn fill(aggregates: &Aggregates) -> Self;

    /// Says anew what it has to say about one stream, after an event of it was folded.
    fn touch(&mut self, aggregates: &Aggregates, stream: &StreamId);

    /// Its whole content in a stable order, for comparisons.
    fn content(&self) -> String;
}
