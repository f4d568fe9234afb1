//! The steps that make each database's tables, built into the program.
//!
//! Named one by one instead of by `sqlx::migrate!`: that macro alone would build SQLite and both
//! drivers a second time, for the compiler. A step that was released never changes.

use std::{borrow::Cow, sync::LazyLock};

use sqlx::{
    SqlStr,
    migrate::{Migration, MigrationType, Migrator},
};

/// SQLite's.
pub(super) static SQLITE: LazyLock<Migrator> = LazyLock::new(|| steps(SQLITE_STEPS));

/// SQLite's up to where the program packs what the old tables hold: the next step drops them.
pub(super) static SQLITE_BEFORE_PACKING: LazyLock<Migrator> = LazyLock::new(|| {
    steps(SQLITE_STEPS.split_at_checked(PACKING).map_or(SQLITE_STEPS, |(before, _)| before))
});

/// How many of SQLite's steps come before the packing.
const PACKING: usize = 4;

/// Postgres'.
pub(super) static POSTGRES: LazyLock<Migrator> = LazyLock::new(|| steps(POSTGRES_STEPS));

/// Version, description and statements.
type Step = (i64, &'static str, &'static str);

const SQLITE_STEPS: &[Step] = &[
    (1, "event log", include_str!("../../../migrations/sqlite/0001_event_log.sql")),
    (2, "checkpoint chain", include_str!("../../../migrations/sqlite/0002_checkpoint_chain.sql")),
    (3, "manifest checksum", include_str!("../../../migrations/sqlite/0003_manifest_checksum.sql")),
    (4, "packed batches", include_str!("../../../migrations/sqlite/0004_packed_batches.sql")),
    (5, "packed only", include_str!("../../../migrations/sqlite/0005_packed_only.sql")),
];

const POSTGRES_STEPS: &[Step] = &[
    (1, "event log", include_str!("../../../migrations/postgres/0001_event_log.sql")),
    (2, "checkpoint chain", include_str!("../../../migrations/postgres/0002_checkpoint_chain.sql")),
    (3, "one event", include_str!("../../../migrations/postgres/0003_one_event.sql")),
    (4, "types by chunk", include_str!("../../../migrations/postgres/0004_types_by_chunk.sql")),
    (
        5,
        "manifest checksum",
        include_str!("../../../migrations/postgres/0005_manifest_checksum.sql"),
    ),
    (6, "times by halving", include_str!("../../../migrations/postgres/0006_times_by_halving.sql")),
    (7, "routers", include_str!("../../../migrations/postgres/0007_routers.sql")),
];

fn steps(steps: &'static [Step]) -> Migrator {
    let migration = |(version, description, statements): &Step| {
        let statements = SqlStr::from_static(statements);
        Migration::new(
            *version,
            Cow::Borrowed(description),
            MigrationType::Simple,
            statements,
            false,
        )
    };
    Migrator::with_migrations(steps.iter().map(migration).collect())
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    fn check(folder: &str, steps: &[Step]) {
        let folder = Path::new("../migrations").join(folder);
        let mut files: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort_unstable();

        let named: Vec<String> = steps
            .iter()
            .map(|(version, description, _)| {
                format!("{version:04}_{}.sql", description.replace(' ', "_"))
            })
            .collect();
        assert_eq!(named, files);
    }

    #[test]
    fn every_file_of_the_migrations_is_a_step() {
        check("sqlite", SQLITE_STEPS);
        check("postgres", POSTGRES_STEPS);
    }
}
