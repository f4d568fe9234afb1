-- How far each node's router has followed the routes, and when it said so. Not a fact of the log: a
-- row that is lost is told again within a second.
CREATE TABLE routers (
    node text PRIMARY KEY,
    position bigint NOT NULL,
    heard_at timestamptz NOT NULL
);
