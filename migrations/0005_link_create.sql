-- The link at full strength: what tells a host or a worker whose database went back in time, whose
-- turn it is to run a server, and who has been told to let go of one.

alter table host
    -- Renewed whenever this database went back in time: what workers know of another timeline is not
    -- undone on the word of this one. Null until a host that knows of timelines has started.
    add column timeline  uuid,
    -- +1 with each start of the host and each renewal; the host keeps a copy beside the database.
    add column start_seq bigint not null default 0;

alter table worker
    -- SHA-256 of the token that the worker shows at its next registration, and of what it showed when
    -- it was given that, which is good until the worker has spoken in its newest session.
    add column resume_hash        bytea,
    add column resume_before_hash bytea,
    -- The session with which resume_hash was handed over; a revocation makes session_epoch grow, too.
    add column resume_epoch       bigint not null default 0,
    -- The machine and the data directory of the newest session; a revocation keeps them.
    add column machine            jsonb,
    add column home               text,
    -- The highest number of its own transactions that the worker has told of in this session.
    add column state_seq          bigint not null default 0,
    -- Why the worker's memory is not trusted; null where it is.
    add column quarantine         text check (quarantine in ('old_token', 'state_behind', 'rival', 'other_machine')),
    -- Whether it was found on the very data directory of the session before.
    add column quarantine_at_home boolean not null default false,
    -- The timeline that the worker goes with, as it said at its last registration.
    add column timeline           uuid,
    -- The host's timeline at which the worker was told to follow it without reserve.
    add column rebased_timeline   uuid,
    -- When a person said that this machine is off; null once it has registered again.
    add column fenced_at          timestamptz;

alter table server
    -- Which assignment to a worker this is; +1 with each move.
    add column epoch            bigint not null default 1,
    add column lease_seconds    integer check (lease_seconds > 0),
    -- The generation in which the lease last changed: a worker that knows an older one keeps none of it.
    add column lease_generation bigint not null default 1;

-- What a worker had and must let go of: it is told to stop and forget the server, and keeps its data.
create table server_release (
    server_id  uuid not null references server (id),
    worker_id  uuid not null references worker (id),
    -- That of the assignment which followed.
    epoch      bigint not null,
    generation bigint not null,
    -- The worker's desired_revision, as with a server of its own.
    revision   bigint not null,
    created_at timestamptz not null,
    -- When the worker said that it is gone.
    gone_at    timestamptz,
    primary key (server_id, worker_id)
);

create index server_release_worker on server_release (worker_id) where gone_at is null;

-- A worker that went back in time tells some of its events again under other numbers.
create index event_worker_at on event (worker_id, at) where worker_seq is not null;

-- Restarts that their worker has not said to have heard of: what is not heard within a minute is
-- withdrawn, by the next host if need be.
create table server_restart (
    server_id  uuid primary key references server (id),
    worker_id  uuid not null references worker (id),
    -- What the wish's restart_seq goes back to, and what it was set to.
    before_seq bigint not null,
    asked_seq  bigint not null,
    -- The worker's desired_revision with which it was asked for.
    revision   bigint not null,
    asked_at   timestamptz not null
);
