-- SPDX-License-Identifier: Apache-2.0
--
-- One schema for SQLite and PostgreSQL: TEXT keys (UUIDs of version 7), BIGINT
-- milliseconds since 1970 UTC (0: never), JSON as TEXT, nothing NULL. What a
-- column means stands beside the struct that it fills (package store).

-- +goose Up

-- Rows that writers lock, so that what must be done one after another is done
-- so on PostgreSQL too. Counters that are drawn under such a lock are here too.
CREATE TABLE counters (
    name  TEXT   PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('fleet', 0), ('changes', 0), ('tuf', 0);

CREATE TABLE settings (
    key     TEXT   PRIMARY KEY,
    value   TEXT   NOT NULL,
    changed BIGINT NOT NULL
);

CREATE TABLE tiers (
    name     TEXT   PRIMARY KEY,
    position BIGINT NOT NULL,
    created  BIGINT NOT NULL
);
INSERT INTO tiers (name, position, created) VALUES ('edge', 1, 0), ('beta', 2, 0), ('candidate', 3, 0), ('stable', 4, 0);

CREATE TABLE operators (
    id        TEXT   PRIMARY KEY,
    name      TEXT   NOT NULL,
    kind      TEXT   NOT NULL,
    hash      BYTEA  NOT NULL,
    created   BIGINT NOT NULL,
    revoked   BIGINT NOT NULL,
    last_used BIGINT NOT NULL
);
CREATE UNIQUE INDEX operators_hash ON operators (hash);
CREATE UNIQUE INDEX operators_name ON operators (name) WHERE revoked = 0;

CREATE TABLE tokens (
    id            TEXT   PRIMARY KEY,
    name          TEXT   NOT NULL,
    hash          BYTEA  NOT NULL,
    tier          TEXT   NOT NULL,
    machine_group TEXT   NOT NULL,
    machine_limit BIGINT NOT NULL,
    uses          BIGINT NOT NULL,
    created       BIGINT NOT NULL,
    expires       BIGINT NOT NULL,
    revoked       BIGINT NOT NULL,
    last_used     BIGINT NOT NULL
);
CREATE UNIQUE INDEX tokens_hash ON tokens (hash);

CREATE TABLE machines (
    id            TEXT    PRIMARY KEY,
    machine_id    TEXT    NOT NULL,
    credential    BYTEA   NOT NULL,
    recipient     TEXT    NOT NULL,
    hostname      TEXT    NOT NULL,
    tier          TEXT    NOT NULL,
    machine_group TEXT    NOT NULL,
    token         TEXT    NOT NULL,
    os            TEXT    NOT NULL,
    agent         TEXT    NOT NULL,
    kernel        TEXT    NOT NULL,
    build_id      TEXT    NOT NULL,
    arch          TEXT    NOT NULL,
    patch         TEXT    NOT NULL,
    patch_version BIGINT  NOT NULL,
    patch_state   TEXT    NOT NULL,
    able          BOOLEAN NOT NULL,
    hold          BOOLEAN NOT NULL,
    cloned        BOOLEAN NOT NULL,
    facts         TEXT    NOT NULL,
    enrolled      BIGINT  NOT NULL,
    booted        BIGINT  NOT NULL,
    gone          BIGINT  NOT NULL
);
CREATE UNIQUE INDEX machines_credential ON machines (credential) WHERE gone = 0;
CREATE INDEX machines_machine_id ON machines (machine_id);
CREATE INDEX machines_tier ON machines (tier);

-- When a machine was last heard of changes with each check-in and alone: a
-- narrow row of its own keeps that write small.
CREATE TABLE machine_seen (
    machine TEXT   PRIMARY KEY,
    seen    BIGINT NOT NULL
);

CREATE TABLE livepatches (
    id                TEXT    PRIMARY KEY,
    name              TEXT    NOT NULL,
    version           BIGINT  NOT NULL,
    target            TEXT    NOT NULL,
    kernel            TEXT    NOT NULL,
    build_id          TEXT    NOT NULL,
    arch              TEXT    NOT NULL,
    digest            TEXT    NOT NULL,
    size              BIGINT  NOT NULL,
    cipher_digest     TEXT    NOT NULL,
    cipher_size       BIGINT  NOT NULL,
    sealed_key        BYTEA   NOT NULL,
    manifest          TEXT    NOT NULL,
    cves              TEXT    NOT NULL,
    fixes             TEXT    NOT NULL,
    proof_digest      TEXT    NOT NULL,
    provenance_digest TEXT    NOT NULL,
    proven            BOOLEAN NOT NULL,
    signed            BOOLEAN NOT NULL,
    created           BIGINT  NOT NULL,
    created_by        TEXT    NOT NULL,
    blocked           BIGINT  NOT NULL,
    reason            TEXT    NOT NULL,
    recall            BOOLEAN NOT NULL
);
CREATE UNIQUE INDEX livepatches_version ON livepatches (target, version);
CREATE INDEX livepatches_build_id ON livepatches (build_id);

CREATE TABLE publications (
    livepatch TEXT   NOT NULL REFERENCES livepatches (id),
    tier      TEXT   NOT NULL REFERENCES tiers (name),
    published BIGINT NOT NULL,
    PRIMARY KEY (livepatch, tier)
);
CREATE INDEX publications_tier ON publications (tier);

-- The signed index of a tier for one kernel: its last sequence number, and the
-- revert that it authorises (JSON, empty: none).
CREATE TABLE indexes (
    tier     TEXT   NOT NULL,
    build_id TEXT   NOT NULL,
    sequence BIGINT NOT NULL,
    revert   TEXT   NOT NULL,
    PRIMARY KEY (tier, build_id)
);

CREATE TABLE tuf_files (
    role       TEXT   NOT NULL,
    version    BIGINT NOT NULL,
    name       TEXT   NOT NULL,
    body       BYTEA  NOT NULL,
    generation BIGINT NOT NULL,
    created    BIGINT NOT NULL,
    PRIMARY KEY (role, version)
);

-- The id of a report is the machine's word and unique for it alone; seq is ours.
CREATE TABLE reports (
    seq      TEXT   PRIMARY KEY,
    machine  TEXT   NOT NULL,
    id       TEXT   NOT NULL,
    time     BIGINT NOT NULL,
    received BIGINT NOT NULL,
    kind     TEXT   NOT NULL,
    patch    TEXT   NOT NULL,
    state    TEXT   NOT NULL,
    body     TEXT   NOT NULL
);
CREATE UNIQUE INDEX reports_machine ON reports (machine, id);
CREATE INDEX reports_received ON reports (received);

CREATE TABLE jobs (
    id           TEXT    PRIMARY KEY,
    kind         TEXT    NOT NULL,
    target       TEXT    NOT NULL,
    title        TEXT    NOT NULL,
    spec         TEXT    NOT NULL,
    state        TEXT    NOT NULL,
    stage        TEXT    NOT NULL,
    attempt      BIGINT  NOT NULL,
    max_attempts BIGINT  NOT NULL,
    worker       TEXT    NOT NULL,
    leased_until BIGINT  NOT NULL,
    cancel       BOOLEAN NOT NULL,
    created      BIGINT  NOT NULL,
    created_by   TEXT    NOT NULL,
    started      BIGINT  NOT NULL,
    ended        BIGINT  NOT NULL,
    verdict      TEXT    NOT NULL,
    problem      TEXT    NOT NULL,
    patch        TEXT    NOT NULL,
    artifact     TEXT    NOT NULL
);
CREATE INDEX jobs_state ON jobs (state, created);

CREATE TABLE job_logs (
    job      TEXT   NOT NULL REFERENCES jobs (id),
    position BIGINT NOT NULL,
    time     BIGINT NOT NULL,
    text     TEXT   NOT NULL,
    PRIMARY KEY (job, position)
);

CREATE TABLE audit (
    id     TEXT   PRIMARY KEY,
    time   BIGINT NOT NULL,
    actor  TEXT   NOT NULL,
    action TEXT   NOT NULL,
    object TEXT   NOT NULL,
    detail TEXT   NOT NULL
);

-- The change feed: the number of the latest change of each thing. Nothing has
-- to be removed from it, and a reader that was away misses nothing.
CREATE TABLE changes (
    kind TEXT   NOT NULL,
    id   TEXT   NOT NULL,
    seq  BIGINT NOT NULL,
    PRIMARY KEY (kind, id)
);
CREATE INDEX changes_seq ON changes (seq);

-- +goose Down
DROP TABLE changes;
DROP TABLE audit;
DROP TABLE job_logs;
DROP TABLE jobs;
DROP TABLE reports;
DROP TABLE tuf_files;
DROP TABLE indexes;
DROP TABLE publications;
DROP TABLE livepatches;
DROP TABLE machine_seen;
DROP TABLE machines;
DROP TABLE tokens;
DROP TABLE operators;
DROP TABLE tiers;
DROP TABLE settings;
DROP TABLE counters;
