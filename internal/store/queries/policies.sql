-- SPDX-License-Identifier: Apache-2.0

-- name: Policies :many
SELECT * FROM policies ORDER BY name;

-- name: Policy :one
SELECT * FROM policies WHERE name = sqlc.arg(name);

-- name: SavePolicy :exec
INSERT INTO policies (name, body, created, changed, changed_by)
VALUES (sqlc.arg(name), sqlc.arg(body), sqlc.arg(changed), sqlc.arg(changed), sqlc.arg(changed_by))
ON CONFLICT (name) DO UPDATE SET body = excluded.body, changed = excluded.changed, changed_by = excluded.changed_by;

-- name: DeletePolicy :execrows
DELETE FROM policies WHERE name = sqlc.arg(name);

-- name: PolicyGroups :many
SELECT * FROM policy_groups ORDER BY machine_group;

-- name: SavePolicyGroup :exec
INSERT INTO policy_groups (machine_group, policy) VALUES (sqlc.arg(machine_group), sqlc.arg(policy))
ON CONFLICT (machine_group) DO UPDATE SET policy = excluded.policy;

-- name: DeletePolicyGroup :execrows
DELETE FROM policy_groups WHERE machine_group = sqlc.arg(machine_group);

-- name: Updates :many
SELECT * FROM updates
WHERE (CAST(sqlc.arg(any_target) AS BOOLEAN) OR target = sqlc.arg(target))
ORDER BY target, position;

-- name: SaveUpdate :exec
INSERT INTO updates (target, name, position, extra, digest, size, summary, created, created_by)
VALUES (sqlc.arg(target), sqlc.arg(name),
    (SELECT CAST(coalesce(max(u.position), 0) + 1 AS BIGINT) FROM updates AS u WHERE u.target = sqlc.arg(target)),
    sqlc.arg(extra), sqlc.arg(digest), sqlc.arg(size), sqlc.arg(summary), sqlc.arg(created), sqlc.arg(created_by))
ON CONFLICT (target, name) DO UPDATE SET extra = excluded.extra, digest = excluded.digest, size = excluded.size,
    summary = excluded.summary, created = excluded.created, created_by = excluded.created_by;

-- name: DeleteUpdate :execrows
DELETE FROM updates WHERE target = sqlc.arg(target) AND name = sqlc.arg(name);

-- name: Choices :many
SELECT * FROM choices ORDER BY target, policy;

-- name: SaveChoice :exec
INSERT INTO choices (policy, target, selection, body, changed)
VALUES (sqlc.arg(policy), sqlc.arg(target), sqlc.arg(selection), sqlc.arg(body), sqlc.arg(changed))
ON CONFLICT (policy, target) DO UPDATE SET selection = excluded.selection, body = excluded.body, changed = excluded.changed;

-- name: DeleteChoice :exec
DELETE FROM choices WHERE policy = sqlc.arg(policy) AND target = sqlc.arg(target);

-- name: ChoosersOf :many
SELECT policy FROM choices WHERE target = sqlc.arg(target) AND selection = sqlc.arg(selection) ORDER BY policy;

-- name: AddToLine :execrows
INSERT INTO lines (livepatch, policy, added) VALUES (sqlc.arg(livepatch), sqlc.arg(policy), sqlc.arg(added))
ON CONFLICT (livepatch, policy) DO NOTHING;

-- name: PoliciesOf :many
SELECT policy FROM lines WHERE livepatch = sqlc.arg(livepatch) ORDER BY policy;

-- The newest live patch that a policy's machines of a target may have.
-- name: EndOfLine :one
SELECT livepatches.id, livepatches.version, livepatches.selection FROM livepatches
JOIN lines ON lines.livepatch = livepatches.id
WHERE lines.policy = sqlc.arg(policy) AND livepatches.target = sqlc.arg(target)
ORDER BY livepatches.version DESC LIMIT 1;

-- All that a policy's machines of a target may have or have had, a row for each
-- tier that it is in.
-- name: LineOf :many
SELECT livepatches.id, livepatches.version, livepatches.selection, livepatches.blocked, CAST(coalesce(publications.tier, '') AS TEXT) AS tier
FROM livepatches
JOIN lines ON lines.livepatch = livepatches.id
LEFT JOIN publications ON publications.livepatch = livepatches.id
LEFT JOIN tiers ON tiers.name = publications.tier
WHERE lines.policy = sqlc.arg(policy) AND livepatches.target = sqlc.arg(target)
ORDER BY livepatches.version DESC, tiers.position;

-- name: NewestOfSelection :one
SELECT id, version, blocked FROM livepatches
WHERE target = sqlc.arg(target) AND selection = sqlc.arg(selection)
ORDER BY version DESC LIMIT 1;

-- name: NewestOfTarget :many
SELECT id FROM livepatches WHERE target = sqlc.arg(target)
ORDER BY created DESC, id DESC LIMIT sqlc.arg(row_limit);

-- name: PoliciesIn :many
SELECT DISTINCT lines.policy FROM lines
JOIN livepatches ON livepatches.id = lines.livepatch
JOIN publications ON publications.livepatch = lines.livepatch
WHERE publications.tier = sqlc.arg(tier) AND livepatches.build_id = sqlc.arg(build_id)
ORDER BY lines.policy;

-- name: DrawVersion :one
INSERT INTO versions (target, version) VALUES (sqlc.arg(target), sqlc.arg(least))
ON CONFLICT (target) DO UPDATE SET
    version = CASE WHEN versions.version >= excluded.version THEN versions.version + 1 ELSE excluded.version END
RETURNING version;

-- name: Rebuilds :many
SELECT * FROM rebuilds ORDER BY target, selection;

-- name: AddRebuild :one
INSERT INTO rebuilds (target, selection, times) VALUES (sqlc.arg(target), sqlc.arg(selection), 1)
ON CONFLICT (target, selection) DO UPDATE SET times = rebuilds.times + 1
RETURNING times;
