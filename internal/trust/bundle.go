// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/tsugi-project/tsugi/internal/code"
)

// BundleAbout is the member of a bundle that says what it is.
const BundleAbout = "bundle.json"

// BundleInfo says what a bundle is. It is not signed and decides nothing: what
// a machine takes from a bundle is verified as if it came over the network.
type BundleInfo struct {
	Format  int    `json:"format"`
	Tier    string `json:"tier"`
	Made    int64  `json:"made"`    // milliseconds since 1970
	Expires int64  `json:"expires"` // of its signatures
	// Policies are those of the recipients that do not have the default one, by
	// recipientName.
	Policies map[string]string `json:"policies,omitempty"`
}

// Policy is the policy of a recipient; "" is the default one.
func (i *BundleInfo) Policy(recipient string) string { return i.Policies[recipientName(recipient)] }

// SetPolicy says which policy a recipient has.
func (i *BundleInfo) SetPolicy(recipient, policy string) {
	if policy = PolicyWord(policy); policy == "" {
		return
	}
	if i.Policies == nil {
		i.Policies = map[string]string{}
	}
	i.Policies[recipientName(recipient)] = policy
}

func recipientName(recipient string) string {
	s := sha256.Sum256([]byte(recipient))
	return hex.EncodeToString(s[:])
}

// BundleKeys is the member that holds the keys for a recipient: a JSON object
// of wrapped keys by LivePatch.ID.
func BundleKeys(recipient string) string { return "keys/" + recipientName(recipient) + ".json" }

// Bundle is an offline bundle: a tar with the TUF repository below metadata/
// and targets/, and wrapped keys. It is a source for package updater.
type Bundle struct {
	Info  BundleInfo
	files map[string][]byte
}

// IsBundle guesses from its start whether a file is a bundle, for commands
// that take live patches too.
func IsBundle(b []byte) bool {
	h, err := tar.NewReader(bytes.NewReader(b)).Next()
	return err == nil && h.Name == BundleAbout
}

// ReadBundle reads a bundle. Nothing in it is trusted yet.
func ReadBundle(b []byte) (*Bundle, error) {
	out := &Bundle{files: map[string][]byte{}}
	t := tar.NewReader(bytes.NewReader(b))
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, badBundle("not readable").With(err)
		}
		if h.Typeflag != tar.TypeReg || h.Size < 0 || h.Size > int64(len(b)) || !fs.ValidPath(h.Name) {
			return nil, badBundle("a member that is not a plain file")
		}
		if _, twice := out.files[h.Name]; twice {
			return nil, badBundle("%s is in it twice", h.Name)
		}
		body, err := io.ReadAll(io.LimitReader(t, h.Size))
		if err != nil {
			return nil, badBundle("not readable").With(err)
		}
		out.files[h.Name] = body
	}
	if err := json.Unmarshal(out.files[BundleAbout], &out.Info); err != nil {
		return nil, badBundle("it has no %s that can be read", BundleAbout).With(err)
	}
	if out.Info.Format != 1 || !TierName(out.Info.Tier) {
		return nil, badBundle("format %d, tier %q", out.Info.Format, out.Info.Tier)
	}
	return out, nil
}

// Fetch makes a bundle a source of package updater; it has what it has.
func (b *Bundle) Fetch(_ context.Context, path string, max int64) ([]byte, error) {
	body, ok := b.files[path]
	if !ok {
		return nil, fs.ErrNotExist
	}
	if int64(len(body)) > max {
		return nil, code.New("TS7114", path, fmt.Sprintf("more than %d", max))
	}
	return body, nil
}

// Keys are the wrapped keys for a recipient, by LivePatch.ID.
func (b *Bundle) Keys(recipient string) (map[string]string, error) {
	body, ok := b.files[BundleKeys(recipient)]
	if !ok {
		return nil, code.New("TS7109", "", "")
	}
	var keys map[string]string
	if err := json.Unmarshal(body, &keys); err != nil {
		return nil, badBundle("its keys are not readable").With(err)
	}
	return keys, nil
}

func badBundle(format string, args ...any) *code.Problem {
	return code.New("TS7132", "", fmt.Sprintf(format, args...))
}
