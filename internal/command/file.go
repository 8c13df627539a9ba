// SPDX-License-Identifier: Apache-2.0

package command

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/google/renameio/v2"

	"github.com/tsugi-project/tsugi/internal/code"
)

// ReadFile reads a file that a person named; "-" is standard input.
func (a *App) ReadFile(path string) ([]byte, error) {
	var b []byte
	var err error
	if path == "-" {
		b, err = io.ReadAll(a.Streams.Stdin)
	} else {
		b, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, FileProblem("TS1902", path, err)
	}
	return b, nil
}

// CheckOutput finds out before minutes of work that a result could not be
// written where it is wanted. Empty paths are nobody's wish.
func CheckOutput(paths ...string) error {
	for _, p := range paths {
		if p == "" {
			continue
		}
		if info, err := os.Stat(filepath.Dir(p)); err != nil {
			return FileProblem("TS1903", p, err)
		} else if !info.IsDir() {
			return code.New("TS1903", p, filepath.Dir(p)+" is no directory")
		}
	}
	return nil
}

// WriteFile writes a result whole or not at all.
func WriteFile(path string, b []byte) error {
	err := renameio.WriteFile(path, b, 0o644)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return code.New("TS9103", path, "").With(err)
	}
	return FileProblem("TS1903", path, err)
}

// FileProblem is a problem with a file that a person named. The path is told
// once: the error of the os package repeats it.
func FileProblem(c code.Code, path string, err error) *code.Problem {
	why := err
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		why = pe.Err
	}
	return code.New(c, path, why.Error())
}
