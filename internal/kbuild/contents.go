// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/fix"
)

// contents are the files that a selection of fixes changes. What is made of
// one object is kept under the contents of those files alone that its compiler
// reads: the same object in another selection, whose other fixes it does not
// see, is then there already.
//
// A compiler that reads the files of an earlier run with the same contents
// goes the same way, and so reads no other file, unless a file that is new
// lies where it looks first: such a file has the name of one that it read.
// That is the reasoning of ccache's direct mode.
type contents struct {
	digests map[string]string // path -> SHA-256 of what the file is now, "deleted" if it is gone
	created map[string][]string
	extra   string // digest of the directories that are searched in addition
}

const deleted = "deleted"

func newContents(changes []fix.Change, extra string) *contents {
	k := &contents{digests: make(map[string]string), created: make(map[string][]string), extra: extra}
	for _, c := range changes {
		digest := deleted
		if !c.Deleted {
			sum := sha256.Sum256(c.New)
			digest = hex.EncodeToString(sum[:])
		}
		k.digests[c.Path] = digest
		if c.Created {
			k.created[path.Base(c.Path)] = append(k.created[path.Base(c.Path)], c.Path)
		}
	}
	return k
}

// matter lists the changed files that a compiler that reads these files sees,
// sorted.
func (k *contents) matter(reads []string) []string {
	seen := make(map[string]bool)
	for _, r := range reads {
		if _, ok := k.digests[r]; ok {
			seen[r] = true
		}
		for _, c := range k.created[path.Base(r)] {
			seen[c] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// first is the key that the files that the original's compiler read give, ""
// if none of them is changed: then the object is the original one. Which files
// these are is part of it, so that what is found later is beside the same ones.
func (k *contents) first(reads []string) string {
	changed := k.matter(reads)
	if len(changed) == 0 {
		return ""
	}
	h := sha256.New()
	fmt.Fprintf(h, "%q %q\n", k.extra, reads)
	for _, c := range changed {
		fmt.Fprintf(h, "%q %s\n", c, k.digests[c])
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}

// second is the key with the files that the compiler read beside those.
func (k *contents) second(first string, more []string) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n", first)
	for _, m := range more {
		fmt.Fprintf(h, "%q %s\n", m, k.digests[m]) // "" is the file of the pristine source
	}
	for _, c := range k.matter(more) {
		fmt.Fprintf(h, "%q %s\n", c, k.digests[c])
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}

// ways lists, for a first key, which files compilers read beside those of the
// original: one list for each way that they were found to go. It is usually
// one, of no file or of the header that a fix includes newly.
type ways [][]string

// maxWays bounds the list. What goes yet another way is compiled each time.
const maxWays = 64

func parseWays(b []byte) (ways, error) {
	var w ways
	if len(b) > maxCmdFile {
		return nil, fmt.Errorf("%d bytes long", len(b))
	}
	if err := json.Unmarshal(b, &w); err != nil {
		return nil, err
	}
	if len(w) > maxWays {
		return nil, fmt.Errorf("%d lists of files", len(w))
	}
	return w, nil
}

// with returns the list with one more way.
func (w ways) with(more []string) (ways, bool) {
	if slices.ContainsFunc(w, func(have []string) bool { return slices.Equal(have, more) }) || len(w) >= maxWays {
		return w, false
	}
	return append(slices.Clone(w), more), true
}

// beside lists the files of b that are not in a, both sorted.
func beside(a, b []string) []string {
	more := []string{}
	for _, f := range b {
		if _, ok := slices.BinarySearchFunc(a, f, strings.Compare); !ok {
			more = append(more, f)
		}
	}
	return more
}
