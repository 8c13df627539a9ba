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

-- +goose Down
DROP TABLE windows;
DROP TABLE samples;
