-- The fleet: what should be, who may ask for it, and what has happened.
-- Ids are UUIDv7 made by the host; moments are timestamptz; bodies are jsonb in the shapes of
-- manman-common. Deleted rows stay as tombstones, so every unique name is a partial index.

create table host (
    only_row   boolean primary key default true check (only_row),
    host_id    uuid not null,
    created_at timestamptz not null
);

create table worker (
    id                uuid primary key,
    name              text not null,
    -- pending: asks to join. accepted: may run servers. deleted: a tombstone.
    state             text not null check (state in ('pending', 'accepted', 'deleted')),
    -- The host's last verdict, kept so that a restarted host knows whom it had given up.
    status            text not null check (status in ('pending', 'alive', 'frozen', 'shutdown', 'unknown')),
    status_since      timestamptz not null,
    frozen            boolean not null default false,
    address           text not null,
    api_url           text,
    -- What this host shows when it calls the worker's own listener; the worker chose it.
    api_token         text,
    labels            jsonb not null default '{}',
    capabilities      jsonb not null default '{}',
    -- run_id, boot_id, pid, start_ticks, home of the session's process.
    process           jsonb,
    session_epoch     bigint not null default 0,
    desired_revision  bigint not null default 0,
    observed_revision bigint not null default 0,
    usage             jsonb,
    -- High-water mark of the worker's own events.
    event_seq         bigint not null default 0,
    created_at        timestamptz not null,
    accepted_at       timestamptz,
    deleted_at        timestamptz
);

-- A stranger may ask under a name that is in use, and then waits beside its owner; only one of a
-- name is ever accepted.
create unique index worker_name_key on worker (lower(name)) where state = 'accepted';

create table server (
    id                 uuid primary key,
    name               text not null,
    worker_id          uuid not null references worker (id),
    game_id            text not null,
    -- What the person asked for (CreateServer without name and worker), from which spec is resolved.
    request            jsonb not null,
    -- RunSpec, resolved; secrets included, so it leaves the host for the worker only.
    run                jsonb not null,
    desired            text not null check (desired in ('running', 'stopped', 'deleted')),
    stop_mode          text not null default 'graceful' check (stop_mode in ('graceful', 'kill')),
    restart_seq        bigint not null default 0,
    purge              boolean not null default false,
    generation         bigint not null,
    -- The generation in which "run" last changed: a game that runs from an older one is pending a restart.
    run_generation     bigint not null,
    -- The worker's desired_revision at this server's last change: what a delta is made from.
    revision           bigint not null,
    -- ServerStatus as last reported; null until the worker's first word.
    status             jsonb,
    status_at          timestamptz,
    created_at         timestamptz not null,
    updated_at         timestamptz not null,
    -- When the wish to delete was made; the row stays as the tombstone.
    deleted_at         timestamptz,
    -- When its worker said that it is gone.
    gone_at            timestamptz
);

create unique index server_name_key on server (lower(name)) where deleted_at is null;
create index server_worker_revision on server (worker_id, revision);
create index server_game on server (game_id) where deleted_at is null;

-- A port on a machine belongs to one server; the row goes when the server's process is gone.
create table server_port (
    worker_id uuid not null references worker (id),
    protocol  text not null check (protocol in ('udp', 'tcp')),
    port      integer not null check (port between 1 and 65535),
    server_id uuid not null references server (id),
    name      text not null,
    constraint server_port_taken primary key (worker_id, protocol, port)
);

create index server_port_server on server_port (server_id);

-- Who may do what. The secret's SHA-256 is kept, never the secret; secrets are 256 random bits, so
-- a slow hash would protect nothing more.
create table token (
    id           uuid primary key,
    secret_hash  bytea not null,
    scope        text not null check (scope in ('admin', 'operator', 'viewer', 'worker', 'join', 'login')),
    label        text not null default '',
    worker_id    uuid references worker (id),
    server_id    uuid references server (id),
    -- With the scope login: what the browser that redeems it may do.
    grants       text check (grants in ('admin', 'operator', 'viewer')),
    -- A browser's session rather than a token handed to somebody.
    session      boolean not null default false,
    created_at   timestamptz not null,
    expires_at   timestamptz,
    last_used_at timestamptz,
    revoked_at   timestamptz
);

create unique index token_secret_key on token (secret_hash);

create table event (
    id         bigint generated always as identity primary key,
    at         timestamptz not null,
    actor      text not null,
    kind       text not null,
    worker_id  uuid,
    server_id  uuid,
    message    text not null,
    data       jsonb not null default 'null',
    -- A worker's own number of the event: a repeated delivery changes nothing.
    worker_seq bigint,
    constraint event_worker_seq unique (worker_id, worker_seq)
);

create index event_server on event (server_id, id);

-- Answers to requests that carried an Idempotency-Key, kept for a day.
create table idempotency (
    token_id     uuid not null,
    key          text not null,
    request_hash bytea not null,
    status       integer not null,
    body         jsonb not null,
    location     text,
    created_at   timestamptz not null,
    primary key (token_id, key)
);
