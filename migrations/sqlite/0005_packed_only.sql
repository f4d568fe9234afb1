-- Between the step before and this one the program has packed what these tables held.
DROP TABLE events;
DROP TABLE batches;
ALTER TABLE packed_batches RENAME TO batches;
