// SPDX-License-Identifier: Apache-2.0

package api

// Grant is a role for the whole fleet or for some groups of machines.
type Grant struct {
	Role   string   `json:"role" enum:"viewer,operator,author,release-manager,admin"`
	Groups []string `json:"groups,omitempty" maxItems:"200"`
}

// User is a person who may sign in, as admins see them.
type User struct {
	ID            string  `json:"id"`
	Name          string  `json:"name"` // what they sign in with
	Display       string  `json:"display,omitempty"`
	Email         string  `json:"email,omitempty"`
	Grants        []Grant `json:"grants"`
	Created       int64   `json:"created"`
	CreatedBy     string  `json:"created_by,omitempty"`
	Disabled      int64   `json:"disabled,omitempty"`
	LockedUntil   int64   `json:"locked_until,omitempty"` // 0: nobody tried in vain too often
	LastSeen      int64   `json:"last_seen,omitempty"`
	Password      bool    `json:"password"`       // they have one
	TOTP          bool    `json:"totp"`           // a second factor is asked for beside it
	Passkeys      int     `json:"passkeys"`       // with GET of one user only
	RecoveryCodes int     `json:"recovery_codes"` // that are left, with GET of one user only
}

// NewUser asks for a user. They come in with a link.
type NewUser struct {
	Name    string  `json:"name" minLength:"1" maxLength:"63"`
	Display string  `json:"display,omitempty" maxLength:"200"`
	Email   string  `json:"email,omitempty" maxLength:"254"`
	Grants  []Grant `json:"grants" maxItems:"20"`
}

// UserMade is a new user with the link that they come in with.
type UserMade struct {
	User
	Link    string `json:"link"`
	Expires int64  `json:"expires"` // of the link
}

// UserChange changes what is decided about a user; nil leaves a field as it is.
type UserChange struct {
	Display  *string  `json:"display,omitempty" maxLength:"200"`
	Email    *string  `json:"email,omitempty" maxLength:"254"`
	Grants   *[]Grant `json:"grants,omitempty"`
	Disabled *bool    `json:"disabled,omitempty"`
}

// NewLink asks for a link: welcome sets a password, sign-in signs in once.
type NewLink struct {
	Purpose string `json:"purpose" enum:"welcome,sign-in"`
}

// LinkMade is a new link, which is told once.
type LinkMade struct {
	Link    string `json:"link"`
	Purpose string `json:"purpose"`
	Expires int64  `json:"expires"`
}

// LinkShown is what a link is for, told to who has it.
type LinkShown struct {
	Name     string `json:"name"` // of the user
	Purpose  string `json:"purpose"`
	Password bool   `json:"password"` // it sets one, which must be given
	TOTP     bool   `json:"totp"`     // the code of the second factor must be given
	Expires  int64  `json:"expires"`
}

// LookAtLink asks what a link is for.
type LookAtLink struct {
	Secret string `json:"secret" minLength:"1" maxLength:"200"`
}

// GoTo is where a browser is to go next.
type GoTo struct {
	URL string `json:"url"`
}

// RedeemLink uses a link up and signs in.
type RedeemLink struct {
	Secret   string `json:"secret" minLength:"1" maxLength:"200"`
	Password string `json:"password,omitempty" maxLength:"1024"`
	Code     string `json:"code,omitempty" maxLength:"40"`
}

// SignIn is a sign-in with a password.
type SignIn struct {
	Name     string `json:"name" minLength:"1" maxLength:"63"`
	Password string `json:"password" minLength:"1" maxLength:"1024"`
	Code     string `json:"code,omitempty" maxLength:"40"` // of the second factor, or a recovery code
}

// ConfirmIdentity proves again who somebody is.
type ConfirmIdentity struct {
	Password string `json:"password" minLength:"1" maxLength:"1024"`
	Code     string `json:"code,omitempty" maxLength:"40"`
}

// ChangePassword sets the password of who asks.
type ChangePassword struct {
	Password string `json:"password" minLength:"1" maxLength:"1024"`
}

// Account is who is signed in, and what the console keeps for them.
type Account struct {
	User
	Permissions []string        `json:"permissions"` // that any of their roles has
	Session     Session         `json:"session"`
	Fresh       bool            `json:"fresh"` // they proved a moment ago who they are
	Identities  []Identity      `json:"identities,omitempty"`
	Settings    AccountSettings `json:"settings"`
}

// AccountSettings are what people choose for themselves.
type AccountSettings struct {
	Language string `json:"language,omitempty" enum:",en,ja"`
	Theme    string `json:"theme,omitempty" enum:",auto,light,dark"`
}

// AccountChange changes one's own account; nil leaves a field as it is.
type AccountChange struct {
	Display  *string          `json:"display,omitempty" maxLength:"200"`
	Settings *AccountSettings `json:"settings,omitempty"`
}

// Identity is whom an OpenID provider knows a user as.
type Identity struct {
	Issuer  string `json:"issuer"`
	Subject string `json:"subject"`
	Created int64  `json:"created"`
}

// Session is a browser in which somebody is signed in.
type Session struct {
	ID       string `json:"id"`
	User     string `json:"user"`   // id
	Method   string `json:"method"` // password, password+totp, password+recovery, passkey, link, oidc:NAME
	Address  string `json:"address"`
	Agent    string `json:"agent,omitempty"`
	Created  int64  `json:"created"`
	LastUsed int64  `json:"last_used"`
	Expires  int64  `json:"expires"`
	Current  bool   `json:"current,omitempty"` // it is the one that asks
}

// Key is an API key as others see it.
type Key struct {
	ID       string   `json:"id"`
	Name     string   `json:"name"`
	User     string   `json:"user,omitempty"` // id; "": a program's
	Role     string   `json:"role,omitempty"` // of a program's: admin, reader, worker
	Scopes   []string `json:"scopes,omitempty"`
	Created  int64    `json:"created"`
	Expires  int64    `json:"expires,omitempty"`
	Revoked  int64    `json:"revoked,omitempty"`
	LastUsed int64    `json:"last_used,omitempty"`
}

// NewKey asks for an API key of who asks. It can do what they can, at every
// moment, and of that what its scopes hold.
type NewKey struct {
	Name    string   `json:"name" minLength:"1" maxLength:"36"`
	Scopes  []string `json:"scopes,omitempty" maxItems:"20"` // permissions; none: all that its owner has
	Expires int64    `json:"expires,omitempty"`              // 0: in 90 days
}

// KeyMade is a new API key with its secret, which is told once.
type KeyMade struct {
	Key
	Secret string `json:"secret"`
}

// TOTPBegun is a second factor that waits for its first code.
type TOTPBegun struct {
	Ceremony string `json:"ceremony"`
	Secret   string `json:"secret"` // base32, for typing
	URI      string `json:"uri"`    // otpauth://, for a QR code
}

// ConfirmTOTP is the first code of a second factor.
type ConfirmTOTP struct {
	Ceremony string `json:"ceremony" minLength:"1" maxLength:"100"`
	Code     string `json:"code" minLength:"6" maxLength:"40"`
}

// RecoveryCodes take the place of the second factor, each once. They are told
// once.
type RecoveryCodes struct {
	Codes []string `json:"codes"`
}

// PasskeyBegun is what a browser's navigator.credentials takes, as
// parseCreationOptionsFromJSON or parseRequestOptionsFromJSON read it.
type PasskeyBegun struct {
	Ceremony string `json:"ceremony"`
	Options  any    `json:"options"`
}

// FinishPasskey is what it gave, as toJSON writes it.
type FinishPasskey struct {
	Ceremony   string `json:"ceremony" minLength:"1" maxLength:"100"`
	Name       string `json:"name,omitempty" maxLength:"100"` // of a new one
	Credential any    `json:"credential"`
}

// Passkey is a passkey as its owner sees it.
type Passkey struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Created  int64  `json:"created"`
	LastUsed int64  `json:"last_used,omitempty"`
}

// SignInMethods are the ways in.
type SignInMethods struct {
	Passkeys  bool             `json:"passkeys"` // not where the server's address is an IP address
	Providers []SignInProvider `json:"providers"`
}

// SignInProvider is an OpenID provider.
type SignInProvider struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Approval is what a second person has to agree to.
type Approval struct {
	ID        string `json:"id"`
	Action    string `json:"action"`
	Object    string `json:"object"`
	Detail    string `json:"detail,omitempty"`
	Asked     int64  `json:"asked"`
	AskedBy   string `json:"asked_by"` // name
	Expires   int64  `json:"expires"`
	Decided   int64  `json:"decided,omitempty"`
	DecidedBy string `json:"decided_by,omitempty"`
	Verdict   string `json:"verdict,omitempty"` // given, refused
	Used      int64  `json:"used,omitempty"`
}

// AskApproval asks for another person's agreement to exactly one thing.
type AskApproval struct {
	Action  string   `json:"action" enum:"promote-stable,change-keys,fewer-approvals"`
	Object  string   `json:"object,omitempty" maxLength:"255"`          // live patch; of keys a tier, or root
	Tier    string   `json:"tier,omitempty" maxLength:"64"`             // of a promotion; "": the next one
	Digest  string   `json:"digest,omitempty" pattern:"^[0-9a-f]{64}$"` // of a new root: SHA-256 of the file
	Actions []string `json:"actions,omitempty" maxItems:"20"`           // of fewer-approvals: those that shall still need one
	Why     string   `json:"why,omitempty" maxLength:"500"`             // for who decides
}

// ApprovalActions are the actions that need a second person.
type ApprovalActions struct {
	Actions []string `json:"actions" maxItems:"20"`
	All     []string `json:"all,omitempty" readOnly:"true"` // that could
}
