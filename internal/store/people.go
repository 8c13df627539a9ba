// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"

	"github.com/tsugi-project/tsugi/internal/store/query"
)

// User is a person who may sign in.
type User struct {
	ID          string
	Name        string // what they sign in with
	Display     string
	Email       string
	Grants      string // JSON
	Settings    string // JSON: what the console keeps for them
	Password    string // PHC string; "": none
	PasswordSet int64
	TOTP        []byte // the sealed secret; empty: none
	TOTPStep    int64  // the last one whose code was used
	Failures    int64  // attempts since the last that succeeded
	LockedUntil int64
	Created     int64
	CreatedBy   string
	Disabled    int64
	LastSeen    int64
}

// Identity is whom an OpenID provider knows a user as.
type Identity struct {
	Issuer  string
	Subject string
	Person  string
	Created int64
}

// Passkey is a user's credential of WebAuthn.
type Passkey struct {
	ID       string // base64url of the credential's id
	Person   string
	Name     string
	Body     string // JSON
	Created  int64
	LastUsed int64
}

// CreateUser stores a user; id and time are made here, and it has no password
// and no second factor. ErrConflict if there is one of this name.
func (tx *Tx) CreateUser(ctx context.Context, u User) (User, error) {
	u = User{
		Name: text(u.Name), Display: text(u.Display), Email: text(u.Email), Grants: text(u.Grants), Settings: text(u.Settings),
		Created: tx.now, CreatedBy: text(u.CreatedBy), TOTP: []byte{},
	}
	var err error
	if u.ID, err = id(); err != nil {
		return User{}, err
	}
	tx.changed(KindUser, u.ID)
	return u, named(tx.s.translate(tx.q.InsertUser(ctx, query.InsertUserParams{
		ID: u.ID, Name: u.Name, Display: u.Display, Email: u.Email, Grants: u.Grants, Settings: u.Settings, TOTP: u.TOTP,
		Created: u.Created, CreatedBy: u.CreatedBy,
	})), "user %s", u.Name)
}

// User returns a user by id.
func (r Reader) User(ctx context.Context, id string) (User, error) {
	row, err := r.q.User(ctx, id)
	return User(row), named(r.s.translate(err), "user %s", id)
}

// UserByName returns a user by name.
func (r Reader) UserByName(ctx context.Context, name string) (User, error) {
	row, err := r.q.UserByName(ctx, text(name))
	return User(row), named(r.s.translate(err), "user %s", name)
}

// Users lists all users by name.
func (r Reader) Users(ctx context.Context) ([]User, error) {
	found, err := r.q.Users(ctx)
	all := make([]User, len(found))
	for i, row := range found {
		all[i] = User(row)
	}
	return all, r.s.translate(err)
}

// UpdateUser stores what people decide about a user: what they are called,
// their grants, settings, and whether they are disabled.
func (tx *Tx) UpdateUser(ctx context.Context, u User) error {
	tx.changed(KindUser, u.ID)
	return named(changedOne(tx.q.UpdateUser(ctx, query.UpdateUserParams{
		ID: u.ID, Display: text(u.Display), Email: text(u.Email), Grants: text(u.Grants), Settings: text(u.Settings), Disabled: u.Disabled,
	})), "user %s", u.ID)
}

// SetPassword stores the hash of a user's password; "" takes it away.
func (tx *Tx) SetPassword(ctx context.Context, id, hash string) error {
	return named(changedOne(tx.q.SetPassword(ctx, query.SetPasswordParams{ID: id, Password: hash, PasswordSet: tx.now})), "user %s", id)
}

// RehashPassword stores another hash of the same password, if it is still that.
func (tx *Tx) RehashPassword(ctx context.Context, id, old, hash string) error {
	_, err := tx.q.RehashPassword(ctx, query.RehashPasswordParams{ID: id, Old: old, Password: hash})
	return err
}

// SetTOTP stores the sealed secret of a second factor, and the step of the
// code that confirmed it; nil takes it away.
func (tx *Tx) SetTOTP(ctx context.Context, id string, sealed []byte, step int64) error {
	return named(changedOne(tx.q.SetTOTP(ctx, query.SetTOTPParams{ID: id, TOTP: filled(sealed), TOTPStep: step})), "user %s", id)
}

// UseTOTP marks the code of a step as used. ErrConflict if it, or a later one,
// was before.
func (tx *Tx) UseTOTP(ctx context.Context, id string, step int64) error {
	n, err := tx.q.UseTOTP(ctx, query.UseTOTPParams{ID: id, TOTPStep: step})
	if err == nil && n == 0 {
		err = ErrConflict
	}
	return named(err, "code of user %s", id)
}

// CountAttempt counts an attempt to sign in as a user, before it is known
// whether it succeeds, and returns how many there were since the last that did.
// ErrLimit if the user is locked.
func (tx *Tx) CountAttempt(ctx context.Context, id string) (int64, error) {
	n, err := tx.q.CountFailure(ctx, query.CountFailureParams{ID: id, Now: tx.now})
	if err = tx.s.translate(err); err != nil && tx.exists(ctx, id) {
		err = ErrLimit
	}
	return n, named(err, "user %s", id)
}

func (tx *Tx) exists(ctx context.Context, id string) bool {
	_, err := tx.q.User(ctx, id)
	return err == nil
}

// TakeBackAttempt takes back the attempt that CountAttempt gave a number,
// unless there was another one since: one that neither succeeded nor failed.
func (tx *Tx) TakeBackAttempt(ctx context.Context, id string, attempt int64) error {
	return tx.q.TakeBackAttempt(ctx, query.TakeBackAttemptParams{ID: id, Attempts: attempt})
}

// LockUser lets nobody sign in as a user until a time.
func (tx *Tx) LockUser(ctx context.Context, id string, until int64) error {
	return tx.q.LockUser(ctx, query.LockUserParams{ID: id, LockedUntil: until})
}

// UnlockUser forgets the attempts to sign in as a user.
func (tx *Tx) UnlockUser(ctx context.Context, id string) error {
	return named(changedOne(tx.q.UnlockUser(ctx, id)), "user %s", id)
}

// UserSeen stores when a user was last there.
func (tx *Tx) UserSeen(ctx context.Context, id string) error {
	return tx.q.UserSeen(ctx, query.UserSeenParams{ID: id, LastSeen: tx.now})
}

// AddIdentity stores whom a provider knows a user as. ErrConflict if it knows
// another one as that.
func (tx *Tx) AddIdentity(ctx context.Context, i Identity) error {
	return named(tx.s.translate(tx.q.InsertIdentity(ctx, query.InsertIdentityParams{
		Issuer: text(i.Issuer), Subject: text(i.Subject), Person: i.Person, Created: tx.now,
	})), "identity %s at %s", i.Subject, i.Issuer)
}

// Identity returns the user that a provider knows.
func (r Reader) Identity(ctx context.Context, issuer, subject string) (Identity, error) {
	row, err := r.q.Identity(ctx, query.IdentityParams{Issuer: text(issuer), Subject: text(subject)})
	return Identity(row), named(r.s.translate(err), "identity %s at %s", subject, issuer)
}

// Identities lists whom providers know a user as.
func (r Reader) Identities(ctx context.Context, person string) ([]Identity, error) {
	found, err := r.q.Identities(ctx, person)
	all := make([]Identity, len(found))
	for i, row := range found {
		all[i] = Identity(row)
	}
	return all, r.s.translate(err)
}

// DeleteIdentities forgets whom providers know a user as.
func (tx *Tx) DeleteIdentities(ctx context.Context, person string) error {
	return tx.q.DeleteIdentities(ctx, person)
}

// AddPasskey stores a passkey. ErrConflict if somebody has it.
func (tx *Tx) AddPasskey(ctx context.Context, p Passkey) error {
	return named(tx.s.translate(tx.q.InsertPasskey(ctx, query.InsertPasskeyParams{
		ID: p.ID, Person: p.Person, Name: text(p.Name), Body: text(p.Body), Created: tx.now,
	})), "passkey %s", p.ID)
}

// Passkeys lists a user's passkeys, the oldest first.
func (r Reader) Passkeys(ctx context.Context, person string) ([]Passkey, error) {
	found, err := r.q.Passkeys(ctx, person)
	all := make([]Passkey, len(found))
	for i, row := range found {
		all[i] = Passkey(row)
	}
	return all, r.s.translate(err)
}

// UsePasskey stores what a use changed of a passkey, and when it was.
func (tx *Tx) UsePasskey(ctx context.Context, p Passkey) error {
	return named(changedOne(tx.q.UsePasskey(ctx, query.UsePasskeyParams{ID: p.ID, Person: p.Person, Body: text(p.Body), LastUsed: tx.now})), "passkey %s", p.ID)
}

// DeletePasskey removes a user's passkey.
func (tx *Tx) DeletePasskey(ctx context.Context, person, id string) error {
	return named(changedOne(tx.q.DeletePasskey(ctx, query.DeletePasskeyParams{ID: id, Person: person})), "passkey %s", id)
}

// DeletePasskeys removes all passkeys of a user and returns how many there were.
func (tx *Tx) DeletePasskeys(ctx context.Context, person string) (int64, error) {
	return tx.q.DeletePasskeys(ctx, person)
}

// SetRecoveryCodes puts codes, by their hashes, in the place of those that a
// user has.
func (tx *Tx) SetRecoveryCodes(ctx context.Context, person string, hashes [][]byte) error {
	if _, err := tx.q.DeleteRecoveryCodes(ctx, person); err != nil {
		return err
	}
	for _, h := range hashes {
		if err := tx.q.InsertRecoveryCode(ctx, query.InsertRecoveryCodeParams{Person: person, Hash: h}); err != nil {
			return tx.s.translate(err)
		}
	}
	return nil
}

// UseRecoveryCode uses up a code. ErrNotFound if the user has none of this hash
// that is not used.
func (tx *Tx) UseRecoveryCode(ctx context.Context, person string, hash []byte) error {
	return named(changedOne(tx.q.UseRecoveryCode(ctx, query.UseRecoveryCodeParams{Person: person, Hash: hash, Used: tx.now})), "recovery code")
}

// RecoveryCodes is how many codes a user has left.
func (r Reader) RecoveryCodes(ctx context.Context, person string) (int, error) {
	n, err := r.q.CountRecoveryCodes(ctx, person)
	return int(n), r.s.translate(err)
}
