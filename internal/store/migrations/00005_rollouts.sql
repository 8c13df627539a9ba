-- SPDX-License-Identifier: Apache-2.0
--
-- Rollouts: what was decided, for which machines, and why. What a machine does
-- without any live patch is counted too: boots that nobody announced, and
-- silences.

-- +goose Up

CREATE TABLE rollouts (
    id         TEXT   PRIMARY KEY,
    livepatch  TEXT   NOT NULL REFERENCES livepatches (id),
    tier       TEXT   NOT NULL,
    plan       TEXT   NOT NULL,
    state      TEXT   NOT NULL,
    summary    TEXT   NOT NULL,
    phase      TEXT   NOT NULL,
    revision   BIGINT NOT NULL,
    steps      BIGINT NOT NULL,
    created    BIGINT NOT NULL,
    created_by TEXT   NOT NULL,
    changed    BIGINT NOT NULL
);
CREATE INDEX rollouts_tier ON rollouts (tier, livepatch);
-- A live patch goes through a tier once at a time.
CREATE UNIQUE INDEX rollouts_open ON rollouts (livepatch, tier) WHERE phase <> 'done' AND phase <> 'aborted';

-- The machines that were offered it. revision is that of the rollout with which
-- a row changed last: what is newer than what a server knows is what it reads.
CREATE TABLE rollout_machines (
    rollout  TEXT   NOT NULL REFERENCES rollouts (id),
    machine  TEXT   NOT NULL,
    revision BIGINT NOT NULL,
    status   TEXT   NOT NULL,
    wave     BIGINT NOT NULL,
    body     TEXT   NOT NULL,
    PRIMARY KEY (rollout, machine)
);
CREATE INDEX rollout_machines_revision ON rollout_machines (rollout, revision);

CREATE TABLE rollout_steps (
    rollout  TEXT   NOT NULL REFERENCES rollouts (id),
    seq      BIGINT NOT NULL,
    time     BIGINT NOT NULL,
    what     TEXT   NOT NULL,
    wave     BIGINT NOT NULL,
    machines BIGINT NOT NULL,
    failure  TEXT   NOT NULL,
    why      TEXT   NOT NULL,
    actor    TEXT   NOT NULL,
    PRIMARY KEY (rollout, seq)
);

-- Work that one server of several does: whose it is, and since when without a
-- break it was somebody's.
CREATE TABLE leases (
    name  TEXT   PRIMARY KEY,
    owner TEXT   NOT NULL,
    until BIGINT NOT NULL,
    since BIGINT NOT NULL
);

ALTER TABLE machines ADD COLUMN boots BIGINT NOT NULL DEFAULT 0;
ALTER TABLE machine_seen ADD COLUMN silences BIGINT NOT NULL DEFAULT 0;
CREATE INDEX reports_patch ON reports (patch, received);

-- +goose Down
DROP INDEX reports_patch;
ALTER TABLE machine_seen DROP COLUMN silences;
ALTER TABLE machines DROP COLUMN boots;
DROP TABLE leases;
DROP TABLE rollout_steps;
DROP TABLE rollout_machines;
DROP TABLE rollouts;
