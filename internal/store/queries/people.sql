-- SPDX-License-Identifier: Apache-2.0

-- name: InsertUser :exec
INSERT INTO users (id, name, display, email, grants, settings, password, password_set, totp, totp_step, failures,
    locked_until, created, created_by, disabled, last_seen)
VALUES (sqlc.arg(id), sqlc.arg(name), sqlc.arg(display), sqlc.arg(email), sqlc.arg(grants), sqlc.arg(settings), '', 0,
    sqlc.arg(totp), 0, 0, 0, sqlc.arg(created), sqlc.arg(created_by), 0, 0);

-- name: User :one
SELECT * FROM users WHERE id = sqlc.arg(id);

-- name: UserByName :one
SELECT * FROM users WHERE name = sqlc.arg(name);

-- name: Users :many
SELECT * FROM users ORDER BY name;

-- name: UpdateUser :execrows
UPDATE users SET display = sqlc.arg(display), email = sqlc.arg(email), grants = sqlc.arg(grants),
    settings = sqlc.arg(settings), disabled = sqlc.arg(disabled)
WHERE id = sqlc.arg(id);

-- name: SetPassword :execrows
UPDATE users SET password = sqlc.arg(password), password_set = sqlc.arg(password_set) WHERE id = sqlc.arg(id);

-- name: RehashPassword :execrows
UPDATE users SET password = sqlc.arg(password) WHERE id = sqlc.arg(id) AND password = sqlc.arg(old);

-- name: SetTOTP :execrows
UPDATE users SET totp = sqlc.arg(totp), totp_step = sqlc.arg(totp_step) WHERE id = sqlc.arg(id);

-- name: UseTOTP :execrows
UPDATE users SET totp_step = sqlc.arg(totp_step) WHERE id = sqlc.arg(id) AND totp_step < sqlc.arg(totp_step);

-- name: CountFailure :one
UPDATE users SET failures = failures + 1 WHERE id = sqlc.arg(id) AND locked_until <= sqlc.arg(now) RETURNING failures;

-- name: TakeBackAttempt :exec
UPDATE users SET failures = failures - 1, locked_until = 0 WHERE id = sqlc.arg(id) AND failures = sqlc.arg(attempts) AND failures > 0;

-- name: LockUser :exec
UPDATE users SET locked_until = sqlc.arg(locked_until) WHERE id = sqlc.arg(id);

-- name: UnlockUser :execrows
UPDATE users SET failures = 0, locked_until = 0 WHERE id = sqlc.arg(id);

-- name: UserSeen :exec
UPDATE users SET last_seen = sqlc.arg(last_seen) WHERE id = sqlc.arg(id);

-- name: InsertIdentity :exec
INSERT INTO identities (issuer, subject, person, created)
VALUES (sqlc.arg(issuer), sqlc.arg(subject), sqlc.arg(person), sqlc.arg(created));

-- name: Identity :one
SELECT * FROM identities WHERE issuer = sqlc.arg(issuer) AND subject = sqlc.arg(subject);

-- name: Identities :many
SELECT * FROM identities WHERE person = sqlc.arg(person) ORDER BY issuer, subject;

-- name: DeleteIdentities :exec
DELETE FROM identities WHERE person = sqlc.arg(person);

-- name: InsertPasskey :exec
INSERT INTO passkeys (id, person, name, body, created, last_used)
VALUES (sqlc.arg(id), sqlc.arg(person), sqlc.arg(name), sqlc.arg(body), sqlc.arg(created), 0);

-- name: Passkeys :many
SELECT * FROM passkeys WHERE person = sqlc.arg(person) ORDER BY created, id;

-- name: UsePasskey :execrows
UPDATE passkeys SET body = sqlc.arg(body), last_used = sqlc.arg(last_used) WHERE id = sqlc.arg(id) AND person = sqlc.arg(person);

-- name: DeletePasskey :execrows
DELETE FROM passkeys WHERE id = sqlc.arg(id) AND person = sqlc.arg(person);

-- name: DeletePasskeys :execrows
DELETE FROM passkeys WHERE person = sqlc.arg(person);

-- name: InsertRecoveryCode :exec
INSERT INTO recovery_codes (person, hash, used) VALUES (sqlc.arg(person), sqlc.arg(hash), 0);

-- name: UseRecoveryCode :execrows
UPDATE recovery_codes SET used = sqlc.arg(used) WHERE person = sqlc.arg(person) AND hash = sqlc.arg(hash) AND used = 0;

-- name: CountRecoveryCodes :one
SELECT count(*) FROM recovery_codes WHERE person = sqlc.arg(person) AND used = 0;

-- name: DeleteRecoveryCodes :execrows
DELETE FROM recovery_codes WHERE person = sqlc.arg(person);

-- name: InsertSession :exec
INSERT INTO sessions (id, hash, person, method, address, agent, created, proven, last_used, expires)
VALUES (sqlc.arg(id), sqlc.arg(hash), sqlc.arg(person), sqlc.arg(method), sqlc.arg(address), sqlc.arg(agent),
    sqlc.arg(created), sqlc.arg(proven), sqlc.arg(created), sqlc.arg(expires));

-- name: SessionByHash :one
SELECT * FROM sessions WHERE hash = sqlc.arg(hash);

-- name: CountSession :one
SELECT count(*) FROM sessions WHERE id = sqlc.arg(id) AND person = sqlc.arg(person);

-- name: Sessions :many
SELECT * FROM sessions
WHERE (CAST(sqlc.arg(anyone) AS BOOLEAN) OR person = sqlc.arg(person)) AND expires > sqlc.arg(now) AND last_used > sqlc.arg(used_after)
ORDER BY last_used DESC, id
LIMIT sqlc.arg(row_limit);

-- name: UseSession :exec
UPDATE sessions SET last_used = sqlc.arg(last_used), address = sqlc.arg(address) WHERE id = sqlc.arg(id) AND last_used < sqlc.arg(last_used);

-- name: ProveSession :execrows
UPDATE sessions SET proven = sqlc.arg(proven) WHERE id = sqlc.arg(id);

-- name: EndSession :execrows
DELETE FROM sessions WHERE id = sqlc.arg(id) AND (CAST(sqlc.arg(anyone) AS BOOLEAN) OR person = sqlc.arg(person));

-- name: EndSessions :execrows
DELETE FROM sessions WHERE person = sqlc.arg(person) AND id <> sqlc.arg(but);

-- name: PruneSessions :execrows
DELETE FROM sessions WHERE expires <= sqlc.arg(now) OR last_used <= sqlc.arg(used_before);

-- name: InsertLink :exec
INSERT INTO links (id, hash, person, purpose, created, created_by, expires, used)
VALUES (sqlc.arg(id), sqlc.arg(hash), sqlc.arg(person), sqlc.arg(purpose), sqlc.arg(created), sqlc.arg(created_by), sqlc.arg(expires), 0);

-- name: LinkByHash :one
SELECT * FROM links WHERE hash = sqlc.arg(hash);

-- name: UseLink :execrows
UPDATE links SET used = sqlc.arg(used) WHERE hash = sqlc.arg(hash) AND used = 0 AND expires > sqlc.arg(used);

-- name: DeleteLinks :execrows
DELETE FROM links WHERE person = sqlc.arg(person) AND used = 0;

-- name: PruneLinks :execrows
DELETE FROM links WHERE expires <= sqlc.arg(before);

-- name: InsertCeremony :exec
INSERT INTO ceremonies (id, kind, person, body, expires)
VALUES (sqlc.arg(id), sqlc.arg(kind), sqlc.arg(person), sqlc.arg(body), sqlc.arg(expires));

-- name: TakeCeremony :one
DELETE FROM ceremonies WHERE id = sqlc.arg(id) AND kind = sqlc.arg(kind) RETURNING *;

-- name: PruneCeremonies :execrows
DELETE FROM ceremonies WHERE expires <= sqlc.arg(now);

-- name: CountCeremonies :one
SELECT count(*) FROM ceremonies WHERE person = sqlc.arg(person);

-- name: InsertApproval :exec
INSERT INTO approvals (id, action, object, digest, detail, asked, asked_by, expires, decided, decided_by, verdict, used)
VALUES (sqlc.arg(id), sqlc.arg(action), sqlc.arg(object), sqlc.arg(digest), sqlc.arg(detail), sqlc.arg(asked),
    sqlc.arg(asked_by), sqlc.arg(expires), 0, '', '', 0);

-- name: Approval :one
SELECT * FROM approvals WHERE id = sqlc.arg(id);

-- name: Approvals :many
SELECT * FROM approvals
WHERE (CAST(sqlc.arg(newest) AS BOOLEAN) OR id < sqlc.arg(before))
  AND (CAST(sqlc.arg(all_of_them) AS BOOLEAN) OR (verdict = '' AND expires > sqlc.arg(now)))
ORDER BY id DESC
LIMIT sqlc.arg(row_limit);

-- name: DecideApproval :execrows
UPDATE approvals SET decided = sqlc.arg(now), decided_by = sqlc.arg(decided_by), verdict = sqlc.arg(verdict)
WHERE id = sqlc.arg(id) AND verdict = '' AND expires > sqlc.arg(now);

-- name: UseApproval :execrows
UPDATE approvals SET used = sqlc.arg(now)
WHERE id = sqlc.arg(id) AND action = sqlc.arg(action) AND object = sqlc.arg(object) AND digest = sqlc.arg(digest)
  AND verdict = 'given' AND used = 0 AND expires > sqlc.arg(now);

-- name: InsertKey :exec
INSERT INTO operators (id, name, kind, hash, created, revoked, last_used, person, grants, scopes, expires)
VALUES (sqlc.arg(id), sqlc.arg(name), sqlc.arg(kind), sqlc.arg(hash), sqlc.arg(created), 0, 0,
    sqlc.arg(person), sqlc.arg(grants), sqlc.arg(scopes), sqlc.arg(expires));

-- name: KeysOf :many
SELECT * FROM operators WHERE person = sqlc.arg(person) ORDER BY id;

-- name: RevokeKeyOf :execrows
UPDATE operators SET revoked = sqlc.arg(revoked) WHERE id = sqlc.arg(id) AND person = sqlc.arg(person) AND revoked = 0;

-- name: InsertAudit :exec
INSERT INTO audit (id, time, actor, action, object, detail, seq, hash)
VALUES (sqlc.arg(id), sqlc.arg(time), sqlc.arg(actor), sqlc.arg(action), sqlc.arg(object), sqlc.arg(detail),
    sqlc.arg(seq), sqlc.arg(hash));

-- name: AuditHash :one
SELECT hash FROM audit WHERE seq = sqlc.arg(seq) AND seq > 0;

-- name: AuditChain :many
SELECT * FROM audit WHERE seq > sqlc.arg(after) ORDER BY seq LIMIT sqlc.arg(row_limit);

-- name: UnchainedAudit :many
SELECT * FROM audit WHERE seq = 0 ORDER BY id LIMIT sqlc.arg(row_limit);

-- name: ChainAudit :exec
UPDATE audit SET seq = sqlc.arg(seq), hash = sqlc.arg(hash) WHERE id = sqlc.arg(id);

-- name: CountUnchainedAudit :one
SELECT count(*) FROM audit WHERE seq = 0;

-- name: CountLinksBy :one
SELECT count(*) FROM links
WHERE person = sqlc.arg(person) AND created > sqlc.arg(since)
  AND (created_by = sqlc.arg(created_by) OR substr(created_by, 1, length(CAST(sqlc.arg(by_key) AS TEXT))) = CAST(sqlc.arg(by_key) AS TEXT));
