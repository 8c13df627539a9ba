-- SPDX-License-Identifier: Apache-2.0
--
-- Choices that a person wants built again, and what replicas must not do twice.

-- +goose Up

-- Whoever changes policies, their groups, updates or choices holds it first.
INSERT INTO counters (name, value) VALUES ('policies', 0);

-- How often a choice was asked to be built again: part of the name under which
-- its live patch and its jobs are found.
CREATE TABLE rebuilds (
    target    TEXT   NOT NULL,
    selection TEXT   NOT NULL,
    times     BIGINT NOT NULL,
    PRIMARY KEY (target, selection)
);

-- A choice is built by one job at a time. Of those that two servers made of
-- one, the first stays.
UPDATE jobs SET state = 'cancelled', ended = created
WHERE selection <> '' AND state IN ('queued', 'running') AND EXISTS (
    SELECT 1 FROM jobs AS o
    WHERE o.target = jobs.target AND o.selection = jobs.selection AND o.state IN ('queued', 'running') AND o.id < jobs.id);
CREATE UNIQUE INDEX jobs_open ON jobs (target, selection) WHERE selection <> '' AND state IN ('queued', 'running');

-- +goose Down
DROP INDEX jobs_open;
DROP TABLE rebuilds;
DELETE FROM counters WHERE name = 'policies';
