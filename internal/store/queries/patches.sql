-- SPDX-License-Identifier: Apache-2.0

-- name: InsertLivePatch :exec
INSERT INTO livepatches (id, name, version, target, kernel, build_id, arch, digest, size, cipher_digest, cipher_size,
    sealed_key, manifest, cves, fixes, proof_digest, provenance_digest, proven, signed, created, created_by,
    blocked, reason, recall, selection)
VALUES (sqlc.arg(id), sqlc.arg(name), sqlc.arg(version), sqlc.arg(target), sqlc.arg(kernel), sqlc.arg(build_id),
    sqlc.arg(arch), sqlc.arg(digest), sqlc.arg(size), sqlc.arg(cipher_digest), sqlc.arg(cipher_size), sqlc.arg(sealed_key),
    sqlc.arg(manifest), sqlc.arg(cves), sqlc.arg(fixes), sqlc.arg(proof_digest), sqlc.arg(provenance_digest),
    sqlc.arg(proven), sqlc.arg(signed), sqlc.arg(created), sqlc.arg(created_by), 0, '', FALSE,
    sqlc.arg(selection));

-- name: LivePatch :one
SELECT * FROM livepatches WHERE id = sqlc.arg(id);

-- name: LivePatches :many
SELECT * FROM livepatches
WHERE (CAST(sqlc.arg(newest) AS BOOLEAN) OR livepatches.created < sqlc.arg(before)
    OR (livepatches.created = sqlc.arg(before) AND livepatches.id < sqlc.arg(before_id)))
  AND (CAST(sqlc.arg(any_target) AS BOOLEAN) OR livepatches.target = sqlc.arg(target))
  AND (CAST(sqlc.arg(any_build_id) AS BOOLEAN) OR livepatches.build_id = sqlc.arg(build_id))
  AND (CAST(sqlc.arg(any_tier) AS BOOLEAN) OR EXISTS (SELECT 1 FROM publications
    WHERE publications.livepatch = livepatches.id AND publications.tier = sqlc.arg(tier)))
  AND (CAST(sqlc.arg(any_cve) AS BOOLEAN) OR livepatches.cves LIKE CAST(sqlc.arg(cve) AS TEXT) ESCAPE '\')
ORDER BY livepatches.created DESC, livepatches.id DESC
LIMIT sqlc.arg(row_limit);

-- name: LivePatchHeads :many
SELECT id, name, version, target, kernel, build_id, arch, digest, size, cipher_digest, cipher_size, cves, fixes, proof_digest,
    provenance_digest, proven, signed, created, created_by, blocked, reason, recall, selection FROM livepatches
WHERE (CAST(sqlc.arg(newest) AS BOOLEAN) OR livepatches.created < sqlc.arg(before)
    OR (livepatches.created = sqlc.arg(before) AND livepatches.id < sqlc.arg(before_id)))
  AND (CAST(sqlc.arg(any_target) AS BOOLEAN) OR livepatches.target = sqlc.arg(target))
  AND (CAST(sqlc.arg(any_build_id) AS BOOLEAN) OR livepatches.build_id = sqlc.arg(build_id))
  AND (CAST(sqlc.arg(any_tier) AS BOOLEAN) OR EXISTS (SELECT 1 FROM publications
    WHERE publications.livepatch = livepatches.id AND publications.tier = sqlc.arg(tier)))
  AND (CAST(sqlc.arg(any_cve) AS BOOLEAN) OR livepatches.cves LIKE CAST(sqlc.arg(cve) AS TEXT) ESCAPE '\')
ORDER BY livepatches.created DESC, livepatches.id DESC
LIMIT sqlc.arg(row_limit);

-- name: PublishedFor :many
SELECT livepatches.* FROM livepatches
JOIN publications ON publications.livepatch = livepatches.id
WHERE publications.tier = sqlc.arg(tier) AND livepatches.build_id = sqlc.arg(build_id)
  AND (CAST(sqlc.arg(any_policy) AS BOOLEAN) OR EXISTS (SELECT 1 FROM lines
    WHERE lines.livepatch = livepatches.id AND lines.policy = sqlc.arg(policy)))
ORDER BY livepatches.version;

-- name: TiersOf :many
SELECT publications.tier FROM publications
JOIN tiers ON tiers.name = publications.tier
WHERE publications.livepatch = sqlc.arg(livepatch)
ORDER BY tiers.position;

-- name: LatestVersion :one
SELECT CAST(coalesce(max(version), 0) AS BIGINT) FROM livepatches WHERE target = sqlc.arg(target);

-- name: InsertPublication :execrows
INSERT INTO publications (livepatch, tier, published) VALUES (sqlc.arg(livepatch), sqlc.arg(tier), sqlc.arg(published))
ON CONFLICT (livepatch, tier) DO NOTHING;

-- name: Publications :many
SELECT publications.* FROM publications
JOIN tiers ON tiers.name = publications.tier
WHERE (CAST(sqlc.arg(any_livepatch) AS BOOLEAN) OR publications.livepatch = sqlc.arg(livepatch))
  AND (CAST(sqlc.arg(any_tier) AS BOOLEAN) OR publications.tier = sqlc.arg(tier))
ORDER BY publications.published, publications.livepatch, tiers.position;

-- name: BlockLivePatch :execrows
UPDATE livepatches SET blocked = sqlc.arg(blocked), reason = sqlc.arg(reason), recall = sqlc.arg(recall)
WHERE id = sqlc.arg(id);

-- name: DrawSequence :one
INSERT INTO indexes (tier, build_id, policy, sequence, revert)
VALUES (sqlc.arg(tier), sqlc.arg(build_id), sqlc.arg(policy), 1, '')
ON CONFLICT (tier, build_id, policy) DO UPDATE SET sequence = indexes.sequence + 1
RETURNING sequence;

-- name: SaveRevert :exec
INSERT INTO indexes (tier, build_id, policy, sequence, revert)
VALUES (sqlc.arg(tier), sqlc.arg(build_id), sqlc.arg(policy), 0, sqlc.arg(revert))
ON CONFLICT (tier, build_id, policy) DO UPDATE SET revert = excluded.revert;

-- name: Indexes :many
SELECT * FROM indexes ORDER BY tier, build_id, policy;

-- name: Index :one
SELECT * FROM indexes
WHERE tier = sqlc.arg(tier) AND build_id = sqlc.arg(build_id) AND policy = sqlc.arg(policy);

-- name: DeleteIndexes :exec
DELETE FROM indexes WHERE tier = sqlc.arg(tier);

-- name: SaveTUFFile :exec
INSERT INTO tuf_files (role, version, name, body, generation, created)
VALUES (sqlc.arg(role), sqlc.arg(version), sqlc.arg(name), sqlc.arg(body), sqlc.arg(generation), sqlc.arg(created))
ON CONFLICT (role, version) DO UPDATE SET name = excluded.name, body = excluded.body,
    generation = excluded.generation, created = excluded.created;

-- name: PruneTUFFiles :exec
DELETE FROM tuf_files WHERE role = sqlc.arg(role) AND version < sqlc.arg(version) AND role <> 'root';

-- name: TUFFiles :many
SELECT * FROM tuf_files ORDER BY role, version;

-- name: DeleteTUFRole :exec
DELETE FROM tuf_files WHERE role = sqlc.arg(role);

-- name: AddToCounter :execrows
UPDATE counters SET value = value + 1 WHERE name = sqlc.arg(name) AND value = sqlc.arg(expected);

-- name: PatchedTargets :many
SELECT target, kernel, count(*) AS patches, CAST(max(CASE WHEN blocked = 0 THEN version ELSE 0 END) AS BIGINT) AS newest FROM livepatches GROUP BY target, kernel ORDER BY target, kernel;

