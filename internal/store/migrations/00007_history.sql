-- SPDX-License-Identifier: Apache-2.0
--
-- How the fleet stood over time, and how long live patches are made for a
-- target.

-- +goose Up

-- bucket is the hour since 1970: of servers that look in the same hour, the
-- first writes it down.
CREATE TABLE samples (
    bucket BIGINT PRIMARY KEY,
    taken  BIGINT NOT NULL,
    body   TEXT   NOT NULL
);

CREATE TABLE windows (
    target     TEXT   PRIMARY KEY,
    begins     BIGINT NOT NULL,
    ends       BIGINT NOT NULL,
    note       TEXT   NOT NULL,
    changed    BIGINT NOT NULL,
    changed_by TEXT   NOT NULL
);

-- Lists of reports, of one machine, live patch or kind, the newest first.
CREATE INDEX reports_of_machine ON reports (machine, seq);
CREATE INDEX reports_of_patch ON reports (patch, seq);
CREATE INDEX reports_of_kind ON reports (kind, seq);
-- Counting the machines of a tier reads no row.
CREATE INDEX machines_of_tier ON machines (tier, gone);
DROP INDEX machines_tier;

-- +goose Down
CREATE INDEX machines_tier ON machines (tier);
DROP INDEX machines_of_tier;
DROP INDEX reports_of_kind;
DROP INDEX reports_of_patch;
DROP INDEX reports_of_machine;
DROP TABLE windows;
DROP TABLE samples;
