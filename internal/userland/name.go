// SPDX-License-Identifier: Apache-2.0

package userland

import (
	"regexp"
	"strings"
)

// packageName is what a target's name says: "debian:PACKAGE=VERSION".
type packageName struct{ Package, Version string }

var (
	packageForm = regexp.MustCompile(`^[a-z0-9][a-z0-9.+-]+$`)            // Debian Policy 5.6.1
	versionForm = regexp.MustCompile(`^([0-9]+:)?[0-9][A-Za-z0-9.+~-]*$`) // Debian Policy 5.6.12
)

// parseName takes a name apart. Its parts become arguments of apt and names of
// files: nothing else than what they may hold.
func parseName(s string) (n packageName, ok bool) {
	rest, ok := strings.CutPrefix(s, "debian:")
	if !ok {
		return packageName{}, false
	}
	n.Package, n.Version, ok = strings.Cut(rest, "=")
	if !ok || !packageForm.MatchString(n.Package) || !versionForm.MatchString(n.Version) {
		return packageName{}, false
	}
	return n, true
}

// IsName tells the name of a package target from that of a kernel.
func IsName(s string) bool {
	_, ok := parseName(s)
	return ok
}
