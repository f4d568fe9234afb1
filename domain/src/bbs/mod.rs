//! The runtime side: what Diego's BBS keeps. Rules only.
//!
//! Never names an app, a space or anything else of Cloud Controller's.
//!
//! Diego's known quirks, each copied or mended on purpose, with the test that says so:
//!
//! | Diego | here | test |
//! |---|---|---|
//! | missing instances are counted, not compared | mended | `missing_indices_are_compared_not_counted_and_created_without_freshness` |
//! | of crashes only the last reason and the count are kept | mended: each is an event with its evidence | `a_crash_restarts_at_once_twice_and_then_waits_its_back_off` |
//! | a rejection and the failure after too many are two transactions | mended: one decision | `the_fourth_rejection_fails_a_task_with_its_reason` |
//! | a crash during an evacuation is not auctioned | mended: it is, elsewhere | `an_instance_that_crashes_on_a_cell_under_evacuation_is_placed_elsewhere_at_once` |
//! | a claimed instance is recorded as running when it is evacuated | mended: it is placed anew | `what_is_not_healthy_yet_is_placed_anew_at_once` |
//! | what is pending is auctioned again while an auction is in flight | mended: a placement is an event | `a_placed_slot_is_not_placed_again` |
//! | work that is lost on its way to a cell is not noticed for 30 s | mended: an assignment stands until it is closed | `an_assignment_that_the_cell_could_not_hear_of_stands_until_it_does` |
//! | what is scored is not what is reserved | mended | `what_is_scored_is_what_is_reserved` |
//! | a batch of first instances places tasks first | mended | `first_instances_then_tasks_then_the_rest_by_index_biggest_first` |
//! | any answer to a callback but 503 and 504 is a delivery | copied, with the status in the log | `an_answer_of_any_status_deletes_the_task_and_its_status_is_in_the_log` |
//! | an empty list of cells makes everything suspect | mended: only a cell's own record can lose it | `no_cells_at_all_doom_nothing_that_was_never_placed` |
//! | twins come in any order | mended: one resolved view a slot | `a_slot_is_shown_once_and_runs_while_any_of_its_instances_does` |
//! | routes over TLS are never aged out | mended: routes are a view of live instances | `routes_come_change_and_go_with_the_events` |
//! | a restart of the rep kills all containers | mended: the agent adopts them | `what_runs_is_taken_up_again_and_nothing_is_run_twice` |
//! | the deprecated API of groups must be served | copied | `instances_are_listed_by_process_index_domain_and_cell_also_as_groups` |
//! | reading deletes rows that cannot be decoded | mended: a node does not start on what it cannot read | `what_a_newer_version_wrote_is_refused_in_words` |
//! | a placement error resets the time since when a slot waits | mended: that time stays | `a_placement_error_does_not_make_a_slot_wait_anew` |
//! | a cell takes one container less than it says | mended | `a_cell_takes_as_many_containers_as_it_says_and_none_is_kept_back` |
//! | a cell's refusal is lost for want of a reason | mended: it is recorded with one | `a_refused_slot_waits_again_with_the_reason_but_a_running_one_is_not_refused` |
//! | an instance is told removed before it is stopped | mended: retired, then removed | `retiring_stops_an_instance_once_and_removes_an_empty_slot_at_once` |
//! | a rejected or lost task stays listed on its cell | mended | `a_rejected_task_leaves_its_cells_list_and_a_late_report_of_it_is_refused` |
//! | a clean exit during an evacuation is refused | mended: it is a crash like any other | `an_end_without_a_failure_is_told_as_one_with_status_0` |
//! | becoming ready restarts the five minutes after which crashes are forgotten | mended | `readiness_is_no_state_and_restarts_no_clock` |
//! | a change of presence does not move the modification tag | copied: it restarts no clock either | `a_suspect_whose_cell_is_back_is_ordinary_again_and_its_replacement_goes` |

pub mod actual_lrp;
pub mod cell;
pub mod definition;
pub mod desired_lrp;
pub mod freshness_domain;
pub mod held_definition;
pub mod placement;
pub mod restart_policy;
pub mod rootfs;
pub mod task;

#[cfg(test)]
mod recipe_tests;
#[cfg(test)]
mod spec_tests;
