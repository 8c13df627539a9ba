// SPDX-License-Identifier: Apache-2.0

package people

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/store"
)

const (
	passkeyNew     = "passkey-new"
	passkeySignIn  = "passkey-sign-in"
	passkeyTime    = 5 * time.Minute
	maxPasskeys    = 20
	maxPasskeyName = 100
)

// newWebAuthn is the relying party that a server is: its host. There is none
// for an IP address, nor without TLS but on this very computer: browsers refuse
// passkeys there.
func newWebAuthn(u *url.URL) (*webauthn.WebAuthn, error) {
	host := u.Hostname()
	if _, err := netip.ParseAddr(host); err == nil {
		return nil, nil
	}
	if u.Scheme != "https" && host != "localhost" && !strings.HasSuffix(host, ".localhost") {
		return nil, nil
	}
	return webauthn.New(&webauthn.Config{
		RPID: host, RPDisplayName: "Tsugi (" + host + ")", RPOrigins: []string{u.Scheme + "://" + u.Host},
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			// Found without a name being typed, and proof of the person, not of
			// the device alone: it stands for both factors.
			ResidentKey: protocol.ResidentKeyRequirementRequired, RequireResidentKey: protocol.ResidentKeyRequired(),
			UserVerification: protocol.VerificationRequired,
		},
	})
}

// holder is a user as the library wants one.
type holder struct {
	user store.User
	keys []webauthn.Credential
}

func (h *holder) WebAuthnID() []byte                         { return []byte(h.user.ID) }
func (h *holder) WebAuthnName() string                       { return h.user.Name }
func (h *holder) WebAuthnCredentials() []webauthn.Credential { return h.keys }

func (h *holder) WebAuthnDisplayName() string {
	if h.user.Display != "" {
		return h.user.Display
	}
	return h.user.Name
}

func (s *Service) holder(ctx context.Context, u store.User) (*holder, error) {
	rows, err := s.store.Passkeys(ctx, u.ID)
	if err != nil {
		return nil, err
	}
	h := &holder{user: u, keys: make([]webauthn.Credential, len(rows))}
	for i, row := range rows {
		if err := json.Unmarshal([]byte(row.Body), &h.keys[i]); err != nil {
			return nil, errors.Join(errors.New("passkey "+row.ID), err)
		}
	}
	return h, nil
}

func (s *Service) party() (*webauthn.WebAuthn, error) {
	if s.passkeys == nil {
		return nil, code.New("TS8216", s.url.Host, "there are none for a server without a name, or without TLS")
	}
	return s.passkeys, nil
}

// begun stores what a ceremony needs at its end.
func (s *Service) begun(ctx context.Context, kind, person string, data *webauthn.SessionData, options any) (api.PasskeyBegun, error) {
	body, err := jsonText(data)
	if err != nil {
		return api.PasskeyBegun{}, err
	}
	out := api.PasskeyBegun{Ceremony: newSecret(), Options: options}
	return out, s.beginCeremony(ctx, out.Ceremony, kind, person, body, passkeyTime)
}

func (s *Service) ended(ctx context.Context, ceremony, kind string) (webauthn.SessionData, string, error) {
	var data webauthn.SessionData
	var c store.Ceremony
	err := s.store.Update(ctx, func(tx *store.Tx) (err error) {
		c, err = tx.EndCeremony(ctx, ceremonyID(ceremony), kind)
		return err
	})
	if err != nil {
		return data, "", late(err)
	}
	return data, c.Person, json.Unmarshal([]byte(c.Body), &data)
}

// refused says why a browser's answer was not accepted.
func refused(err error) error {
	p := code.New("TS8216", "", "")
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		p.Why = e.Details
		if e.DevInfo != "" {
			p.Why += ": " + e.DevInfo
		}
		return p
	}
	return p.With(err)
}

// BeginPasskey begins to make a passkey of who asks.
func (s *Service) BeginPasskey(ctx context.Context, who Caller) (api.PasskeyBegun, error) {
	party, err := s.party()
	if err != nil {
		return api.PasskeyBegun{}, err
	}
	u, err := s.self(ctx, who)
	if err != nil {
		return api.PasskeyBegun{}, err
	}
	h, err := s.holder(ctx, u)
	if err != nil {
		return api.PasskeyBegun{}, err
	}
	if len(h.keys) >= maxPasskeys {
		return api.PasskeyBegun{}, code.New("TS8216", "", "you have as many as one can have")
	}
	var have []protocol.CredentialDescriptor
	for _, k := range h.keys {
		have = append(have, k.Descriptor())
	}
	options, data, err := party.BeginRegistration(h, webauthn.WithExclusions(have))
	if err != nil {
		return api.PasskeyBegun{}, err
	}
	return s.begun(ctx, passkeyNew, u.ID, data, options.Response)
}

// FinishPasskey stores the passkey that a browser made.
func (s *Service) FinishPasskey(ctx context.Context, who Caller, in api.FinishPasskey) (api.Passkey, error) {
	party, err := s.party()
	if err != nil {
		return api.Passkey{}, err
	}
	u, err := s.self(ctx, who)
	if err != nil {
		return api.Passkey{}, err
	}
	name := strings.TrimSpace(in.Name)
	if name == "" {
		name = "passkey of " + s.now().UTC().Format(time.DateOnly)
	}
	if _, err := checkDisplay(name); err != nil || len(name) > maxPasskeyName {
		return api.Passkey{}, code.New("TS8216", "", "a name has up to 100 characters, without control characters")
	}
	data, person, err := s.ended(ctx, in.Ceremony, passkeyNew)
	if err != nil {
		return api.Passkey{}, err
	}
	if person != u.ID {
		return api.Passkey{}, code.New("TS8227", "", "")
	}
	raw, err := json.Marshal(in.Credential)
	if err != nil {
		return api.Passkey{}, err
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(raw)
	if err != nil {
		return api.Passkey{}, refused(err)
	}
	h, err := s.holder(ctx, u)
	if err != nil {
		return api.Passkey{}, err
	}
	made, err := party.CreateCredential(h, data, parsed)
	if err != nil {
		return api.Passkey{}, refused(err)
	}
	body, err := jsonText(made)
	if err != nil {
		return api.Passkey{}, err
	}
	row := store.Passkey{ID: passkeyID(made.ID), Person: u.ID, Name: name, Body: body, Created: s.now().UnixMilli()}
	err = s.store.Update(ctx, func(tx *store.Tx) error {
		if err := s.held(ctx, tx, who); err != nil {
			return err
		}
		err := tx.AddPasskey(ctx, row)
		if errors.Is(err, store.ErrConflict) {
			return code.New("TS8216", "", "the server has it already")
		}
		if err != nil {
			return err
		}
		return tx.Audit(ctx, entry(who.Name, "passkey.create", u.Name, name))
	})
	return passkey(row), err
}

func passkeyID(id []byte) string { return base64.RawURLEncoding.EncodeToString(id) }

func passkey(row store.Passkey) api.Passkey {
	return api.Passkey{ID: row.ID, Name: row.Name, Created: row.Created, LastUsed: row.LastUsed}
}

// Passkeys lists the passkeys of who asks, the oldest first.
func (s *Service) Passkeys(ctx context.Context, who Caller) ([]api.Passkey, error) {
	u, err := s.self(ctx, who)
	if err != nil {
		return nil, err
	}
	rows, err := s.store.Passkeys(ctx, u.ID)
	all := make([]api.Passkey, len(rows))
	for i, row := range rows {
		all[i] = passkey(row)
	}
	return all, err
}

// RemovePasskey removes a passkey of who asks.
func (s *Service) RemovePasskey(ctx context.Context, who Caller, id string) error {
	u, err := s.self(ctx, who)
	if err != nil {
		return err
	}
	return s.store.Update(ctx, func(tx *store.Tx) error {
		if err := tx.DeletePasskey(ctx, u.ID, id); err != nil {
			return err
		}
		return tx.Audit(ctx, entry(who.Name, "passkey.remove", u.Name, id))
	})
}

// BeginPasskeySignIn begins a sign-in without a name: the passkey brings it.
func (s *Service) BeginPasskeySignIn(ctx context.Context) (api.PasskeyBegun, error) {
	party, err := s.party()
	if err != nil {
		return api.PasskeyBegun{}, err
	}
	options, data, err := party.BeginDiscoverableLogin(webauthn.WithUserVerification(protocol.VerificationRequired))
	if err != nil {
		return api.PasskeyBegun{}, err
	}
	return s.begun(ctx, passkeySignIn, "", data, options.Response)
}

// FinishPasskeySignIn signs in with what the browser gave. It asks for no other
// factor: the passkey asked for the person already.
func (s *Service) FinishPasskeySignIn(ctx context.Context, in api.FinishPasskey, from From) (SignedIn, error) {
	u, more, err := s.assertion(ctx, in)
	if err != nil {
		return SignedIn{}, err
	}
	if u.Disabled != 0 {
		return SignedIn{}, code.New("TS8209", u.Name, "")
	}
	return s.begin(ctx, u, "passkey", from, more)
}

// ConfirmByPasskey is Confirm with a passkey, which BeginPasskeySignIn began.
func (s *Service) ConfirmByPasskey(ctx context.Context, who Caller, in api.FinishPasskey) error {
	self, err := s.self(ctx, who)
	if err != nil {
		return err
	}
	u, more, err := s.assertion(ctx, in)
	if err != nil {
		return err
	}
	if u.ID != self.ID {
		return code.New("TS8216", "", "it is another person's")
	}
	return s.store.Update(ctx, func(tx *store.Tx) error {
		if err := more(tx); err != nil {
			return err
		}
		return tx.ProveSession(ctx, who.Session)
	})
}

// assertion checks what a browser gave and says whose passkey it is. more
// stores that it was used.
func (s *Service) assertion(ctx context.Context, in api.FinishPasskey) (u store.User, more func(*store.Tx) error, err error) {
	party, err := s.party()
	if err != nil {
		return u, nil, err
	}
	data, _, err := s.ended(ctx, in.Ceremony, passkeySignIn)
	if err != nil {
		return u, nil, err
	}
	raw, err := json.Marshal(in.Credential)
	if err != nil {
		return u, nil, err
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(raw)
	if err != nil {
		return u, nil, refused(err)
	}
	var failed error // of the database: it is not the browser's fault
	_, used, err := party.ValidatePasskeyLogin(func(_, handle []byte) (webauthn.User, error) {
		found, err := s.store.User(ctx, string(handle))
		if err != nil {
			if !errors.Is(err, store.ErrNotFound) {
				failed = err
			}
			return nil, errors.New("this server does not know it")
		}
		h, err := s.holder(ctx, found)
		if err != nil {
			failed = err
			return nil, err
		}
		u = found
		return h, nil
	}, data, parsed)
	switch {
	case failed != nil:
		return u, nil, failed
	case err != nil:
		return u, nil, refused(err)
	case used.Authenticator.CloneWarning:
		// Its counter went back: two of them are about.
		err := s.store.Audit(ctx, entry("server", "passkey.clone", u.Name, passkeyID(used.ID)))
		return u, nil, errors.Join(code.New("TS8216", "", "there seems to be a copy of it: remove it and make another"), err)
	}
	body, err := jsonText(used)
	if err != nil {
		return u, nil, err
	}
	row := store.Passkey{ID: passkeyID(used.ID), Person: u.ID, Body: body}
	return u, func(tx *store.Tx) error {
		return known(tx.UsePasskey(ctx, row), "TS8216", "", "it was removed")
	}, nil
}
