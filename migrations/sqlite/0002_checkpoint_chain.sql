-- Each checkpoint names the one before it, so that none can be taken away unseen: 8 bytes of its
-- position and the SHA-256 of it; zeros in a log's first one. NULL in those that were signed before
-- this column was there.
ALTER TABLE checkpoints ADD COLUMN previous BLOB;
