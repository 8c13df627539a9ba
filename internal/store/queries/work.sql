-- SPDX-License-Identifier: Apache-2.0

-- name: InsertReport :execrows
INSERT INTO reports (seq, machine, id, time, received, kind, patch, state, body)
VALUES (sqlc.arg(seq), sqlc.arg(machine), sqlc.arg(id), sqlc.arg(time), sqlc.arg(received), sqlc.arg(kind),
    sqlc.arg(patch), sqlc.arg(state), sqlc.arg(body))
ON CONFLICT (machine, id) DO NOTHING;

-- Reports, the newest first. SQLite takes an index only for what is always
-- asked, so there is one question for each index.
-- name: Reports :many
SELECT * FROM reports
WHERE (CAST(sqlc.arg(newest) AS BOOLEAN) OR seq < sqlc.arg(before))
  AND (CAST(sqlc.arg(any_state) AS BOOLEAN) OR state = sqlc.arg(state))
ORDER BY seq DESC
LIMIT sqlc.arg(row_limit);

-- name: ReportsOfKind :many
SELECT * FROM reports
WHERE kind = sqlc.arg(kind)
  AND (CAST(sqlc.arg(newest) AS BOOLEAN) OR seq < sqlc.arg(before))
  AND (CAST(sqlc.arg(any_state) AS BOOLEAN) OR state = sqlc.arg(state))
ORDER BY seq DESC
LIMIT sqlc.arg(row_limit);

-- name: ReportsOfPatch :many
SELECT * FROM reports
WHERE patch = sqlc.arg(patch)
  AND (CAST(sqlc.arg(newest) AS BOOLEAN) OR seq < sqlc.arg(before))
  AND (CAST(sqlc.arg(any_kind) AS BOOLEAN) OR kind = sqlc.arg(kind))
  AND (CAST(sqlc.arg(any_state) AS BOOLEAN) OR state = sqlc.arg(state))
ORDER BY seq DESC
LIMIT sqlc.arg(row_limit);

-- name: ReportsOfMachine :many
SELECT * FROM reports
WHERE machine = sqlc.arg(machine)
  AND (CAST(sqlc.arg(newest) AS BOOLEAN) OR seq < sqlc.arg(before))
  AND (CAST(sqlc.arg(any_patch) AS BOOLEAN) OR patch = sqlc.arg(patch))
  AND (CAST(sqlc.arg(any_kind) AS BOOLEAN) OR kind = sqlc.arg(kind))
  AND (CAST(sqlc.arg(any_state) AS BOOLEAN) OR state = sqlc.arg(state))
ORDER BY seq DESC
LIMIT sqlc.arg(row_limit);

-- name: PruneReports :execrows
DELETE FROM reports WHERE received < sqlc.arg(before);

-- name: InsertJob :exec
INSERT INTO jobs (id, kind, target, title, spec, state, stage, attempt, max_attempts, worker, leased_until, cancel,
    created, created_by, started, ended, verdict, problem, patch, artifact, selection, version, omitted)
VALUES (sqlc.arg(id), sqlc.arg(kind), sqlc.arg(target), sqlc.arg(title), sqlc.arg(spec), 'queued', '', 0,
    sqlc.arg(max_attempts), '', 0, FALSE, sqlc.arg(created), sqlc.arg(created_by), 0, 0, '', '', '', '',
    sqlc.arg(selection), 0, '');

-- name: Job :one
SELECT * FROM jobs WHERE id = sqlc.arg(id);

-- name: Jobs :many
SELECT * FROM jobs
WHERE (CAST(sqlc.arg(newest) AS BOOLEAN) OR id < sqlc.arg(before))
  AND (CAST(sqlc.arg(any_state) AS BOOLEAN) OR state = sqlc.arg(state))
  AND (CAST(sqlc.arg(any_target) AS BOOLEAN) OR target = sqlc.arg(target))
ORDER BY id DESC
LIMIT sqlc.arg(row_limit);

-- name: CountJobs :many
SELECT state, count(*) AS jobs FROM jobs GROUP BY state ORDER BY state;

-- Jobs that a worker may have, and those that lost their last worker: the
-- caller tells them apart.
-- name: WaitingJobs :many
SELECT id, kind, attempt, max_attempts, cancel FROM jobs
WHERE state = 'queued' OR (state = 'running' AND leased_until <= sqlc.arg(now))
ORDER BY created, id
LIMIT sqlc.arg(row_limit);

-- name: LeaseJob :one
UPDATE jobs SET state = 'running', worker = sqlc.arg(worker), leased_until = sqlc.arg(until), attempt = attempt + 1,
    stage = '', started = CASE WHEN started = 0 THEN sqlc.arg(now) ELSE started END
WHERE id = sqlc.arg(id) AND (state = 'queued' OR (state = 'running' AND leased_until <= sqlc.arg(now)))
  AND attempt < max_attempts AND NOT cancel
RETURNING *;

-- name: JobOfSelection :one
SELECT * FROM jobs WHERE target = sqlc.arg(target) AND selection = sqlc.arg(selection)
ORDER BY created DESC, id DESC LIMIT 1;

-- name: SetJobVersion :execrows
UPDATE jobs SET version = sqlc.arg(version) WHERE id = sqlc.arg(id) AND worker = sqlc.arg(worker) AND state = 'running';

-- name: GiveUpJob :execrows
UPDATE jobs SET state = sqlc.arg(state), ended = sqlc.arg(now), problem = sqlc.arg(problem), leased_until = 0
WHERE id = sqlc.arg(id) AND state = 'running' AND leased_until <= sqlc.arg(now);

-- name: HeartbeatJob :one
UPDATE jobs SET leased_until = sqlc.arg(until)
WHERE id = sqlc.arg(id) AND worker = sqlc.arg(worker) AND state = 'running'
RETURNING cancel;

-- name: StageJob :execrows
UPDATE jobs SET stage = sqlc.arg(stage)
WHERE id = sqlc.arg(id) AND worker = sqlc.arg(worker) AND state = 'running';

-- name: FinishJob :execrows
UPDATE jobs SET state = sqlc.arg(state), ended = sqlc.arg(ended), verdict = sqlc.arg(verdict), problem = sqlc.arg(problem),
    patch = sqlc.arg(patch), artifact = sqlc.arg(artifact), omitted = sqlc.arg(omitted), leased_until = 0
WHERE id = sqlc.arg(id) AND worker = sqlc.arg(worker) AND state = 'running';

-- name: ReleaseJob :execrows
UPDATE jobs SET state = 'queued', worker = '', leased_until = 0, attempt = attempt - 1, stage = ''
WHERE id = sqlc.arg(id) AND worker = sqlc.arg(worker) AND state = 'running';

-- name: CancelQueuedJob :execrows
UPDATE jobs SET state = 'cancelled', cancel = TRUE, ended = sqlc.arg(ended) WHERE id = sqlc.arg(id) AND state = 'queued';

-- name: CancelRunningJob :execrows
UPDATE jobs SET cancel = TRUE WHERE id = sqlc.arg(id) AND state = 'running';

-- name: InsertLog :exec
INSERT INTO job_logs (job, position, time, text) VALUES (sqlc.arg(job), sqlc.arg(position), sqlc.arg(time), sqlc.arg(text))
ON CONFLICT (job, position) DO NOTHING;

-- name: Log :many
SELECT * FROM job_logs WHERE job = sqlc.arg(job) AND position > sqlc.arg(after) ORDER BY position LIMIT sqlc.arg(row_limit);
