//! The schema, as a list that is only ever appended to; `user_version` says how much of it a file has.

use rusqlite::Connection;

pub(super) const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE meta (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        value TEXT NOT NULL,
        event_seq INTEGER NOT NULL,
        metrics_dropped INTEGER NOT NULL
    ) STRICT;
    INSERT INTO meta (id, value, event_seq, metrics_dropped) VALUES (1, '{}', 0, 0);

    CREATE TABLE record (
        server TEXT PRIMARY KEY,
        spec TEXT NOT NULL,
        origin TEXT NOT NULL,
        offered_hash INTEGER NOT NULL,
        changed_here INTEGER NOT NULL,
        tried TEXT NOT NULL
    ) STRICT;

    -- What was last said of a server, so that a worker that starts blind has something to say.
    CREATE TABLE status (
        server TEXT PRIMARY KEY,
        status TEXT NOT NULL
    ) STRICT;

    CREATE TABLE calls (
        id TEXT PRIMARY KEY,
        reply TEXT,
        at INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX calls_at ON calls (at);

    CREATE TABLE outbox (
        event_seq INTEGER PRIMARY KEY,
        metric INTEGER NOT NULL,
        event TEXT NOT NULL
    ) STRICT;
",
    "
    -- Runs of actions that are no console lines. One that was running when its worker was killed is
    -- told of as interrupted, and never begun again.
    CREATE TABLE action (
        id TEXT PRIMARY KEY,
        server TEXT NOT NULL,
        at INTEGER NOT NULL,
        running INTEGER NOT NULL,
        run TEXT NOT NULL
    ) STRICT;
    CREATE INDEX action_at ON action (at);
",
    "
    -- How many transactions have changed this file: a host that has heard of more knows that the
    -- file went back in time.
    ALTER TABLE meta ADD COLUMN state_seq INTEGER NOT NULL DEFAULT 0;
    -- The last event that the host has said it has.
    ALTER TABLE meta ADD COLUMN events_stored INTEGER NOT NULL DEFAULT 0;
    -- In which session the host said that it has the reply.
    ALTER TABLE calls ADD COLUMN acked_in INTEGER;

    -- What waits for the host, counted as it comes and goes: to count it anew would be a walk over
    -- all of it with each event.
    ALTER TABLE meta ADD COLUMN outbox_rows INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE meta ADD COLUMN outbox_bytes INTEGER NOT NULL DEFAULT 0;
    UPDATE meta SET outbox_rows = (SELECT count(*) FROM outbox),
                    outbox_bytes = (SELECT coalesce(sum(octet_length(event)), 0) FROM outbox);
    CREATE INDEX outbox_metric ON outbox (event_seq) WHERE metric = 1;
    CREATE TRIGGER outbox_in AFTER INSERT ON outbox BEGIN
        UPDATE meta SET outbox_rows = outbox_rows + 1, outbox_bytes = outbox_bytes + octet_length(NEW.event);
    END;
    CREATE TRIGGER outbox_out AFTER DELETE ON outbox BEGIN
        UPDATE meta SET outbox_rows = outbox_rows - 1, outbox_bytes = outbox_bytes - octet_length(OLD.event);
    END;
",
];

/// Brings the file to the newest version, each step in a transaction with its number. Answers the
/// version found if that is newer than any known.
pub(super) fn migrate(connection: &mut Connection) -> Result<Result<(), i64>, rusqlite::Error> {
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    if found > known {
        return Ok(Err(found));
    }
    let done = usize::try_from(found).unwrap_or(0);
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(done) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", i64::try_from(index + 1).unwrap_or(i64::MAX))?;
        transaction.commit()?;
    }
    Ok(Ok(()))
}
