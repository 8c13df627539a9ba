// SPDX-License-Identifier: Apache-2.0

package people

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/store"
)

// Codes are those of RFC 6238 as every authenticator makes them: HMAC-SHA-1, 30
// seconds, six digits.
const (
	totpStep    = 30 // seconds
	totpDigits  = 1_000_000
	totpSecret  = 20 // bytes, as long as the hash (RFC 4226, section 4)
	totpKind    = "totp"
	totpTime    = 10 * time.Minute // to confirm one
	recoveryNum = 10
)

// totp is the code of a time step (RFC 4226, section 5.3).
func totp(secret []byte, step int64) string {
	h := hmac.New(sha1.New, secret)
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(step))
	h.Write(b[:])
	sum := h.Sum(nil)
	at := sum[len(sum)-1] & 0xf
	return fmt.Sprintf("%06d", (binary.BigEndian.Uint32(sum[at:])&0x7fffffff)%totpDigits)
}

// totpStepOf finds the step whose code this is: the present one, or one beside
// it, for clocks are never the same.
func totpStepOf(secret []byte, typed string, now time.Time) (int64, bool) {
	present := now.Unix() / totpStep
	found, ok := int64(0), false
	for _, step := range []int64{present, present - 1, present + 1} {
		if subtle.ConstantTimeCompare([]byte(totp(secret, step)), []byte(typed)) == 1 && !ok {
			found, ok = step, true
		}
	}
	return found, ok
}

// typed is a code without what people put between its parts.
func typed(s string) string {
	return strings.Map(func(r rune) rune {
		if r == ' ' || r == '-' || r == '\u00a0' || r == '\u3000' {
			return -1
		}
		if r >= '０' && r <= '９' { // as a Japanese keyboard gives them
			return r - '０' + '0'
		}
		return r
	}, strings.ToLower(s))
}

// factor checks the second factor of a user and uses it up: the code of their
// authenticator, "totp", or one of their recovery codes, "recovery". TS8211 if
// it is wrong or was used.
func (s *Service) factor(ctx context.Context, u store.User, given string) (string, error) {
	given = typed(given)
	if len(given) != 6 {
		return "recovery", s.recover(ctx, u, given)
	}
	secret, err := s.open(u.ID, u.TOTP)
	if err != nil {
		return "", err
	}
	step, ok := totpStepOf(secret, given, s.now())
	if !ok {
		return "", code.New("TS8211", "", "")
	}
	err = s.store.Update(ctx, func(tx *store.Tx) error { return tx.UseTOTP(ctx, u.ID, step) })
	if errors.Is(err, store.ErrConflict) {
		return "", code.New("TS8211", "", "it was used")
	}
	return "totp", err
}

func (s *Service) recover(ctx context.Context, u store.User, given string) error {
	err := s.store.Update(ctx, func(tx *store.Tx) error {
		if err := tx.UseRecoveryCode(ctx, u.ID, hashSecret(given)); err != nil {
			return err
		}
		return tx.Audit(ctx, entry(u.Name, "user.recovery-code", u.Name, "one was used"))
	})
	return known(err, "TS8211", "", "")
}

// close seals the secret of a user's second factor, open opens it. Sealed, it
// is of use for that user alone.
func (s *Service) close(userID string, secret []byte) []byte {
	return s.seal.Seal(nil, nil, secret, []byte("totp "+userID))
}

func (s *Service) open(userID string, sealed []byte) ([]byte, error) {
	secret, err := s.seal.Open(nil, nil, sealed, []byte("totp "+userID))
	if err != nil {
		return nil, errors.New("the second factor of the user was sealed with another key than this server has")
	}
	return secret, nil
}

type totpBody struct {
	Sealed []byte `json:"sealed"`
}

// BeginTOTP makes a second factor, which holds from ConfirmTOTP on.
func (s *Service) BeginTOTP(ctx context.Context, who Caller) (api.TOTPBegun, error) {
	u, err := s.self(ctx, who)
	if err != nil {
		return api.TOTPBegun{}, err
	}
	if len(u.TOTP) > 0 {
		return api.TOTPBegun{}, code.New("TS8225", "", "there is one: remove it first")
	}
	secret := make([]byte, totpSecret)
	rand.Read(secret) //nolint:errcheck // never fails
	body, err := jsonText(totpBody{Sealed: s.close(u.ID, secret)})
	if err != nil {
		return api.TOTPBegun{}, err
	}
	out := api.TOTPBegun{Ceremony: newSecret(), Secret: base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(secret)}
	label := s.url.Hostname() + ":" + u.Name
	out.URI = (&url.URL{
		Scheme: "otpauth", Host: "totp", Path: "/" + label,
		RawQuery: "secret=" + out.Secret + "&issuer=" + url.QueryEscape(s.url.Hostname()) + "&algorithm=SHA1&digits=6&period=30",
	}).String()
	return out, s.beginCeremony(ctx, out.Ceremony, totpKind, u.ID, body, totpTime)
}

// ConfirmTOTP makes a second factor hold, with its first code, and gives the
// recovery codes.
func (s *Service) ConfirmTOTP(ctx context.Context, who Caller, in api.ConfirmTOTP) (api.RecoveryCodes, error) {
	u, err := s.self(ctx, who)
	if err != nil {
		return api.RecoveryCodes{}, err
	}
	var out api.RecoveryCodes
	var hashes [][]byte
	for range recoveryNum {
		c := recoveryCode()
		out.Codes = append(out.Codes, c)
		hashes = append(hashes, hashSecret(typed(c)))
	}
	err = s.store.Update(ctx, func(tx *store.Tx) error {
		if err := s.held(ctx, tx, who); err != nil {
			return err
		}
		c, err := tx.EndCeremony(ctx, ceremonyID(in.Ceremony), totpKind)
		if err != nil {
			return late(err)
		}
		var b totpBody
		if err := json.Unmarshal([]byte(c.Body), &b); err != nil || c.Person != u.ID {
			return code.New("TS8227", "", "")
		}
		secret, err := s.open(u.ID, b.Sealed)
		if err != nil {
			return err
		}
		step, ok := totpStepOf(secret, typed(in.Code), s.now())
		if !ok {
			return code.New("TS8211", "", "") // it was not ended: the next code may be right
		}
		if err := tx.SetTOTP(ctx, u.ID, b.Sealed, step); err != nil {
			return err
		}
		if err := tx.SetRecoveryCodes(ctx, u.ID, hashes); err != nil {
			return err
		}
		return tx.Audit(ctx, entry(who.Name, "user.totp", u.Name, "a second factor was added"))
	})
	if err != nil {
		return api.RecoveryCodes{}, err
	}
	return out, nil
}

// recoveryCode is 80 random bits in four groups of letters.
func recoveryCode() string {
	b := make([]byte, 10)
	rand.Read(b) //nolint:errcheck // never fails
	c := strings.ToLower(base32.StdEncoding.EncodeToString(b))
	return c[:4] + "-" + c[4:8] + "-" + c[8:12] + "-" + c[12:]
}

// RemoveTOTP takes the second factor of who asks away, with the recovery codes.
func (s *Service) RemoveTOTP(ctx context.Context, who Caller) error {
	u, err := s.self(ctx, who)
	if err != nil {
		return err
	}
	if len(u.TOTP) == 0 {
		return code.New("TS8225", "", "there is none")
	}
	return s.store.Update(ctx, func(tx *store.Tx) error {
		if err := withoutTOTP(ctx, tx, u.ID); err != nil {
			return err
		}
		return tx.Audit(ctx, entry(who.Name, "user.totp", u.Name, "the second factor was removed"))
	})
}

func withoutTOTP(ctx context.Context, tx *store.Tx, id string) error {
	if err := tx.SetTOTP(ctx, id, nil, 0); err != nil {
		return err
	}
	return tx.SetRecoveryCodes(ctx, id, nil)
}

// ResetFactors takes everything away by which a user proves who they are, ends
// their sessions and keys, and makes a link: for who lost it all, or whose
// account another one has.
func (s *Service) ResetFactors(ctx context.Context, who Caller, id string) (api.LinkMade, error) {
	var out api.LinkMade
	err := s.store.Update(ctx, func(tx *store.Tx) error {
		if err := tx.LockPeople(ctx); err != nil {
			return err
		}
		u, err := tx.User(ctx, id)
		if err != nil {
			return known(err, "TS8226", id, "")
		}
		if err := withoutTOTP(ctx, tx, id); err != nil {
			return err
		}
		if err := tx.SetPassword(ctx, id, ""); err != nil {
			return err
		}
		if _, err := tx.DeletePasskeys(ctx, id); err != nil {
			return err
		}
		if err := tx.DeleteIdentities(ctx, id); err != nil {
			return err
		}
		if _, err := tx.EndSessions(ctx, id, ""); err != nil {
			return err
		}
		if err := tx.UnlockUser(ctx, id); err != nil {
			return err
		}
		if err := s.revokeKeys(ctx, tx, id); err != nil {
			return err
		}
		if err := tx.Audit(ctx, entry(who.Name, "user.reset", u.Name, "password, second factor, passkeys, accounts elsewhere, sessions and keys were removed")); err != nil {
			return err
		}
		out, err = s.link(ctx, tx, who.Name, u, PurposeWelcome)
		return err
	})
	return out, err
}

// beginCeremony stores what was begun.
func (s *Service) beginCeremony(ctx context.Context, id, kind, person, body string, life time.Duration) error {
	err := s.store.Update(ctx, func(tx *store.Tx) error {
		return tx.BeginCeremony(ctx, store.Ceremony{
			ID: ceremonyID(id), Kind: kind, Person: person, Body: body, Expires: s.now().Add(life).UnixMilli(),
		})
	})
	if errors.Is(err, store.ErrLimit) {
		return code.New("TS8208", "", "of sign-ins that were begun and not ended")
	}
	return err
}

// ceremonyID is what is stored of a ceremony's id, which is a secret of whoever
// began it.
func ceremonyID(id string) string { return base64.RawURLEncoding.EncodeToString(hashSecret(id)) }

// late is the answer to what was not begun, or too long ago.
func late(err error) error {
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrExpired) {
		return code.New("TS8227", "", "")
	}
	return err
}
