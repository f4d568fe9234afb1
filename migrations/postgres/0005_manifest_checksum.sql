-- The SHA-256 of all that a snapshot's manifest says, so that a damaged one is passed over. Of
-- a snapshot from before this column nobody knows: it counts as damaged, which costs only time.
ALTER TABLE snapshot_manifests ADD COLUMN checksum bytea;
