-- SPDX-License-Identifier: Apache-2.0

-- name: Channels :many
SELECT * FROM channels ORDER BY name;

-- name: Channel :one
SELECT * FROM channels WHERE id = sqlc.arg(id);

-- name: InsertChannel :exec
INSERT INTO channels (id, name, body, secrets, state, created, changed, changed_by)
VALUES (sqlc.arg(id), sqlc.arg(name), sqlc.arg(body), sqlc.arg(secrets), '', sqlc.arg(created), sqlc.arg(created), sqlc.arg(changed_by));

-- name: ChangeChannel :execrows
UPDATE channels SET name = sqlc.arg(name), body = sqlc.arg(body), secrets = sqlc.arg(secrets), changed = sqlc.arg(changed),
    changed_by = sqlc.arg(changed_by)
WHERE id = sqlc.arg(id);

-- name: SetChannelState :exec
UPDATE channels SET state = sqlc.arg(state) WHERE id = sqlc.arg(id);

-- name: DeleteChannel :execrows
DELETE FROM channels WHERE id = sqlc.arg(id);

-- name: DeleteChannelDeliveries :exec
DELETE FROM outbox WHERE channel = sqlc.arg(channel);

-- name: InsertDelivery :execrows
INSERT INTO outbox (id, channel, recipient, subject, message, stage, attempt, made, next, ended, problem)
VALUES (sqlc.arg(id), sqlc.arg(channel), sqlc.arg(recipient), sqlc.arg(subject), sqlc.arg(message), 'waiting', 0, sqlc.arg(made),
    sqlc.arg(next), 0, '')
ON CONFLICT (id) DO NOTHING;

-- name: Delivery :one
SELECT * FROM outbox WHERE id = sqlc.arg(id);

-- name: Deliveries :many
SELECT * FROM outbox
WHERE (CAST(sqlc.arg(newest) AS BOOLEAN) OR made < sqlc.arg(made) OR made = sqlc.arg(made) AND id < sqlc.arg(before))
  AND (CAST(sqlc.arg(any_channel) AS BOOLEAN) OR channel = sqlc.arg(channel))
  AND (CAST(sqlc.arg(any_stage) AS BOOLEAN) OR stage = sqlc.arg(stage))
ORDER BY made DESC, id DESC
LIMIT sqlc.arg(row_limit);

-- name: DueDeliveries :many
SELECT id FROM outbox WHERE stage = 'waiting' AND next <= sqlc.arg(now) ORDER BY next LIMIT sqlc.arg(row_limit);

-- name: TakeDelivery :one
UPDATE outbox SET next = sqlc.arg(until) WHERE id = sqlc.arg(id) AND stage = 'waiting' AND next <= sqlc.arg(now)
RETURNING *;

-- name: PutDelivery :execrows
UPDATE outbox SET stage = sqlc.arg(stage), attempt = sqlc.arg(attempt), next = sqlc.arg(next), ended = sqlc.arg(ended),
    problem = sqlc.arg(problem)
WHERE id = sqlc.arg(id) AND (stage = 'waiting' OR stage = 'dead' AND CAST(sqlc.arg(arrived) AS BOOLEAN));

-- name: RetryDelivery :execrows
UPDATE outbox SET stage = 'waiting', made = sqlc.arg(now), next = sqlc.arg(now), ended = 0 WHERE id = sqlc.arg(id) AND stage <> 'delivered';

-- name: CountDeliveries :many
SELECT stage, count(*) AS deliveries FROM outbox GROUP BY stage ORDER BY stage;

-- name: PruneDeliveries :execrows
DELETE FROM outbox WHERE stage <> 'waiting' AND ended < sqlc.arg(before);

-- name: Watch :one
SELECT * FROM watches WHERE name = sqlc.arg(name);

-- name: SaveWatch :exec
INSERT INTO watches (name, body, changed) VALUES (sqlc.arg(name), sqlc.arg(body), sqlc.arg(changed))
ON CONFLICT (name) DO UPDATE SET body = excluded.body, changed = excluded.changed;
