-- SPDX-License-Identifier: Apache-2.0

-- name: Draw :one
UPDATE counters SET value = value + 1 WHERE name = sqlc.arg(name) RETURNING value;

-- name: Hold :exec
UPDATE counters SET value = value WHERE name = sqlc.arg(name);

-- name: Counter :one
SELECT value FROM counters WHERE name = sqlc.arg(name);

-- name: SaveChange :exec
INSERT INTO changes (kind, id, seq) VALUES (sqlc.arg(kind), sqlc.arg(id), sqlc.arg(seq))
ON CONFLICT (kind, id) DO UPDATE SET seq = excluded.seq;

-- name: Changes :many
SELECT kind, id, seq FROM changes WHERE seq > sqlc.arg(after) ORDER BY seq, kind, id;

-- name: InsertToken :exec
INSERT INTO tokens (id, name, hash, tier, machine_group, machine_limit, uses, created, expires, revoked, last_used)
VALUES (sqlc.arg(id), sqlc.arg(name), sqlc.arg(hash), sqlc.arg(tier), sqlc.arg(machine_group), sqlc.arg(machine_limit), 0,
    sqlc.arg(created), sqlc.arg(expires), 0, 0);

-- name: Tokens :many
SELECT * FROM tokens ORDER BY id;

-- name: TokenByID :one
SELECT * FROM tokens WHERE id = sqlc.arg(id);

-- name: TokenByHash :one
SELECT * FROM tokens WHERE hash = sqlc.arg(hash);

-- name: RevokeToken :execrows
UPDATE tokens SET revoked = sqlc.arg(revoked) WHERE id = sqlc.arg(id) AND revoked = 0;

-- name: UseToken :exec
UPDATE tokens SET uses = uses + sqlc.arg(machines), last_used = sqlc.arg(last_used) WHERE id = sqlc.arg(id);

-- name: InsertTier :exec
INSERT INTO tiers (name, position, created) VALUES (sqlc.arg(name), sqlc.arg(position), sqlc.arg(created));

-- name: MoveTiersUp :exec
UPDATE tiers SET position = position + 1 WHERE position >= sqlc.arg(position);

-- name: MoveTiersDown :exec
UPDATE tiers SET position = position - 1 WHERE position > sqlc.arg(position);

-- name: Tier :one
SELECT * FROM tiers WHERE name = sqlc.arg(name);

-- name: Tiers :many
SELECT tiers.name, tiers.position, tiers.created,
    (SELECT count(*) FROM machines WHERE machines.tier = tiers.name AND machines.gone = 0) AS machines,
    (SELECT count(*) FROM publications WHERE publications.tier = tiers.name) AS patches,
    (SELECT count(*) FROM tokens WHERE tokens.tier = tiers.name AND tokens.revoked = 0) AS tokens
FROM tiers ORDER BY tiers.position;

-- name: DeleteTier :execrows
DELETE FROM tiers WHERE name = sqlc.arg(name);

-- name: InsertOperator :exec
INSERT INTO operators (id, name, kind, hash, created, revoked, last_used)
VALUES (sqlc.arg(id), sqlc.arg(name), sqlc.arg(kind), sqlc.arg(hash), sqlc.arg(created), 0, 0);

-- name: Operators :many
SELECT * FROM operators ORDER BY id;

-- name: OperatorByHash :one
SELECT * FROM operators WHERE hash = sqlc.arg(hash);

-- name: RevokeOperator :execrows
UPDATE operators SET revoked = sqlc.arg(revoked) WHERE id = sqlc.arg(id) AND revoked = 0;

-- name: UseOperator :exec
UPDATE operators SET last_used = sqlc.arg(last_used) WHERE id = sqlc.arg(id) AND last_used < sqlc.arg(last_used);

-- name: Setting :one
SELECT value FROM settings WHERE key = sqlc.arg(key);

-- name: Settings :many
SELECT * FROM settings ORDER BY key;

-- name: SaveSetting :exec
INSERT INTO settings (key, value, changed) VALUES (sqlc.arg(key), sqlc.arg(value), sqlc.arg(changed))
ON CONFLICT (key) DO UPDATE SET value = excluded.value, changed = excluded.changed;

-- name: AuditEntries :many
SELECT * FROM audit
WHERE (CAST(sqlc.arg(newest) AS BOOLEAN) OR id < sqlc.arg(before))
  AND (CAST(sqlc.arg(any_actor) AS BOOLEAN) OR actor = sqlc.arg(actor))
  AND (CAST(sqlc.arg(any_action) AS BOOLEAN) OR action = sqlc.arg(action)
    OR CAST(sqlc.arg(area) AS TEXT) <> '' AND substr(action, 1, length(CAST(sqlc.arg(area) AS TEXT))) = CAST(sqlc.arg(area) AS TEXT))
  AND (CAST(sqlc.arg(any_object) AS BOOLEAN) OR object = sqlc.arg(object))
ORDER BY id DESC
LIMIT sqlc.arg(row_limit);
