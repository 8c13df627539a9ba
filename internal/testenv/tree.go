// SPDX-License-Identifier: Apache-2.0

package testenv

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Tree writes archives into a fresh directory and returns it: a small root of a
// system for tests that read /proc and /sys. An archive is text in which lines
// of the form "-- NAME --" begin the files, as in testscript. A member whose name
// ends in .hex holds bytes in hexadecimal, one whose name ends in / is an empty
// directory, and one whose name ends in @ is a symbolic link to its text.
// Later archives add to earlier ones and replace what they name; a member
// whose name ends in ! is removed.
func Tree(t testing.TB, archives ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, a := range archives {
		name, text := "", ""
		for l := range strings.Lines(a + "-- end --\n") {
			next, found := strings.CutPrefix(l, "-- ")
			next, marked := strings.CutSuffix(strings.TrimSuffix(next, "\n"), " --")
			if !found || !marked {
				text += l
				continue
			}
			if err := plant(root, name, text); err != nil {
				t.Fatal(err)
			}
			name, text = next, ""
		}
	}
	return root
}

// TreeFile is Tree for archives in files.
func TreeFile(t testing.TB, file string, more ...string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return Tree(t, append([]string{string(b)}, more...)...)
}

// plant makes one member; what comes before the first has no name.
func plant(root, name, text string) error {
	if name == "" {
		return nil
	}
	path := filepath.Join(root, strings.TrimRight(name, "/@!"))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	switch {
	case strings.HasSuffix(name, "!"):
		return os.RemoveAll(path)
	case strings.HasSuffix(name, "/"):
		return os.MkdirAll(path, 0o755)
	case strings.HasSuffix(name, "@"):
		return os.Symlink(strings.TrimSpace(text), path)
	}
	if plain, ok := strings.CutSuffix(path, ".hex"); ok {
		b, err := hex.DecodeString(strings.Join(strings.Fields(text), ""))
		if err != nil {
			return err
		}
		return os.WriteFile(plain, b, 0o644)
	}
	return os.WriteFile(path, []byte(text), 0o644)
}
