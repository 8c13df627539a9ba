// SPDX-License-Identifier: Apache-2.0

package livepatch

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// nameLimit is how long a name may be: MODULE_NAME_LEN less the terminator, on
// 64-bit kernels.
const nameLimit = 55

// NameOf makes the name of a live patch of fixes: what a person may call it,
// and a digest of the target, by its ID or name, of the version and of the
// diffs. Two different live patches of one machine so never share a name, which
// a kernel would refuse.
func NameOf(title, target string, version int, diffs ...[]byte) string {
	h := sha256.New()
	fmt.Fprintln(h, target, version)
	for _, d := range diffs {
		fmt.Fprintln(h, len(d))
		h.Write(d)
	}
	return name(title, h.Sum(nil))
}

// NameFor makes the name of a live patch of which a digest says what it holds.
func NameFor(title, target, holds string) string {
	sum := sha256.Sum256([]byte(target + "\n" + holds))
	return name(title, sum[:])
}

func name(title string, sum []byte) string {
	digest := hex.EncodeToString(sum)[:8]
	word := identifier(title)
	return "tsugi_" + strings.TrimRight(word[:min(len(word), nameLimit-len("tsugi__")-len(digest))], "_") + "_" + digest
}

// identifier makes of a title what may be in a module's name.
func identifier(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '_'
	}, s)
	if s = strings.Trim(s, "_"); s == "" {
		return "fix"
	}
	return s
}
