// SPDX-License-Identifier: Apache-2.0

package updater

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"github.com/tsugi-project/tsugi/internal/code"
)

// clockSlack is how far a clock may be from the server's before it is called
// wrong: far more than machines differ, far less than a timestamp's life.
const clockSlack = 10 * time.Minute

// clockBehind is how far behind a clock may be before it hides that metadata
// has expired: a timestamp's life.
const clockBehind = 24 * time.Hour

// checkClock finds a clock that is far behind. By such a clock nothing ever
// expires, and a frozen repository would go unnoticed. It is known from the
// server, or from this machine's own last refresh.
func (u *Updater) checkClock(k *kept) error {
	now := u.now().UTC()
	if server, ok := u.server(); ok {
		if server.Sub(now) > clockBehind {
			return wrongClock(now, "the server says "+server.UTC().Format(time.DateTime))
		}
		return nil
	}
	if k.Refreshed.Sub(now) > 2*clockBehind {
		return wrongClock(now, "it was later on "+k.Refreshed.UTC().Format(time.DateTime))
	}
	return nil
}

func wrongClock(now time.Time, other string) error {
	return code.New("TS7119", "", "it says "+now.Format(time.DateTime)+" UTC, "+other)
}

// problem says which attack, or which mistake, an error of go-tuf stands for.
func (u *Updater) problem(file string, t *trustedmetadata.TrustedMetadata, err error) error {
	switch {
	case errors.Is(err, &metadata.ErrExpiredMetadata{}):
		return u.expired(file, expiry(file, t))
	case errors.Is(err, &metadata.ErrBadVersionNumber{}):
		return code.New("TS7112", file, "").With(err)
	case errors.Is(err, &metadata.ErrUnsignedMetadata{}):
		return code.New("TS7111", file, "").With(err)
	case errors.Is(err, &metadata.ErrLengthOrHashMismatch{}):
		return code.New("TS7115", file, "").With(err)
	case errors.Is(err, &metadata.ErrRepository{}):
		// What is left of these: a snapshot that drops a role it had.
		return code.New("TS7112", file, "").With(err)
	}
	return code.New("TS7121", file, "").With(err)
}

// expiry finds when the file that go-tuf calls expired did so, if it can be
// known.
func expiry(file string, t *trustedmetadata.TrustedMetadata) time.Time {
	switch {
	case file == "timestamp.json" && t.Timestamp != nil:
		return t.Timestamp.Signed.Expires
	case file == "snapshot.json" && t.Snapshot != nil:
		return t.Snapshot.Signed.Expires
	}
	return time.Time{}
}

// expired tells metadata that is too old from a clock that is wrong.
func (u *Updater) expired(file string, at time.Time) error {
	now := u.now().UTC()
	if server, ok := u.server(); ok {
		if d := now.Sub(server); d.Abs() > clockSlack {
			return wrongClock(now, "the server says "+server.UTC().Format(time.DateTime))
		}
	}
	why := "this machine's clock says " + now.Format(time.DateTime) + " UTC"
	if !at.IsZero() {
		why = "on " + at.UTC().Format(time.DateTime) + ", and " + why
	}
	return code.New("TS7113", file, why)
}

// fetchProblem passes on what a source says; a source that has no words of its
// own could not be reached.
func (u *Updater) fetchProblem(name string, err error) error {
	if errors.Is(err, ErrNotFound) {
		return code.New("TS7115", name, "").With(absent{})
	}
	if code.Of(err) != "" || errors.Is(err, context.Canceled) {
		return err
	}
	return code.New("TS7120", name, "").With(err)
}

// absent is why a file that is signed for can't be had. Who reads a bundle that
// was made for some packages alone looks for it.
type absent struct{}

func (absent) Error() string        { return "it is not there" }
func (absent) Is(target error) bool { return target == ErrNotFound }

func malformed(file, why string) error { return code.New("TS7121", file, why) }

// survive turns a panic of the library into an error: entries that are null
// in JSON are nil pointers to it.
func survive(err *error) {
	if r := recover(); r != nil {
		*err = code.New("TS7121", "", fmt.Sprint(r))
	}
}
