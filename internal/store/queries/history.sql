-- SPDX-License-Identifier: Apache-2.0

-- name: AddSample :execrows
INSERT INTO samples (bucket, taken, body) VALUES (sqlc.arg(bucket), sqlc.arg(taken), sqlc.arg(body))
ON CONFLICT (bucket) DO NOTHING;

-- name: Samples :many
SELECT * FROM samples WHERE bucket >= sqlc.arg(first) AND bucket <= sqlc.arg(last) ORDER BY bucket;

-- name: ThinSamples :execrows
DELETE FROM samples WHERE bucket < sqlc.arg(before) AND bucket % CAST(sqlc.arg(every) AS BIGINT) <> 0;

-- name: DropSamples :execrows
DELETE FROM samples WHERE bucket < sqlc.arg(before);

-- name: Windows :many
SELECT * FROM windows ORDER BY target;

-- name: SaveWindow :exec
INSERT INTO windows (target, begins, ends, note, changed, changed_by)
VALUES (sqlc.arg(target), sqlc.arg(begins), sqlc.arg(ends), sqlc.arg(note), sqlc.arg(changed), sqlc.arg(changed_by))
ON CONFLICT (target) DO UPDATE SET begins = excluded.begins, ends = excluded.ends, note = excluded.note,
    changed = excluded.changed, changed_by = excluded.changed_by;

-- name: DeleteWindow :execrows
DELETE FROM windows WHERE target = sqlc.arg(target);
