// SPDX-License-Identifier: Apache-2.0

package updater_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/trust"
	"github.com/tsugi-project/tsugi/internal/trust/repo"
)

// mutate changes a file in one of the ways in which files break, or are broken.
func mutate(r *rand.Rand, b []byte) []byte {
	out := bytes.Clone(b)
	at := r.IntN(len(out))
	switch r.IntN(10) {
	case 0, 1, 2: // a bit
		out[at] ^= 1 << r.IntN(8)
	case 3: // a byte
		out[at] = byte(r.Uint32())
	case 4: // some are missing
		out = slices.Delete(out, at, min(len(out), at+1+r.IntN(16)))
	case 5: // some are there twice
		out = slices.Insert(out, at, out[at:min(len(out), at+1+r.IntN(64))]...)
	case 6: // the end is missing
		out = out[:at]
	case 7: // something follows
		out = append(out, out[at:]...)
	case 8: // a value is another
		words := []string{"null", "{}", "[]", "-1", "0", "99999999999999999999", `""`, "true", "1e400", `{"a":null}`, "9223372036854775807"}
		if i := bytes.IndexByte(out[at:], ':'); i >= 0 {
			start := at + i + 1
			end := start
			for end < len(out) && !bytes.ContainsRune([]byte(",}"), rune(out[end])) {
				end++
			}
			out = slices.Replace(out, start, end, []byte(words[r.IntN(len(words))])...)
		}
	case 9: // two parts change places
		n := min(1+r.IntN(32), len(out)-at)
		if to := r.IntN(len(out)); to+n <= at || at+n <= to && to+n <= len(out) {
			part := bytes.Clone(out[at : at+n])
			copy(out[at:at+n], out[to:to+n])
			copy(out[to:to+n], part)
		}
	}
	return out
}

// TestMutatedRepositoriesAreRefused gives a machine thousands of repositories
// in which one file is damaged. It refuses each with a problem that has a
// code, keeps what it had, and what it does accept says the same as before.
func TestMutatedRepositoriesAreRefused(t *testing.T) {
	each := mutations // of seven files
	if testing.Short() {
		each /= 5
	}
	w := newWorld(t)
	w.ok("edge")
	was := w.disk()
	// The machine is one step behind in everything: it has to look at all.
	w.rotate("timestamp")
	qt.Assert(t, qt.IsNil(w.repo.AddTier(repo.Tier{Name: "beta", Keys: []trust.PublicKey{w.keys["tier-edge"].Public()}})))
	w.next()
	want := string(w.makeIndex("edge", w.number))
	index := trust.IndexPath("edge", buildID, "")
	target, _ := w.repo.Target("edge", index)
	patch := trust.PatchPath("edge", w.offer.ID)
	cipher, _ := w.repo.Target("edge", patch)
	refused, same := map[code.Code]int{}, 0
	for _, name := range []string{
		"metadata/2.root.json", "metadata/timestamp.json", w.name("snapshot"), w.name("targets"), w.name("tier-edge"),
		"targets/" + target.FilePath(index), "targets/" + cipher.FilePath(patch),
	} {
		good := w.files[name]
		r := rand.New(rand.NewPCG(7, uint64(len(name))))
		for i := range each {
			bad := mutate(r, good)
			if bytes.Equal(bad, good) {
				continue
			}
			w.files[name] = bad
			u := w.newMachine(w.dir)
			x, err := u.Index(t.Context(), "edge", buildID, "")
			if err == nil && x != nil {
				got, err2 := x.Bytes()
				qt.Assert(t, qt.IsNil(err2))
				qt.Assert(t, qt.Equals(string(got), want))
				_, err = u.Patch(t.Context(), "edge", w.offer)
			}
			if err == nil {
				qt.Assert(t, qt.IsFalse(strings.HasPrefix(name, "targets/")), qt.Commentf("%s %d was taken: %q", name, i, bad))
				same++ // what is not signed, such as the case of a signature's digits
			} else {
				qt.Assert(t, qt.Matches(string(code.Of(err)), "TS71..|TS7101"), qt.Commentf("%s %d: %v", name, i, err))
				refused[code.Of(err)]++
			}
			w.restore(was)
		}
		w.files[name] = good
		w.restore(was)
	}
	total := same
	for _, n := range refused {
		total += n
	}
	t.Logf("%d mutated: %v refused, %d said the same", total, refused, same)
	qt.Assert(t, qt.IsTrue(same*20 < total))
	qt.Assert(t, qt.Equals(w.ok("edge").Sequence, w.number))
}

// TestMutatedEnvelopesAreRefused does the same to what comes after TUF: the
// wrapped key, the encrypted live patch, the provenance and the index as they
// would be if the signing keys themselves were in wrong hands.
func TestMutatedEnvelopesAreRefused(t *testing.T) {
	each := 5 * mutations
	if testing.Short() {
		each /= 5
	}
	plain := bytes.Repeat([]byte("live patch"), 30)
	cipher, key, err := trust.Seal(plain)
	qt.Assert(t, qt.IsNil(err))
	id, err := trust.NewIdentity()
	qt.Assert(t, qt.IsNil(err))
	wrapped, err := trust.Wrap(key, id.Recipient())
	qt.Assert(t, qt.IsNil(err))
	digest := strings.Repeat("ab", 32)
	statement, err := trust.ProvenanceStatement(&trust.Provenance{BuildDefinition: trust.BuildDefinition{BuildType: trust.BuildType}}, "x-v1", digest)
	qt.Assert(t, qt.IsNil(err))
	signer := newKey(t)
	envelope, err := trust.SignStatement(statement, signer)
	qt.Assert(t, qt.IsNil(err))
	w := newWorld(t)
	index := w.makeIndex("edge", 1)

	for name, c := range map[string]struct {
		good []byte
		read func([]byte) ([]byte, error) // what it says
	}{
		"wrapped key": {[]byte(wrapped), func(b []byte) ([]byte, error) {
			k, err := trust.Unwrap(string(b), id)
			if err != nil {
				return nil, err
			}
			return trust.Open(cipher, k, 1000)
		}},
		"encrypted live patch": {cipher, func(b []byte) ([]byte, error) { return trust.Open(b, key, 1000) }},
		"provenance": {envelope, func(b []byte) ([]byte, error) {
			p, err := trust.VerifyProvenance(b, []trust.PublicKey{signer.Public()}, digest)
			if err != nil {
				return nil, err
			}
			return trust.ProvenanceStatement(p, "x-v1", digest)
		}},
		"index": {index, func(b []byte) ([]byte, error) {
			x, err := trust.ParseIndex(b)
			if err != nil {
				return nil, err
			}
			return nil, x.Check()
		}},
		"list of packages": {w.makePackages("edge", 3), func(b []byte) ([]byte, error) {
			p, err := trust.ParsePackages(b)
			if err != nil {
				return nil, err
			}
			return nil, p.Check()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			want, err := c.read(c.good)
			qt.Assert(t, qt.IsNil(err))
			r := rand.New(rand.NewPCG(9, uint64(len(name))))
			for i := range each {
				bad := mutate(r, c.good)
				if bytes.Equal(bad, c.good) {
					continue
				}
				got, err := c.read(bad)
				if err == nil {
					qt.Assert(t, qt.DeepEquals(got, want), qt.Commentf("%d: %q", i, bad))
					continue
				}
				qt.Assert(t, qt.IsNil(got))
				qt.Assert(t, qt.Matches(string(code.Of(err)), "TS71.."), qt.Commentf("%d: %v", i, err))
			}
		})
	}
}
