//! The log in Postgres.
