//! What every event store must do, as plain functions over a factory: each store's tests run
//! [`run`]. A store has no behaviour that is not asked for here.

mod append;
mod follow;
mod read;
pub mod samples;

use std::sync::Arc;

use async_trait::async_trait;

use super::{EventStore, chain};

/// Makes the stores under test.
#[async_trait]
pub trait Factory: Send + Sync {
    /// An empty log under [`samples::INCARNATION`].
    async fn fresh(&self) -> Arc<dyn EventStore>;

    /// The same log closed and opened again; `None` from a store that is not durable.
    async fn reopen(&self, store: Arc<dyn EventStore>) -> Option<Arc<dyn EventStore>>;
}

/// Runs the whole suite.
///
/// # Panics
/// At the first behaviour that is not as it must be.
pub async fn run(factory: &dyn Factory) {
    append::an_unfit_batch_is_refused_and_nothing_is_written(&*factory.fresh().await).await;
    append::a_batch_decided_on_another_head_is_refused(&*factory.fresh().await).await;
    append::time_never_decreases(&*factory.fresh().await).await;
    append::positions_are_dense_and_versions_count_per_stream(&*factory.fresh().await).await;
    append::a_caller_that_goes_away_leaves_a_whole_batch(&*factory.fresh().await).await;
    append::of_two_writers_on_one_head_one_wins(factory.fresh().await).await;
    read::batches_and_commands_are_found_again(&*factory.fresh().await).await;
    read::filters_let_through_what_they_name(&*factory.fresh().await).await;
    let store = factory.fresh().await;
    read::one_type_is_found_in_order_over_a_long_stretch(&*store).await;
    read::a_time_has_a_position(&*factory.fresh().await).await;
    read::hashes_depend_on_the_input_alone(&*factory.fresh().await).await;
    read::the_newest_event_of_each_type_is_told(&*factory.fresh().await).await;
    follow::a_reader_behind_the_end_is_refused(&*factory.fresh().await).await;
    let store = factory.fresh().await;
    follow::a_reader_that_is_called_away_again_and_again_gets_forward(&*store).await;
    follow::what_a_reader_knows_already_is_passed_over(&*factory.fresh().await).await;
    follow::racing_writers_are_followed_without_gap_or_double(factory.fresh().await).await;
    follow::a_reader_that_lags_behind_the_ring_misses_nothing(&*factory.fresh().await).await;
    follow::a_reader_of_one_owner_sees_all_of_it_and_nothing_else(&*factory.fresh().await).await;
    reopened_logs_are_the_same(factory).await;
}

async fn reopened_logs_are_the_same(factory: &dyn Factory) {
    let store = factory.fresh().await;
    samples::fill(&*store, &[3, 1, 2]).await;
    let head = store.head().await.expect("a head");
    let rows = store.read_rows(samples::START, 100).await.expect("rows");
    let batches = store.read_batches(samples::START, 100).await.expect("batches");

    let Some(store) = factory.reopen(store).await else { return };

    assert_eq!(store.head().await.expect("a head"), head);
    assert_eq!(store.read_rows(samples::START, 100).await.expect("rows"), rows);
    assert_eq!(store.read_batches(samples::START, 100).await.expect("batches"), batches);
    assert_eq!(chain::verify(&*store).await.expect("a readable log"), None);
    samples::fill(&*store, &[1]).await;
    assert_eq!(chain::verify(&*store).await.expect("a readable log"), None);
}
