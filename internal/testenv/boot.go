// SPDX-License-Identifier: Apache-2.0

package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// Static returns a function that builds the program in directory source (of
// the package under test) once, without cgo, so that it can be process 1 of a
// machine. It lies in *dir, which Main makes and removes.
func Static(dir *string, source string) func() (path string, err error) {
	return sync.OnceValues(func() (string, error) {
		bin := filepath.Join(*dir, "init")
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", bin, source)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%s: %w", out, err)
		}
		return bin, nil
	})
}

// Main runs a package's tests around a temporary directory of all of them.
func Main(m *testing.M, dir *string) {
	var err error
	if *dir, err = os.MkdirTemp("", "tsugi-test-*"); err != nil {
		panic(err)
	}
	status := m.Run()
	os.RemoveAll(*dir)
	os.Exit(status)
}
