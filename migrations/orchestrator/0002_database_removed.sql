-- A database that was given back is shut at once and dropped later; one that outgrew its quota is
-- marked, so that it is told once.

alter table orchestrator.waifu_database
    add column removed_at timestamptz,
    add column over_quota boolean not null default false;
