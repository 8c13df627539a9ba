// SPDX-License-Identifier: Apache-2.0

package testenv

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// Tree writes a txtar archive into a fresh directory and returns it: a small
// root of a system for tests that read /proc and /sys. A member whose name
// ends in .hex holds bytes in hexadecimal, one whose name ends in / is an empty
// directory, and one whose name ends in @ is a symbolic link to its text.
// Later archives add to earlier ones and replace what they name; a member
// whose name ends in ! is removed.
func Tree(t testing.TB, archives ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, a := range archives {
		for _, f := range txtar.Parse([]byte(a)).Files {
			if err := plant(root, f); err != nil {
				t.Fatal(err)
			}
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

func plant(root string, f txtar.File) error {
	path := filepath.Join(root, strings.TrimRight(f.Name, "/@!"))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	switch {
	case strings.HasSuffix(f.Name, "!"):
		return os.RemoveAll(path)
	case strings.HasSuffix(f.Name, "/"):
		return os.MkdirAll(path, 0o755)
	case strings.HasSuffix(f.Name, "@"):
		return os.Symlink(strings.TrimSpace(string(f.Data)), path)
	}
	if plain, ok := strings.CutSuffix(path, ".hex"); ok {
		b, err := hex.DecodeString(strings.Join(strings.Fields(string(f.Data)), ""))
		if err != nil {
			return err
		}
		return os.WriteFile(plain, b, 0o644)
	}
	return os.WriteFile(path, f.Data, 0o644)
}
