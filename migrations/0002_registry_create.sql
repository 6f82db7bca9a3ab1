-- The registry: who is alive and where, as of their last sign of life. What the host leases for its
-- own workers and games is not here: it does so again by itself.

create table registry_entry (
    name   text primary key,
    -- Address, expiry and the hash of its owner's token; the shape is manman-front-door's Record.
    record jsonb not null
);
