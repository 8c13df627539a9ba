// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
)

// The headers of a signed webhook.
const (
	HeaderID        = "webhook-id"
	HeaderTimestamp = "webhook-timestamp"
	HeaderSignature = "webhook-signature"
)

const (
	secretPrefix = "whsec_"
	scheme       = "v1" // HMAC-SHA256
	// Tolerance is how far apart the clocks of sender and receiver may be.
	Tolerance = 5 * time.Minute
)

// Secret signs webhooks: whsec_ and 24 to 64 bytes in base64.
type Secret string

// NewSecret makes one.
func NewSecret() Secret {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand
	return Secret(secretPrefix + base64.StdEncoding.EncodeToString(b[:]))
}

// LogValue keeps secrets from logs.
func (Secret) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// String keeps them from messages; string(s) is the secret itself.
func (Secret) String() string { return "[redacted]" }

// GoString keeps them from %#v.
func (s Secret) GoString() string { return s.String() }

func (s Secret) key() ([]byte, error) {
	text, ok := strings.CutPrefix(string(s), secretPrefix)
	k, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || len(k) < 24 || len(k) > 64 {
		return nil, errors.New("a webhook's secret is whsec_ and 24 to 64 bytes in base64")
	}
	return k, nil
}

// mac signs id, time and body together, so that none can be moved to another.
func mac(key []byte, id string, at int64, body []byte) []byte {
	h := hmac.New(sha256.New, key)
	fmt.Fprintf(h, "%s.%d.", id, at)
	h.Write(body)
	return h.Sum(nil)
}

// Sign returns the headers of one attempt to deliver a body. The id stays the
// same from attempt to attempt, the time does not: receivers refuse old ones.
func Sign(secrets []Secret, id string, at time.Time, body []byte) (map[string]string, error) {
	if id == "" || strings.Contains(id, ".") {
		return nil, fmt.Errorf("webhook id %q: empty, or with a dot", id)
	}
	var signatures []string
	for _, s := range secrets {
		key, err := s.key()
		if err != nil {
			return nil, err
		}
		signatures = append(signatures, scheme+","+base64.StdEncoding.EncodeToString(mac(key, id, at.Unix(), body)))
	}
	if len(signatures) == 0 {
		return nil, errors.New("no secret to sign a webhook with")
	}
	return map[string]string{
		HeaderID: id, HeaderTimestamp: strconv.FormatInt(at.Unix(), 10), HeaderSignature: strings.Join(signatures, " "),
	}, nil
}

// ErrRepeated is in the error for what came before and is genuine. Whoever gets
// it answers as if it were new, and does nothing: the sender, who did not hear
// the answer to the first, would go on otherwise.
var ErrRepeated = errors.New("its id came before")

// Verify is what a receiver does: the body is the sender's, and no older than
// Tolerance. seen remembers ids, so that what is recorded can't be played again
// within that time. header gives a header's value. Errors: TS8313, with
// ErrRepeated where that is all.
func Verify(secret Secret, header func(string) string, body []byte, now time.Time, seen *Seen) error {
	bad := func(why string) error { return code.New("TS8313", "", why) }
	key, err := secret.key()
	if err != nil {
		return bad(err.Error())
	}
	id, stamp := header(HeaderID), header(HeaderTimestamp)
	at, err := strconv.ParseInt(stamp, 10, 64)
	if id == "" || len(id) > 200 || err != nil || strconv.FormatInt(at, 10) != stamp {
		return bad("no id, or no time")
	}
	if d := now.Sub(time.Unix(at, 0)); d > Tolerance || d < -Tolerance {
		return bad("its time is not now")
	}
	want := mac(key, id, at, body)
	for _, s := range strings.Fields(header(HeaderSignature)) {
		text, ok := strings.CutPrefix(s, scheme+",")
		got, err := base64.StdEncoding.DecodeString(text)
		if ok && err == nil && hmac.Equal(got, want) {
			if !seen.first(id, now) {
				return code.New("TS8313", "", "").With(ErrRepeated)
			}
			return nil
		}
	}
	return bad("no signature of it is right")
}

// Seen remembers ids for as long as their time is good. The zero value is
// ready; it is not for several goroutines at once.
type Seen struct {
	until map[string]time.Time
	swept time.Time
}

// first tells whether an id was not seen before, and remembers it.
func (s *Seen) first(id string, now time.Time) bool {
	if s.until == nil {
		s.until = map[string]time.Time{}
	}
	if now.Sub(s.swept) > Tolerance {
		for k, t := range s.until {
			if now.After(t) {
				delete(s.until, k)
			}
		}
		s.swept = now
	}
	if t, ok := s.until[id]; ok && !now.After(t) {
		return false
	}
	// A time that is ahead of ours by Tolerance is good for twice as long.
	s.until[id] = now.Add(2 * Tolerance)
	return true
}
