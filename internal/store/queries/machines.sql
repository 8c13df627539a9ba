-- SPDX-License-Identifier: Apache-2.0

-- name: InsertMachine :exec
INSERT INTO machines (id, machine_id, credential, recipient, hostname, tier, machine_group, token, os, agent,
    kernel, build_id, arch, patch, patch_version, patch_state, able, hold, cloned, facts, enrolled, booted, gone)
VALUES (sqlc.arg(id), sqlc.arg(machine_id), sqlc.arg(credential), sqlc.arg(recipient), sqlc.arg(hostname), sqlc.arg(tier),
    sqlc.arg(machine_group), sqlc.arg(token), sqlc.arg(os), sqlc.arg(agent), sqlc.arg(kernel), sqlc.arg(build_id),
    sqlc.arg(arch), '', 0, '', FALSE, FALSE, FALSE, '', sqlc.arg(enrolled), 0, 0);

-- name: InsertSeen :exec
INSERT INTO machine_seen (machine, seen) VALUES (sqlc.arg(machine), sqlc.arg(seen))
ON CONFLICT (machine) DO NOTHING;

-- name: ReenrollMachine :exec
UPDATE machines SET credential = sqlc.arg(credential), recipient = sqlc.arg(recipient), hostname = sqlc.arg(hostname),
    token = sqlc.arg(token), os = sqlc.arg(os), agent = sqlc.arg(agent), kernel = sqlc.arg(kernel),
    build_id = sqlc.arg(build_id), arch = sqlc.arg(arch), enrolled = sqlc.arg(enrolled)
WHERE id = sqlc.arg(id);

-- name: MachineByID :one
SELECT sqlc.embed(machines), machine_seen.seen, machine_seen.silences FROM machines
JOIN machine_seen ON machine_seen.machine = machines.id
WHERE machines.id = sqlc.arg(id);

-- name: MachinesByIDs :many
-- The ids stand one after the other in one text, each filled up with blanks to a width: no list of arguments
-- is the same to both engines.
WITH RECURSIVE asked (n) AS (
    SELECT 0 UNION ALL SELECT n + 1 FROM asked WHERE n + 1 < CAST(sqlc.arg(asked_for) AS INTEGER)
)
SELECT sqlc.embed(machines), machine_seen.seen, machine_seen.silences FROM asked
CROSS JOIN machines
CROSS JOIN machine_seen
WHERE machines.id = rtrim(substr(CAST(sqlc.arg(ids) AS TEXT), asked.n * CAST(sqlc.arg(width) AS INTEGER) + 1, CAST(sqlc.arg(width) AS INTEGER)))
  AND machine_seen.machine = machines.id;

-- name: MachineByCredential :one
SELECT sqlc.embed(machines), machine_seen.seen, machine_seen.silences FROM machines
JOIN machine_seen ON machine_seen.machine = machines.id
WHERE machines.credential = sqlc.arg(credential) AND machines.gone = 0;

-- name: MachinesByMachineID :many
SELECT id FROM machines
WHERE machine_id = sqlc.arg(machine_id) AND token = sqlc.arg(token) AND gone = 0;

-- name: AllMachines :many
SELECT sqlc.embed(machines), machine_seen.seen, machine_seen.silences FROM machines
JOIN machine_seen ON machine_seen.machine = machines.id
WHERE machines.id > sqlc.arg(after)
ORDER BY machines.id
LIMIT sqlc.arg(row_limit);

-- name: Machines :many
SELECT sqlc.embed(machines), machine_seen.seen, machine_seen.silences FROM machines
JOIN machine_seen ON machine_seen.machine = machines.id
WHERE machines.id > sqlc.arg(after)
  AND (CAST(sqlc.arg(any_tier) AS BOOLEAN) OR machines.tier = sqlc.arg(tier))
  AND (CAST(sqlc.arg(any_group) AS BOOLEAN) OR machines.machine_group = sqlc.arg(machine_group))
  AND (CAST(sqlc.arg(any_build_id) AS BOOLEAN) OR machines.build_id = sqlc.arg(build_id))
  AND (CAST(sqlc.arg(any_patch) AS BOOLEAN) OR machines.patch = sqlc.arg(patch))
  AND (CAST(sqlc.arg(any_state) AS BOOLEAN) OR machines.patch_state = sqlc.arg(patch_state))
  AND (CAST(sqlc.arg(gone_too) AS BOOLEAN) OR machines.gone = 0)
  AND (CAST(sqlc.arg(any_text) AS BOOLEAN)
    OR lower(machines.hostname) LIKE CAST(sqlc.arg(contains) AS TEXT) ESCAPE '\'
    OR lower(machines.kernel) LIKE CAST(sqlc.arg(contains) AS TEXT) ESCAPE '\'
    OR machines.id LIKE CAST(sqlc.arg(starts) AS TEXT) ESCAPE '\')
ORDER BY machines.id
LIMIT sqlc.arg(row_limit);

-- name: UpdateMachine :execrows
UPDATE machines SET tier = sqlc.arg(tier), machine_group = sqlc.arg(machine_group), hold = sqlc.arg(hold),
    cloned = sqlc.arg(cloned)
WHERE id = sqlc.arg(id);

-- name: DecommissionMachine :execrows
UPDATE machines SET gone = sqlc.arg(gone), credential = sqlc.arg(credential) WHERE id = sqlc.arg(id) AND gone = 0;

-- name: TouchMachine :exec
UPDATE machine_seen SET
    silences = silences + CASE WHEN seen >= CAST(sqlc.arg(listening) AS BIGINT) AND seen < CAST(sqlc.arg(silent) AS BIGINT) THEN 1 ELSE 0 END,
    seen = sqlc.arg(seen)
WHERE machine = sqlc.arg(machine) AND seen < sqlc.arg(seen);

-- name: SaveCheckIn :execrows
UPDATE machines SET
    hostname = CASE WHEN CAST(sqlc.arg(hostname) AS TEXT) = '' THEN hostname ELSE sqlc.arg(hostname) END,
    os = CASE WHEN CAST(sqlc.arg(os) AS TEXT) = '' THEN os ELSE sqlc.arg(os) END,
    cloned = (cloned OR CAST(sqlc.arg(cloned) AS BOOLEAN)),
    agent = sqlc.arg(agent), kernel = sqlc.arg(kernel), build_id = sqlc.arg(build_id), arch = sqlc.arg(arch),
    patch = sqlc.arg(patch), patch_version = sqlc.arg(patch_version), patch_state = sqlc.arg(patch_state),
    able = sqlc.arg(able), booted = sqlc.arg(booted), boots = boots + sqlc.arg(boots), facts = sqlc.arg(facts)
WHERE id = sqlc.arg(id) AND gone = 0;

-- name: CountMachines :many
SELECT tier, CAST(sum(CASE WHEN gone = 0 THEN 1 ELSE 0 END) AS BIGINT) AS live,
    CAST(sum(CASE WHEN gone = 0 THEN 0 ELSE 1 END) AS BIGINT) AS gone
FROM machines GROUP BY tier ORDER BY tier;

-- name: CountLiveMachines :one
SELECT count(*) FROM machines WHERE gone = 0;
