//! Every row can be measured: tiny sizes, nothing timed.

use super::{
    measure::{Goal, Report, Round, Row, median, p99_ms},
    *,
};

#[test]
fn a_row_takes_the_median_of_its_rounds_and_counts_a_missed_goal() {
    let row = |goal| Row { name: "row", size: "1".to_owned(), unit: "x", goal };
    let rounds = [
        Round { ours: 10.0, peer: Some(5.0) },
        Round { ours: 30.0, peer: Some(10.0) },
        Round { ours: 20.0, peer: Some(20.0) },
    ];
    for (goal, is_met) in [
        (Goal::RatioAtLeast(2.0), true),
        (Goal::RatioAtLeast(2.1), false),
        (Goal::RatioAtMost(2.0), true),
        (Goal::AtLeast(20.0), true),
        (Goal::AtMost(19.0), false),
        (Goal::None, true),
    ] {
        let mut report = Report::new(false, "");
        report.add(row(goal), &rounds);
        assert_eq!(report.is_met(), is_met, "{goal:?}");
    }
    assert_eq!(median([]), 0.0);
    assert_eq!(p99_ms((1..=200).map(|n| n * 1000).collect()), 199.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_the_rules_can_be_measured() {
    let mut report = Report::new(true, "");
    rules::all(&mut report, rules::SMOKE).await.unwrap();
    assert_eq!(report.rows(), 33);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_in_this_process_can_be_measured() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut report = Report::new(true, "");
    log(&mut report, Effort { starts_nodes: false, ..SMOKE }).await.unwrap();
    assert!(report.rows() > 20, "{report:?}");
}
