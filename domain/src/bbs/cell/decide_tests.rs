//! The rules of a cell's record, refusals first.

use super::{Command, Lost, Registered, Returned};
use crate::{
    log::CellEpoch,
    testing::{Story, cell_id, given, on_cell, register, registration},
    units::{Mebibytes, Timestamp},
};

fn lose() -> Command {
    let (last_heard_at, heard_by) = (Timestamp(5), "node-1".to_owned());
    Command::Lose { cell_id: cell_id("c"), last_heard_at, heard_by }
}

fn come_back(cell_epoch: u64) -> Command {
    Command::Return { cell_id: cell_id("c"), cell_epoch: CellEpoch(cell_epoch) }
}

fn registered(cell_epoch: u64, machine_number: u128) -> Registered {
    let registration = Box::new(registration(machine_number));
    Registered { cell_epoch: CellEpoch(cell_epoch), registration }
}

fn there() -> Story {
    given([]).after(register("c", 1))
}

#[test]
fn an_unknown_cell_is_neither_lost_nor_returned() {
    given([]).when(lose()).then_rejected("NOT_FOUND");
    given([]).when(come_back(1)).then_rejected("NOT_FOUND");
}

#[test]
fn a_second_live_machine_does_not_get_the_id() {
    there().when(register("c", 2)).then_rejected("CELL_ID_IN_USE");
}

#[test]
fn an_earlier_registration_does_not_return() {
    there()
        .after(lose())
        .after(register("c", 2))
        .after(lose())
        .when(come_back(1))
        .then_rejected("CELL_EPOCH_PASSED");
}

#[test]
fn a_machine_keeps_its_epoch_and_another_one_gets_the_next() {
    given([])
        .when(register("c", 1))
        .then([on_cell("c", registered(1, 1))])
        .when(register("c", 1))
        .then_nothing()
        .after(lose())
        .when(register("c", 1))
        .then([on_cell("c", registered(1, 1))])
        .after(lose())
        .when(register("c", 2))
        .then([on_cell("c", registered(2, 2))]);
}

#[test]
fn a_changed_offer_is_registered_anew() {
    let mut offer = registration(1);
    offer.capacity.memory_mb = Mebibytes(2048);
    let command = Command::Register { cell_id: cell_id("c"), registration: Box::new(offer) };

    let story = there().after(command);

    assert_eq!(story.cell(&cell_id("c")).registration.capacity.memory_mb, Mebibytes(2048));
    assert_eq!(story.cell(&cell_id("c")).cell_epoch, CellEpoch(1));
}

#[test]
fn only_the_edges_of_presence_are_events() {
    let lost = Lost { last_heard_at: Timestamp(5), heard_by: "node-1".to_owned() };

    there()
        .when(come_back(1))
        .then_nothing()
        .when(lose())
        .then([on_cell("c", lost)])
        .when(lose())
        .then_nothing()
        .when(come_back(1))
        .then([on_cell("c", Returned {})]);
}
