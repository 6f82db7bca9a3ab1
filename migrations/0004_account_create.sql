-- People: accounts, and whose each session and token is.

create table account (
    id            uuid primary key,
    name          text not null,
    role          text not null check (role in ('admin', 'operator', 'viewer')),
    -- Argon2id in the PHC form; null for whoever signs in by links alone.
    password_hash text,
    -- Confines an operator or viewer to one server.
    server_id     uuid references server (id),
    created_at    timestamptz not null,
    last_seen_at  timestamptz,
    disabled_at   timestamptz,
    -- The row stays as the tombstone.
    deleted_at    timestamptz
);

create unique index account_name_key on account (lower(name)) where deleted_at is null;

alter table token
    -- Whose session, token or login link it is: it ends with the account.
    add column account_id uuid references account (id),
    -- The token that this session or login link was made from: it ends with that.
    add column parent_id  uuid references token (id) on delete cascade,
    -- Of a session: what the browser called itself, and where it signed in from.
    add column user_agent text,
    add column peer       text;

create index token_account on token (account_id) where revoked_at is null;
create index token_parent on token (parent_id) where revoked_at is null;
