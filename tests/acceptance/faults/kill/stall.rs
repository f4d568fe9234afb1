//! Stalls appends inside a Postgres server, so that their node can be killed meanwhile: triggers
//! that wait for as long as a row says so.

use projections::testing::postgres::Cluster;

const MAKE: &str = "
CREATE TABLE stalled (tab text PRIMARY KEY);
CREATE FUNCTION stall() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    WHILE EXISTS (SELECT 1 FROM stalled WHERE tab = TG_TABLE_NAME) LOOP
        PERFORM pg_sleep(0.01);
    END LOOP;
    RETURN NULL;
END
$$;
CREATE TRIGGER stall AFTER INSERT ON events FOR EACH STATEMENT EXECUTE FUNCTION stall();
CREATE TRIGGER stall AFTER INSERT ON batches FOR EACH STATEMENT EXECUTE FUNCTION stall();
CREATE TRIGGER stall AFTER UPDATE ON log_head FOR EACH STATEMENT EXECUTE FUNCTION stall();
";

/// A database whose appends can be stalled.
pub(super) struct Stall<'c> {
    cluster: &'c Cluster,
    database: String,
}

impl<'c> Stall<'c> {
    /// Prepares a database that holds a log, by its address.
    pub(super) fn prepare(cluster: &'c Cluster, url: &str) -> Self {
        let database = url.rsplit('/').next().unwrap().to_owned();
        cluster.psql(&database, MAKE);
        Self { cluster, database }
    }

    /// The next append waits once it has written a table.
    pub(super) fn begin(&self, table: &str) {
        self.cluster.psql(&self.database, &format!("INSERT INTO stalled VALUES ('{table}')"));
    }

    /// Whether an append waits.
    pub(super) fn holds(&self) -> bool {
        self.counts("wait_event = 'PgSleep'")
    }

    /// Whether somebody waits for an append that waits.
    pub(super) fn is_waited_for(&self) -> bool {
        self.counts("wait_event_type = 'Lock'")
    }

    fn counts(&self, of: &str) -> bool {
        let count = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND {of}"
        );
        self.cluster.psql(&self.database, &count) != "0"
    }

    /// What waits goes on.
    pub(super) fn end(&self) {
        self.cluster.psql(&self.database, "DELETE FROM stalled");
    }
}
