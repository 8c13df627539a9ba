-- SPDX-License-Identifier: Apache-2.0
--
-- People, how they sign in, and the chain of the audit log. The operators of
-- before are API keys that belong to nobody.

-- +goose Up

CREATE TABLE users (
    id           TEXT   PRIMARY KEY,
    name         TEXT   NOT NULL,
    display      TEXT   NOT NULL,
    email        TEXT   NOT NULL,
    grants       TEXT   NOT NULL,
    settings     TEXT   NOT NULL,
    password     TEXT   NOT NULL,
    password_set BIGINT NOT NULL,
    totp         BYTEA  NOT NULL,
    totp_step    BIGINT NOT NULL,
    failures     BIGINT NOT NULL,
    locked_until BIGINT NOT NULL,
    created      BIGINT NOT NULL,
    created_by   TEXT   NOT NULL,
    disabled     BIGINT NOT NULL,
    last_seen    BIGINT NOT NULL
);
CREATE UNIQUE INDEX users_name ON users (name);

-- Whom an OpenID provider knows as whom.
CREATE TABLE identities (
    issuer  TEXT   NOT NULL,
    subject TEXT   NOT NULL,
    person  TEXT   NOT NULL REFERENCES users (id),
    created BIGINT NOT NULL,
    PRIMARY KEY (issuer, subject)
);
CREATE INDEX identities_person ON identities (person);

CREATE TABLE passkeys (
    id        TEXT   PRIMARY KEY,
    person    TEXT   NOT NULL REFERENCES users (id),
    name      TEXT   NOT NULL,
    body      TEXT   NOT NULL,
    created   BIGINT NOT NULL,
    last_used BIGINT NOT NULL
);
CREATE INDEX passkeys_person ON passkeys (person);

CREATE TABLE recovery_codes (
    person TEXT   NOT NULL REFERENCES users (id),
    hash   BYTEA  NOT NULL,
    used   BIGINT NOT NULL,
    PRIMARY KEY (person, hash)
);

CREATE TABLE sessions (
    id        TEXT   PRIMARY KEY,
    hash      BYTEA  NOT NULL,
    person    TEXT   NOT NULL REFERENCES users (id),
    method    TEXT   NOT NULL,
    address   TEXT   NOT NULL,
    agent     TEXT   NOT NULL,
    created   BIGINT NOT NULL,
    proven    BIGINT NOT NULL,
    last_used BIGINT NOT NULL,
    expires   BIGINT NOT NULL
);
CREATE UNIQUE INDEX sessions_hash ON sessions (hash);
CREATE INDEX sessions_person ON sessions (person);

CREATE TABLE links (
    id         TEXT   PRIMARY KEY,
    hash       BYTEA  NOT NULL,
    person     TEXT   NOT NULL REFERENCES users (id),
    purpose    TEXT   NOT NULL,
    created    BIGINT NOT NULL,
    created_by TEXT   NOT NULL,
    expires    BIGINT NOT NULL,
    used       BIGINT NOT NULL
);
CREATE UNIQUE INDEX links_hash ON links (hash);

-- What was begun in one request and ends in another: passkeys, sign-ins with
-- an OpenID provider, second factors that are not confirmed.
CREATE TABLE ceremonies (
    id      TEXT   PRIMARY KEY,
    kind    TEXT   NOT NULL,
    person  TEXT   NOT NULL,
    body    TEXT   NOT NULL,
    expires BIGINT NOT NULL
);

-- What a second person has to agree to.
CREATE TABLE approvals (
    id         TEXT   PRIMARY KEY,
    action     TEXT   NOT NULL,
    object     TEXT   NOT NULL,
    digest     TEXT   NOT NULL,
    detail     TEXT   NOT NULL,
    asked      BIGINT NOT NULL,
    asked_by   TEXT   NOT NULL,
    expires    BIGINT NOT NULL,
    decided    BIGINT NOT NULL,
    decided_by TEXT   NOT NULL,
    verdict    TEXT   NOT NULL,
    used       BIGINT NOT NULL
);

ALTER TABLE operators ADD COLUMN person TEXT NOT NULL DEFAULT '';
ALTER TABLE operators ADD COLUMN grants TEXT NOT NULL DEFAULT '';
ALTER TABLE operators ADD COLUMN scopes TEXT NOT NULL DEFAULT '';
ALTER TABLE operators ADD COLUMN expires BIGINT NOT NULL DEFAULT 0;
CREATE INDEX operators_person ON operators (person);

-- The chain: entries in the order in which they were stored, each with a hash
-- over itself and the one before. What is there already gets its place when
-- the database is opened.
ALTER TABLE audit ADD COLUMN seq BIGINT NOT NULL DEFAULT 0;
ALTER TABLE audit ADD COLUMN hash TEXT NOT NULL DEFAULT '';
CREATE UNIQUE INDEX audit_seq ON audit (seq) WHERE seq > 0;
INSERT INTO counters (name, value) VALUES ('audit', 0), ('people', 0);

-- +goose Down
DELETE FROM counters WHERE name IN ('audit', 'people');
DROP INDEX audit_seq;
ALTER TABLE audit DROP COLUMN hash;
ALTER TABLE audit DROP COLUMN seq;
DROP INDEX operators_person;
ALTER TABLE operators DROP COLUMN expires;
ALTER TABLE operators DROP COLUMN scopes;
ALTER TABLE operators DROP COLUMN grants;
ALTER TABLE operators DROP COLUMN person;
DROP TABLE approvals;
DROP TABLE ceremonies;
DROP TABLE links;
DROP TABLE sessions;
DROP TABLE recovery_codes;
DROP TABLE passkeys;
DROP TABLE identities;
DROP TABLE users;
