// SPDX-License-Identifier: Apache-2.0

package servercli

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
)

func exists(parts ...string) bool {
	_, err := os.Lstat(filepath.Join(parts...))
	return err == nil
}

// diskProblem says what a full disk or one that can't be written to means.
func diskProblem(where string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return code.New("TS9103", where, "").With(err)
	case errors.Is(err, syscall.EROFS), errors.Is(err, os.ErrPermission):
		return code.New("TS7810", where, "").With(err)
	}
	return err
}

// lockDir keeps a second process from serving the same directory.
func lockDir(dir string) (release func(), err error) {
	path := filepath.Join(dir, "serve.lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, diskProblem(path, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, code.New("TS7812", dir, "")
		}
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}

// giveAway gives what root has made in a directory to the directory's owner: the
// user that the service runs as.
func giveAway(dir string) error {
	info, err := os.Stat(dir)
	if err != nil || os.Geteuid() != 0 {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Uid == 0 {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(st.Uid), int(st.Gid))
	})
}

// askPassphrase asks twice for a new passphrase, without showing it.
func (a *app) askPassphrase(ctx context.Context, what string) ([]byte, error) {
	var answers [2]string
	for i, prompt := range []string{"New passphrase of " + what + ": ", "Again: "} {
		var err error
		if answers[i], err = a.Ask(ctx, prompt); errors.Is(err, command.ErrNobodyToAsk) {
			return nil, command.Usage(program+" init", "there is no terminal to ask for "+what+" on: give --root-passphrase-file, or --no-root-passphrase")
		} else if err != nil {
			return nil, err
		}
	}
	switch {
	case answers[0] != answers[1]:
		return nil, command.Usage(program+" init", "the two passphrases differ")
	case len(answers[0]) < 8:
		return nil, command.Usage(program+" init", "the passphrase is shorter than 8 characters")
	}
	return []byte(answers[0]), nil
}
