-- What the host's orchestrator knows of waifus: one document, replaced as a whole.

create table orchestrator_state (
    only_row boolean primary key default true check (only_row),
    document bytea not null,
    saved_at timestamptz not null default now()
);
