-- SPDX-License-Identifier: Apache-2.0
--
-- Policies, the updates that they choose from, and whose live patch is whose.
-- The default policy is there without a row. What was published before is the
-- default policy's.

-- +goose Up

CREATE TABLE policies (
    name       TEXT   PRIMARY KEY,
    body       TEXT   NOT NULL,
    created    BIGINT NOT NULL,
    changed    BIGINT NOT NULL,
    changed_by TEXT   NOT NULL
);

CREATE TABLE policy_groups (
    machine_group TEXT PRIMARY KEY,
    policy        TEXT NOT NULL
);

-- The fixes that are pushed for a target: a file among the blobs, and what
-- lists show of it.
CREATE TABLE updates (
    target     TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    position   BIGINT  NOT NULL,
    extra      BOOLEAN NOT NULL,
    digest     TEXT    NOT NULL,
    size       BIGINT  NOT NULL,
    summary    TEXT    NOT NULL,
    created    BIGINT  NOT NULL,
    created_by TEXT    NOT NULL,
    PRIMARY KEY (target, name)
);

-- What a policy chooses for a target now.
CREATE TABLE choices (
    policy    TEXT   NOT NULL,
    target    TEXT   NOT NULL,
    selection TEXT   NOT NULL,
    body      TEXT   NOT NULL,
    changed   BIGINT NOT NULL,
    PRIMARY KEY (policy, target)
);

-- The live patches that machines of a policy go along.
CREATE TABLE lines (
    livepatch TEXT   NOT NULL REFERENCES livepatches (id),
    policy    TEXT   NOT NULL,
    added     BIGINT NOT NULL,
    PRIMARY KEY (livepatch, policy)
);
CREATE INDEX lines_policy ON lines (policy);
INSERT INTO lines (livepatch, policy, added) SELECT id, 'default', created FROM livepatches;

-- The last version that was drawn for a target.
CREATE TABLE versions (
    target  TEXT   PRIMARY KEY,
    version BIGINT NOT NULL
);

ALTER TABLE livepatches ADD COLUMN selection TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN selection TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN version BIGINT NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN omitted TEXT NOT NULL DEFAULT '';
CREATE INDEX jobs_selection ON jobs (target, selection);

-- One index for each policy.
ALTER TABLE indexes RENAME TO indexes_1;
CREATE TABLE indexes (
    tier     TEXT   NOT NULL,
    build_id TEXT   NOT NULL,
    policy   TEXT   NOT NULL,
    sequence BIGINT NOT NULL,
    revert   TEXT   NOT NULL,
    PRIMARY KEY (tier, build_id, policy)
);
INSERT INTO indexes (tier, build_id, policy, sequence, revert)
    SELECT tier, build_id, 'default', sequence, revert FROM indexes_1;
DROP TABLE indexes_1;

-- +goose Down
DROP TABLE indexes;
CREATE TABLE indexes (
    tier     TEXT   NOT NULL,
    build_id TEXT   NOT NULL,
    sequence BIGINT NOT NULL,
    revert   TEXT   NOT NULL,
    PRIMARY KEY (tier, build_id)
);
DROP INDEX jobs_selection;
ALTER TABLE jobs DROP COLUMN omitted;
ALTER TABLE jobs DROP COLUMN version;
ALTER TABLE jobs DROP COLUMN selection;
ALTER TABLE livepatches DROP COLUMN selection;
DROP TABLE versions;
DROP TABLE lines;
DROP TABLE choices;
DROP TABLE updates;
DROP TABLE policy_groups;
DROP TABLE policies;
