-- SPDX-License-Identifier: Apache-2.0

-- name: InsertRollout :exec
INSERT INTO rollouts (id, livepatch, tier, plan, state, summary, phase, revision, steps, created, created_by, changed)
VALUES (sqlc.arg(id), sqlc.arg(livepatch), sqlc.arg(tier), sqlc.arg(plan), sqlc.arg(state), '', sqlc.arg(phase), 1, 0,
    sqlc.arg(created), sqlc.arg(created_by), sqlc.arg(created));

-- name: UpdateRollout :execrows
UPDATE rollouts SET state = sqlc.arg(state), summary = sqlc.arg(summary), phase = sqlc.arg(phase),
    revision = revision + 1, steps = steps + sqlc.arg(added), changed = sqlc.arg(changed)
WHERE id = sqlc.arg(id) AND revision = sqlc.arg(revision);

-- name: Rollout :one
SELECT * FROM rollouts WHERE id = sqlc.arg(id);

-- name: Rollouts :many
SELECT * FROM rollouts
WHERE (CAST(sqlc.arg(newest) AS BOOLEAN) OR id < sqlc.arg(before))
  AND (CAST(sqlc.arg(any_livepatch) AS BOOLEAN) OR livepatch = sqlc.arg(livepatch))
  AND (CAST(sqlc.arg(any_tier) AS BOOLEAN) OR tier = sqlc.arg(tier))
  AND (CAST(sqlc.arg(over_too) AS BOOLEAN) OR (phase <> 'done' AND phase <> 'aborted'))
ORDER BY id DESC
LIMIT sqlc.arg(row_limit);

-- name: RolloutRevisions :many
SELECT id, revision FROM rollouts WHERE tier = sqlc.arg(tier);

-- name: SaveRolloutMachine :exec
INSERT INTO rollout_machines (rollout, machine, revision, status, wave, body)
VALUES (sqlc.arg(rollout), sqlc.arg(machine), sqlc.arg(revision), sqlc.arg(status), sqlc.arg(wave), sqlc.arg(body))
ON CONFLICT (rollout, machine) DO UPDATE SET revision = excluded.revision, status = excluded.status, wave = excluded.wave,
    body = excluded.body;

-- name: RolloutMachinesSince :many
SELECT * FROM rollout_machines
WHERE rollout = sqlc.arg(rollout) AND revision > sqlc.arg(revision) AND machine > sqlc.arg(after)
ORDER BY machine
LIMIT sqlc.arg(row_limit);

-- name: RolloutMachinesPage :many
SELECT * FROM rollout_machines
WHERE rollout = sqlc.arg(rollout) AND machine > sqlc.arg(after)
  AND (CAST(sqlc.arg(any_status) AS BOOLEAN) OR status = sqlc.arg(status))
  AND (CAST(sqlc.arg(any_wave) AS BOOLEAN) OR wave = sqlc.arg(wave))
ORDER BY machine
LIMIT sqlc.arg(row_limit);

-- name: RolloutMachine :one
SELECT * FROM rollout_machines WHERE rollout = sqlc.arg(rollout) AND machine = sqlc.arg(machine);

-- name: InsertRolloutStep :exec
INSERT INTO rollout_steps (rollout, seq, time, what, wave, machines, failure, why, actor)
VALUES (sqlc.arg(rollout), sqlc.arg(seq), sqlc.arg(time), sqlc.arg(what), sqlc.arg(wave), sqlc.arg(machines), sqlc.arg(failure),
    sqlc.arg(why), sqlc.arg(actor));

-- name: RolloutSteps :many
SELECT * FROM rollout_steps
WHERE rollout = sqlc.arg(rollout) AND (CAST(sqlc.arg(newest) AS BOOLEAN) OR seq < sqlc.arg(before))
ORDER BY seq DESC
LIMIT sqlc.arg(row_limit);

-- name: TakeLease :execrows
INSERT INTO leases (name, owner, until, since)
VALUES (sqlc.arg(name), sqlc.arg(owner), sqlc.arg(until), sqlc.arg(now))
ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, until = excluded.until,
    since = CASE WHEN leases.until < CAST(sqlc.arg(broken) AS BIGINT) THEN excluded.since ELSE leases.since END
WHERE leases.owner = excluded.owner OR leases.until < CAST(sqlc.arg(now) AS BIGINT);

-- name: Lease :one
SELECT * FROM leases WHERE name = sqlc.arg(name);

-- name: LeaveLease :exec
UPDATE leases SET until = sqlc.arg(until) WHERE name = sqlc.arg(name) AND owner = sqlc.arg(owner);

-- name: SeenSince :many
SELECT machine, seen FROM machine_seen WHERE seen >= sqlc.arg(since);

-- name: SightingsOf :many
SELECT seq, machine, received, kind, state, body FROM reports
WHERE patch = sqlc.arg(patch) AND (received > sqlc.arg(received) OR (received = sqlc.arg(received) AND seq > sqlc.arg(after)))
  AND (kind IN ('crash', 'health') OR state IN ('loading', 'blocked', 'waiting'))
ORDER BY received, seq
LIMIT sqlc.arg(row_limit);
