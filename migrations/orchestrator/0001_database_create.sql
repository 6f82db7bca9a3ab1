-- Databases that were handed out to waifus. This is the orchestrator's own schema: it may lie in a
-- database of its own or beside the fleet's, and so it has migrations of its own.

create table orchestrator.waifu_database (
    name        text primary key,
    database    text not null unique,
    role        text not null unique,
    -- Argon2id in the PHC form. The password of the role is derived, and stands nowhere.
    secret_hash text not null,
    -- Of which key the password is derived, and for the how many-th time.
    key_id      bytea not null,
    generation  bigint not null default 1 check (generation > 0),
    -- Until it is ready, the next call goes on where the last one broke off.
    ready       boolean not null default false,
    created_at  timestamptz not null default now()
);
