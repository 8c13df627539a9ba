-- SPDX-License-Identifier: Apache-2.0
--
-- Notifications: how people are reached, what waits to be delivered, and what
-- is remembered of what they were told.

-- +goose Up

-- body is the channel as somebody set it up, secrets are sealed, state is what
-- was told through it.
CREATE TABLE channels (
    id         TEXT   PRIMARY KEY,
    name       TEXT   NOT NULL,
    body       TEXT   NOT NULL,
    secrets    BYTEA  NOT NULL,
    state      TEXT   NOT NULL,
    created    BIGINT NOT NULL,
    changed    BIGINT NOT NULL,
    changed_by TEXT   NOT NULL
);
CREATE UNIQUE INDEX channels_name ON channels (name);

-- Messages on their way, and for some time afterwards. next is when one is
-- tried, or may be taken from who died with it.
CREATE TABLE outbox (
    id        TEXT   PRIMARY KEY,
    channel   TEXT   NOT NULL REFERENCES channels (id),
    recipient TEXT   NOT NULL,
    subject   TEXT   NOT NULL,
    message   TEXT   NOT NULL,
    stage     TEXT   NOT NULL,
    attempt   BIGINT NOT NULL,
    made      BIGINT NOT NULL,
    next      BIGINT NOT NULL,
    ended     BIGINT NOT NULL,
    problem   TEXT   NOT NULL
);
CREATE INDEX outbox_due ON outbox (next) WHERE stage = 'waiting';
CREATE INDEX outbox_made ON outbox (made, id);

-- What whoever watches remembers: conditions that last, and how far the audit
-- log has been read.
CREATE TABLE watches (
    name    TEXT   PRIMARY KEY,
    body    TEXT   NOT NULL,
    changed BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('notify', 0);

-- +goose Down
DELETE FROM counters WHERE name = 'notify';
DROP TABLE watches;
DROP TABLE outbox;
DROP TABLE channels;
