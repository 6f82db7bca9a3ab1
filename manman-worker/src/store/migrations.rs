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
