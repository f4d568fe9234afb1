//! The edge of Diego's clients, driven from outside by a client on the same messages.

mod actual_lrps;
mod client;
mod connections;
mod desired_lrps;
mod driven;
mod events;
mod golden;
mod harness;
mod tasks;
