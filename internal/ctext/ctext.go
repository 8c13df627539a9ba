// SPDX-License-Identifier: Apache-2.0

// Package ctext knows what a word is in the text of C and C++. It does not parse:
// who asks has lines of a diff, or a declaration without its comments.
package ctext

// IsWord tells whether a byte may stand in an identifier or a number.
func IsWord(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// Words lists the identifiers and keywords of a text in their order, each as
// often as it is there. Those in literals are among them: assembly names symbols
// there.
func Words(s string) []string {
	var out []string
	for i := 0; i < len(s); {
		if !IsWord(s[i]) {
			i++
			continue
		}
		j := i
		for j < len(s) && IsWord(s[j]) {
			j++
		}
		if s[i] < '0' || s[i] > '9' {
			out = append(out, s[i:j])
		}
		i = j
	}
	return out
}
