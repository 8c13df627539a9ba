// SPDX-License-Identifier: Apache-2.0

package people

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Argon are the costs of argon2id (RFC 9106).
type Argon struct {
	Memory  uint32 // KiB
	Time    uint32
	Threads uint8
}

// DefaultArgon is what OWASP's cheat sheet on password storage asks for at
// least.
func DefaultArgon() Argon { return Argon{Memory: 19 * 1024, Time: 2, Threads: 1} }

const (
	saltSize = 16
	hashSize = 32

	minPassword = 12 // characters
	maxPassword = 256
	// Bounds of what a stored hash may ask for.
	maxMemory = 1 << 20 // KiB
	maxTime   = 64
)

// hash makes the PHC string of a password.
func (a Argon) hash(password string) string {
	salt := make([]byte, saltSize)
	rand.Read(salt) //nolint:errcheck // never fails
	return a.string(salt, a.key(password, salt, hashSize))
}

func (a Argon) key(password string, salt []byte, size uint32) []byte {
	return argon2.IDKey([]byte(normal(password)), salt, a.Time, a.Memory, a.Threads, size)
}

func (a Argon) string(salt, key []byte) string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, a.Memory, a.Time, a.Threads, b64.EncodeToString(salt), b64.EncodeToString(key))
}

// normal is the same text for the same characters, however they were typed
// (RFC 8265, OpaqueString).
func normal(password string) string { return norm.NFC.String(password) }

var errHash = errors.New("not an argon2id hash")

// parseHash reads a PHC string: only what hash writes, and within bounds.
func parseHash(s string) (a Argon, salt, key []byte, err error) {
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return Argon{}, nil, nil, errHash
	}
	costs := strings.Split(parts[3], ",")
	if len(costs) != 3 {
		return Argon{}, nil, nil, errHash
	}
	numbers := make([]uint64, 3)
	for i, name := range []string{"m=", "t=", "p="} {
		text, ok := strings.CutPrefix(costs[i], name)
		n, err := strconv.ParseUint(text, 10, 32)
		if !ok || err != nil || n == 0 || strconv.FormatUint(n, 10) != text {
			return Argon{}, nil, nil, errHash
		}
		numbers[i] = n
	}
	if numbers[0] > maxMemory || numbers[1] > maxTime || numbers[2] > 255 {
		return Argon{}, nil, nil, errHash
	}
	a = Argon{Memory: uint32(numbers[0]), Time: uint32(numbers[1]), Threads: uint8(numbers[2])}
	b64 := base64.RawStdEncoding.Strict()
	salt, err = b64.DecodeString(parts[4])
	if err != nil || len(salt) < 8 || len(salt) > 64 {
		return Argon{}, nil, nil, errHash
	}
	key, err = b64.DecodeString(parts[5])
	if err != nil || len(key) < 16 || len(key) > 64 || a.string(salt, key) != s {
		return Argon{}, nil, nil, errHash
	}
	return a, salt, key, nil
}

// matches reports whether a password is that of a stored hash, and whether the
// hash should be made anew because the costs are others now.
func (s *Service) matches(ctx context.Context, password, stored string) (ok, old bool, err error) {
	a, salt, key, err := parseHash(stored)
	if err != nil {
		return false, false, fmt.Errorf("stored password: %w", err)
	}
	release, err := s.turn(ctx)
	if err != nil {
		return false, false, err
	}
	defer release()
	got := a.key(password, salt, uint32(len(key)))
	return subtle.ConstantTimeCompare(got, key) == 1, a != s.limits.Argon, nil
}

func (s *Service) newHash(ctx context.Context, password string) (string, error) {
	release, err := s.turn(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	return s.limits.Argon.hash(password), nil
}

// turn waits until there is memory for another hash.
func (s *Service) turn(ctx context.Context) (func(), error) {
	select {
	case s.hashing <- struct{}{}:
		return func() { <-s.hashing }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// checkPassword refuses what is guessed first (TS8213). Length is what counts;
// rules about kinds of characters only make people write them down.
func checkPassword(password, name string) error {
	bad := func(why string) error { return code.New("TS8213", "", why) }
	if !utf8.ValidString(password) {
		return bad("it is no text")
	}
	p := normal(password)
	n := utf8.RuneCountInString(p)
	different := map[rune]bool{}
	for _, r := range strings.ToLower(p) {
		different[r] = true
	}
	switch {
	case n < minPassword:
		return bad(fmt.Sprintf("it has %d characters, and %d are the least", n, minPassword))
	case n > maxPassword:
		return bad(fmt.Sprintf("it has more than %d characters", maxPassword))
	case len(different) < 5:
		return bad("it is the same few characters over and over")
	case len(name) > 3 && strings.Contains(strings.ToLower(p), name):
		return bad("it holds the name of the account")
	case inRow(p):
		return bad("it is a row of characters that follow each other")
	}
	for _, word := range []string{"password", "passwort", "tsugi", "qwerty", "letmein", "パスワード"} {
		if rest := strings.ReplaceAll(strings.ToLower(p), word, ""); utf8.RuneCountInString(rest) < 6 {
			return bad("little is left of it without the word " + word)
		}
	}
	return nil
}

// inRow finds "123456789012", "abcdefghijkl" and the like.
func inRow(p string) bool {
	steps, last := 0, rune(-10)
	for _, r := range p {
		if d := r - last; d == 1 || d == -1 || d == 0 || last == '9' && r == '0' {
			steps++
		}
		last = r
	}
	return steps >= utf8.RuneCountInString(p)-2
}
